"""Reconstruction losses: how far a decoded signal is from the original, differentiably.

To add one: a class in a file of this folder, and its name here.
"""

from tokcli.contracts import Loss
from tokcli.losses.elementwise import L1, Mse
from tokcli.losses.lpips import LpipsLoss
from tokcli.losses.spectral import Mel, MultiResolutionStft
from tokcli.losses.whisper import WhisperLoss
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
