"""Adversaries: discriminators that learn to tell reconstructions from originals, and the games they play.

To add one: a class in a file of this folder, and its name here.
"""

from tokcli.contracts import Discriminator
from tokcli.discriminators.multi_period import MultiPeriodDiscriminator
from tokcli.discriminators.multi_scale_stft import MultiScaleStftDiscriminator
from tokcli.discriminators.patchgan import PatchDiscriminator
from tokcli.registry import Registry

DISCRIMINATORS: Registry[Discriminator] = Registry(
    "discriminator",
    {
        "patchgan": PatchDiscriminator,
        "multi-scale-stft": MultiScaleStftDiscriminator,
        "multi-period": MultiPeriodDiscriminator,
    },
    Discriminator,
)
