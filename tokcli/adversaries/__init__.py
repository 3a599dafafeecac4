"""Adversaries: discriminators that learn to tell reconstructions from originals, and the games they play.

To add one: a class in a file of this folder, and its name here.
"""

from tokcli.adversaries.base import Discriminator
from tokcli.adversaries.multi_period import MultiPeriodDiscriminator
from tokcli.adversaries.multi_scale_stft import MultiScaleStftDiscriminator
from tokcli.adversaries.patchgan import PatchDiscriminator
from tokcli.registry import Registry

ADVERSARIES: Registry[Discriminator] = Registry(
    "discriminator",
    {
        "patchgan": PatchDiscriminator,
        "multi-scale-stft": MultiScaleStftDiscriminator,
        "multi-period": MultiPeriodDiscriminator,
    },
)
