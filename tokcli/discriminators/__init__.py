"""Discriminators: networks that learn to tell reconstructions from originals, and what they and the tokenizer minimise.

To add one:
1. a class in a file of this folder that inherits from `tokcli.contracts.Discriminator`; its constructor's arguments are
   what a recipe can write, with their ranges as types of `tokcli.schema`;
2. `modality` of what it judges;
3. `discriminate`: signals to logits, one tensor for each scale, and to the features that its inner layers see;
4. its name in the table below, and an example of it in tests/discriminators/test_contract.py.
"""

from tokcli.contracts import Discriminator
from tokcli.discriminators.audio import (
    MultiBandStftDiscriminator,
    MultiPeriodDiscriminator,
    MultiScaleStftDiscriminator,
)
from tokcli.discriminators.patchgan import PatchDiscriminator
from tokcli.registry import Registry

DISCRIMINATORS: Registry[Discriminator] = Registry(
    "discriminator",
    {
        "patchgan": PatchDiscriminator,
        "multi-scale-stft": MultiScaleStftDiscriminator,
        "multi-period": MultiPeriodDiscriminator,
        "multi-band-stft": MultiBandStftDiscriminator,
    },
    Discriminator,
)
