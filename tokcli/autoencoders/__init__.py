"""Autoencoders: signals to latents and back. One network, one file.

To add one:
1. a class in a file of this folder that inherits from `tokcli.contracts.Autoencoder`; its constructor's arguments are
   what a recipe can write, with their ranges as types of `tokcli.schema`, and it gives the base class its stride;
2. `modality` and `channels` of its signals;
3. `encode` and `decode`; latents are channel-last; `last_layer` where an adversary's gradient can be balanced;
4. its name in the table below, and an example of it in tests/autoencoders/test_contract.py.
"""

from tokcli.autoencoders.spectral import SpectralAutoencoder
from tokcli.autoencoders.vqgan import VQGANAutoencoder
from tokcli.autoencoders.waveform import WaveformAutoencoder
from tokcli.contracts import Autoencoder
from tokcli.registry import Registry

AUTOENCODERS: Registry[Autoencoder] = Registry(
    "autoencoder",
    {"vqgan": VQGANAutoencoder, "spectral": SpectralAutoencoder, "waveform": WaveformAutoencoder},
    Autoencoder,
)
