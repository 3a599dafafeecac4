"""Short-time Fourier analysis and synthesis at one frame per position, exact both ways.

A frame reaches over its position by the same number of samples on both sides. The frames of a signal, tapered by the
window once on the way in and once on the way out, add up to the signal times the sum of squared windows, by which the
synthesis divides (Griffin & Lim 1984, eq. 6).
"""

import torch
from torch import Tensor, nn
from torch.nn import functional


class Frames(nn.Module):
    """Signals of whole hops to one Hann-tapered frame per hop, and back by overlap and add.

    hop: samples per position. frame: samples per frame, a multiple of the hop, at least two of them.
    reach: positions on each side of its own from which a frame takes samples.

    Raises ValueError for a frame that does not fit the hop.
    """

    def __init__(self, hop: int, frame: int) -> None:
        super().__init__()
        if hop < 1:
            raise ValueError(f"hop must be at least 1, got {hop}")
        if frame % hop or frame < 2 * hop or (frame - hop) % 2:
            raise ValueError(
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
        """frames: (batch, positions, frame) -> their sum, each at its place, without the margins."""
        pieces = frames.unflatten(-1, (-1, self.hop))
        overlap = pieces.shape[2]
        late = (functional.pad(pieces[:, :, index], (0, 0, index, overlap - 1 - index)) for index in range(overlap))
        added = sum(late).flatten(1)
        return added[:, self.margin : added.shape[1] - self.margin]
