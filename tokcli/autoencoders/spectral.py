"""An audio autoencoder that works at the token rate throughout: spectra in, spectra out, one frame per position.

    signal -> short-time spectra -> blocks -> P↓ -> latents
    latents -> P↑ -> blocks -> log magnitude and phase -> inverse Fourier transform, overlap and add -> signal

The waveform is never touched by a network, which makes it several times cheaper than strided convolutions for the same
token rate. The way back is that of Vocos (Siuzdak 2023, arXiv 2306.00814); the blocks are ConvNeXt's in one dimension
(Liu 2022, arXiv 2201.03545).
"""

import functools
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from tokcli.contracts import Autoencoder, ModalityName
from tokcli.errors import ArgumentError
from tokcli.schema import Count

QUIET = 1e-3
"""Added to magnitudes before their logarithm: about the 16-bit noise of a frame, so that silence is one value."""

LOUDEST = 8.0
"""Bound of the log magnitude that a decoder gives: far above any signal, far below where float32 overflows."""


class Frames(nn.Module):
    """Signals of whole hops to one Hann-tapered frame per hop, and back by overlap and add.

    A frame reaches over its position by the same number of samples on both sides. The frames of a signal, tapered by
    the window once on the way in and once on the way out, add up to the signal times the sum of squared windows, by
    which the synthesis divides (Griffin & Lim 1984, eq. 6).

    Args:
        hop: samples per position.
        frame: samples per frame, a multiple of the hop, at least two of them.

    Attributes:
        reach: positions on each side of its own from which a frame takes samples.

    Raises:
        ArgumentError: for a frame that does not fit the hop.
    """

    window: Tensor

    def __init__(self, hop: int, frame: int) -> None:
        super().__init__()
        if frame % hop or frame < 2 * hop or (frame - hop) % 2:
            raise ArgumentError(
                f"frame must be a multiple of the hop, at least two hops, and longer than the hop by an even number of "
                f"samples, got {frame} samples with a hop of {hop}"
            )
        self.hop, self.frame = hop, frame
        self.margin = (frame - hop) // 2
        self.reach = -(-self.margin // hop)
        window = torch.hann_window(frame, dtype=torch.float64).float()
        self.register_buffer("window", window, persistent=False)

    @property
    def bins(self) -> int:
        """Frequencies of a frame's spectrum."""
        return self.frame // 2 + 1

    def analyse(self, signal: Tensor) -> Tensor:
        """signal: (batch, samples), whole hops -> spectra: (batch, positions, bins) complex64; silence beyond ends."""
        with torch.autocast(signal.device.type, enabled=False):
            padded = functional.pad(signal.float(), (self.margin, self.margin))
            return torch.fft.rfft(padded.unfold(-1, self.frame, self.hop) * self.window)

    def synthesise(self, spectra: Tensor) -> Tensor:
        """spectra: (batch, positions, bins) complex64 -> signal: (batch, positions · hop) float32."""
        frames = torch.fft.irfft(spectra, n=self.frame) * self.window
        envelope = self.window.square().expand(1, spectra.shape[1], -1)
        return self._overlap_add(frames) / self._overlap_add(envelope)

    def _overlap_add(self, frames: Tensor) -> Tensor:
        """frames: (batch, positions, frame) -> their sum, each at its position, without the margins."""
        pieces = frames.unflatten(-1, (-1, self.hop))
        overlap = pieces.shape[2]
        late = (functional.pad(pieces[:, :, index], (0, 0, index, overlap - 1 - index)) for index in range(overlap))
        added = functools.reduce(torch.add, late).flatten(1)
        return added[:, self.margin : added.shape[1] - self.margin]


class Block(nn.Module):
    """A residual ConvNeXt block over time: depthwise convolution, LayerNorm, and two linear layers per position.

    Args:
        width: channels.
        kernel: positions that the convolution sees, odd.
        expansion: how many times wider it is between its linear layers.
        scale: where the learnt factor of each channel of the branch begins; 1 / blocks keeps a deep network near its
            input.
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


def build_blocks(count: int, width: int, kernel: int, expansion: int) -> nn.Sequential:
    """`count` blocks and a last norm."""
    parts = [Block(width, kernel, expansion, 1 / count) for _ in range(count)]
    return nn.Sequential(*parts, nn.LayerNorm(width))


class SpectralAutoencoder(Autoencoder):
    """Mono audio to latents and back, at one position per hop.

    Nothing bounds the reconstruction to [-1, 1]; whoever writes or evaluates it clamps.

    Args:
        latent_dim: channels that `encode` gives: the code dimension d, or 2·d where the quantizer reads mean and
            variance.
        width: channels of the network.
        blocks: of the encoder and of the decoder each.
        kernel: positions that a block's convolution sees, odd.
        expansion: how many times wider a block is between its linear layers.
        sample_rate: in Hz.
        hop: samples per position; the papers' 96 at 16 kHz make 166.67 positions a second.
        frame: samples per spectrum, a multiple of the hop.
        decoder_dim: channels that `decode` reads; None: latent_dim.
        window: positions computed at a time; longer signals are coded window by window, each with its whole context.

    Raises:
        ArgumentError: for a kernel without a middle, or a frame that does not fit the hop.
    """

    modality: ClassVar[ModalityName] = "audio"
    channels: ClassVar[int] = 1

    def __init__(
        self,
        latent_dim: Count,
        width: Count = 192,
        blocks: Count = 7,
        kernel: Count = 7,
        expansion: Count = 3,
        sample_rate: Count = 16_000,
        hop: Count = 96,
        frame: Count = 384,
        decoder_dim: Count | None = None,
        window: Count = 2000,
    ) -> None:
        super().__init__(hop, latent_dim, decoder_dim, sample_rate, window)
        if kernel % 2 == 0:
            raise ArgumentError(f"kernel must be odd, so that it has a middle, got {kernel}")
        self.frames = Frames(hop, frame)
        self.context = self.frames.reach + blocks * (kernel // 2)

        self.embedding = nn.Linear(3 * self.frames.bins, width)
        self.encoder = build_blocks(blocks, width, kernel, expansion)
        self.down_projection = nn.Linear(width, latent_dim)
        self.up_projection = nn.Linear(self.decoder_dim, width)
        self.decoder = build_blocks(blocks, width, kernel, expansion)
        self.head = nn.Linear(width, 2 * self.frames.bins)

    @property
    def last_layer(self) -> nn.Parameter:
        """The weight that gives the spectra, where an adversary's gradient is balanced against the others."""
        return self.get_parameter("head.weight")

    def encode(self, signal: Tensor) -> Tensor:
        """signal: (batch, 1, samples) in [-1, 1] -> latents: (batch, positions, latent_dim).

        Raises:
            ValueError: where the samples are not a multiple of the hop.
        """
        if signal.shape[-1] % self.stride:
            raise ValueError(
                f"{signal.shape[-1]} samples do not divide into positions of {self.stride} samples; "
                f"pad the signal to a multiple of the hop, {self.stride}"
            )
        spectra = self.frames.analyse(signal.squeeze(1))
        return self.down_projection(self.encoder(self.embedding(spectral_features(spectra))))

    def decode(self, latents: Tensor) -> Tensor:
        """latents: (batch, positions, decoder_dim) -> signal: (batch, 1, positions · hop)."""
        magnitudes, phases = self.head(self.decoder(self.up_projection(latents))).float().chunk(2, dim=-1)
        spectra = torch.polar(magnitudes.clamp(max=LOUDEST).exp(), phases)
        return self.frames.synthesise(spectra).unsqueeze(1)


def spectral_features(spectra: Tensor) -> Tensor:
    """spectra: (batch, positions, bins) complex -> (batch, positions, 3 · bins).

    Log magnitudes, and the spectra with their magnitudes compressed, so that phase counts in quiet frames as well.
    """
    magnitudes = spectra.abs() + QUIET
    compressed = spectra * magnitudes.pow(-0.7)
    return torch.cat([magnitudes.log() / 2, compressed.real, compressed.imag], dim=-1)
