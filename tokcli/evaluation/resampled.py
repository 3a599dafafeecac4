"""A codec at another sample rate than its own: resampled on the way in and on the way out, as its users would."""

from typing import Any

import torch
from torch import Tensor

from tokcli.contracts import Candidate, Codec, ModalityName, RoundTrip
from tokcli.data.audio.resampling import QUALITY, resample
from tokcli.windows import fit


class Resampled(Candidate):
    """Evaluated at a sample rate that others share with it.

    Args:
        codec: of audio.
        sample_rate: that signals have, in Hz.
    """

    def __init__(self, codec: Codec, sample_rate: int) -> None:
        assert codec.sample_rate is not None, "audio has a sample rate"
        self.codec = codec
        self._own: int = codec.sample_rate
        self._rate = sample_rate

    @property
    def modality(self) -> ModalityName:
        """What the signals are."""
        return self.codec.modality

    @property
    def sample_rate(self) -> int:
        """Of the signals, in Hz."""
        return self._rate

    @property
    def codebook_size(self) -> int:
        """The values that a token can take."""
        return self.codec.codebook_size

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return self.codec.device

    def round_trip(self, signals: Tensor) -> RoundTrip:
        """To the codec's rate, through the codec, and back, each signal at its own length."""
        trip = self.codec.round_trip(change_rate(signals, self._rate, self._own))
        returned = fit(change_rate(trip.reconstruction, self._own, self._rate), signals.shape[2:])
        return RoundTrip(signals, returned, trip.tokens, trip.codebook_size, self._rate)

    def embed(self, tokens: Tensor) -> Tensor | None:
        """As the codec does."""
        return self.codec.embed(tokens)

    def protocol(self) -> dict[str, Any]:
        """For the record."""
        return {
            "sample_rate": self._rate,
            "codec_sample_rate": self._own,
            "resampling": f"soxr {QUALITY}, to the codec's rate and back",
        }


def change_rate(signals: Tensor, rate: int, target: int) -> Tensor:
    """signals: (batch, channels, samples) at `rate` Hz -> the same at `target` Hz."""
    rows = signals.detach().cpu().float().flatten(0, 1).numpy()
    changed = [torch.cat([torch.from_numpy(piece) for piece in resample([row], rate, target)]) for row in rows]
    return torch.stack(changed).view(*signals.shape[:2], -1).to(signals.device)
