"""Autoencoders: signals to latents and back. One network, one file."""

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
