"""Reconstruction losses: how far a decoded signal is from the original, differentiably.

To add one:
1. a class in a file of this folder that inherits from `tokcli.contracts.Loss`; its constructor's arguments are what a
   recipe can write, with their ranges as types of `tokcli.schema`, `weight` among them;
2. `modality` where it suits images or audio alone, and `sample_rate` where it is made for one;
3. `forward(reconstruction, reference)`, in float32 whatever comes in;
4. its name in the table below, and an example of it in tests/losses/test_contract.py.
"""

from tokcli.contracts import Loss
from tokcli.losses.elementwise import L1, Mse
from tokcli.losses.perceptual import LpipsLoss, WhisperLoss
from tokcli.losses.spectral import Mel, MultiResolutionStft
from tokcli.registry import Registry

LOSSES: Registry[Loss] = Registry(
    "loss",
    {
        "l1": L1,
        "mse": Mse,
        "lpips": LpipsLoss,
        "multi-resolution-stft": MultiResolutionStft,
        "mel": Mel,
        "whisper": WhisperLoss,
    },
    Loss,
)
