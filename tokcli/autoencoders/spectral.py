"""An audio autoencoder that works at the token rate throughout: spectra in, spectra out, one frame per position.

    signal -> short-time spectra -> blocks -> P↓ -> latents
    latents -> P↑ -> blocks -> log magnitude and phase -> inverse Fourier transform, overlap and add -> signal

The waveform is never touched by a network, which makes it several times cheaper than strided convolutions for the same
token rate. The way back is that of Vocos (Siuzdak 2023, arXiv 2306.00814); the blocks are ConvNeXt's in one dimension
(Liu 2022, arXiv 2201.03545).
"""

import torch
from torch import Tensor, nn

from tokcli.autoencoders.blocks import check_positive
from tokcli.autoencoders.frames import Frames
from tokcli.contracts import Autoencoder

QUIET = 1e-3
"""Added to magnitudes before their logarithm: about the 16-bit noise of a frame, so that silence is one value."""

LOUDEST = 8.0
"""Bound of the log magnitude that a decoder gives: far above any signal, far below where float32 overflows."""


class Block(nn.Module):
    """A residual ConvNeXt block over time: depthwise convolution, LayerNorm, and two linear layers per position.

    scale: where the learnt factor of each channel of the branch begins; 1 / blocks keeps a deep stack near its input.
    """

    def __init__(self, width: int, kernel: int, expansion: int, scale: float) -> None:
        super().__init__()
        # Two-dimensional, because the layout of positions by channels is then a memory format that CPUs are fast in.
        self.convolution = nn.Conv2d(width, width, (1, kernel), padding=(0, kernel // 2), groups=width)
        self.norm = nn.LayerNorm(width)
        self.widen = nn.Linear(width, expansion * width)
        self.narrow = nn.Linear(expansion * width, width)
        self.scale = nn.Parameter(torch.full((width,), scale))

    def forward(self, features: Tensor) -> Tensor:
        """features: (batch, positions, width), both ways."""
        mixed = self.convolution(features.transpose(1, 2).unsqueeze(2)).squeeze(2).transpose(1, 2)
        return features + self.scale * self.narrow(nn.functional.gelu(self.widen(self.norm(mixed))))


def stack(blocks: int, width: int, kernel: int, expansion: int) -> nn.Sequential:
    """`blocks` blocks and a last norm."""
    parts = [Block(width, kernel, expansion, 1 / blocks) for _ in range(blocks)]
    return nn.Sequential(*parts, nn.LayerNorm(width))


class SpectralAutoencoder(Autoencoder):
    """Mono sound to latents and back, at one position per hop.

    latent_dim: channels that `encode` gives: the code dimension d, or 2·d where the quantizer reads mean and variance.
    width: channels of the network. blocks: of the encoder and of the decoder each. kernel: positions that a block's
    convolution sees, odd. expansion: how many times wider a block is between its linear layers.
    sample_rate: in Hz. hop: samples per position; the papers' 96 at 16 kHz make 166.67 positions a second.
    frame: samples per spectrum, a multiple of the hop.
    decoder_dim: channels that `decode` reads; None: latent_dim.
    window: positions computed at a time; longer signals are coded window by window, each with its whole context.

    Nothing bounds the reconstruction to [-1, 1]; whoever writes or judges it clamps.
    Raises ValueError for an argument that does not fit.
    """

    modality = "audio"
    channels = 1

    def __init__(
        self,
        latent_dim: int,
        width: int = 192,
        blocks: int = 7,
        kernel: int = 7,
        expansion: int = 3,
        sample_rate: int = 16_000,
        hop: int = 96,
        frame: int = 384,
        decoder_dim: int | None = None,
        window: int = 2000,
    ) -> None:
        super().__init__()
        decoder_dim = latent_dim if decoder_dim is None else decoder_dim
        check_positive(latent_dim=latent_dim, width=width, blocks=blocks, kernel=kernel, expansion=expansion)
        check_positive(sample_rate=sample_rate, decoder_dim=decoder_dim, window=window)
        if kernel % 2 == 0:
            raise ValueError(f"kernel must be odd, so that it has a middle, got {kernel}")
        self.frames = Frames(hop, frame)
        self.sample_rate = sample_rate
        self.stride = hop
        self.latent_dim = latent_dim
        self.decoder_dim = decoder_dim
        self.window = window
        self.context = self.frames.reach + blocks * (kernel // 2)

        self.embedding = nn.Linear(3 * self.frames.bins, width)
        self.encoder = stack(blocks, width, kernel, expansion)
        self.down_projection = nn.Linear(width, latent_dim)
        self.up_projection = nn.Linear(decoder_dim, width)
        self.decoder = stack(blocks, width, kernel, expansion)
        self.head = nn.Linear(width, 2 * self.frames.bins)

    @property
    def last_layer(self) -> nn.Parameter:
        """The weight that gives the spectra, where an adversary's gradient is balanced against the others."""
        return self.head.weight

    def encode(self, signal: Tensor) -> Tensor:
        """signal: (batch, 1, samples) in [-1, 1] -> latents: (batch, positions, latent_dim).

        Raises ValueError where the samples are not a multiple of the hop.
        """
        if signal.shape[-1] % self.stride:
            raise ValueError(
                f"{signal.shape[-1]} samples do not divide into positions of {self.stride} samples; "
                f"pad the signal to a multiple of the hop, {self.stride}"
            )
        spectra = self.frames.analyse(signal.squeeze(1))
        return self.down_projection(self.encoder(self.embedding(features_of(spectra))))

    def decode(self, latents: Tensor) -> Tensor:
        """latents: (batch, positions, decoder_dim) -> signal: (batch, 1, positions · hop)."""
        magnitudes, phases = self.head(self.decoder(self.up_projection(latents))).float().chunk(2, dim=-1)
        spectra = torch.polar(magnitudes.clamp(max=LOUDEST).exp(), phases)
        return self.frames.synthesise(spectra).unsqueeze(1)


def features_of(spectra: Tensor) -> Tensor:
    """spectra: (batch, positions, bins) complex -> (batch, positions, 3 · bins): log magnitudes, and the spectra with
    their magnitudes compressed, so that phase is heard in quiet frames as well."""
    magnitudes = spectra.abs() + QUIET
    compressed = spectra * magnitudes.pow(-0.7)
    return torch.cat([magnitudes.log() / 2, compressed.real, compressed.imag], dim=-1)
