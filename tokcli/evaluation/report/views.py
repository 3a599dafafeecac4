"""How signals and tokens of a modality are seen and heard on a page: as data addresses, so that it needs no files."""

import base64
import io
from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy
import soundfile
import torch
from PIL import Image
from torch import Tensor

from tokcli.contracts import ModalityName
from tokcli.data.audio.spectrograms import decibels, to_colours
from tokcli.data.image.decoding import to_picture

LONGEST_SIDE = 640
"""Pixels of a picture on the page; larger ones are shown smaller."""

SECONDS = 6
"""Of a sound on the page, from its beginning."""


class View(ABC):
    """What a page does with signals of one modality. limits: what of an item is shown, in words."""

    limits: str
    wide: bool

    @abstractmethod
    def pictures(self, reference: Tensor, reconstructions: Sequence[Tensor], sample_rate: int | None) -> list[str]:
        """Data addresses of comparable pictures: the reference's, then one for each reconstruction."""

    @abstractmethod
    def sounds(self, signals: Sequence[Tensor], sample_rate: int | None) -> list[str]:
        """Data addresses of what can be heard of each signal; empty for what is silent by nature."""

    @abstractmethod
    def shown_part(self, grid: Tensor, samples: int, sample_rate: int | None) -> Tensor:
        """The positions of `grid` (*positions, width) that the picture shows: (rows, columns, width)."""


class PictureView(View):
    """Pictures are shown as they are."""

    limits = f"Pictures are stored without loss; those over {LONGEST_SIDE} pixels are shown smaller."
    wide = False

    def pictures(self, reference: Tensor, reconstructions: Sequence[Tensor], sample_rate: int | None) -> list[str]:
        """The 8-bit pictures."""
        shown = [to_picture(signal) for signal in (reference, *reconstructions)]
        for picture in shown:
            picture.thumbnail((LONGEST_SIDE, LONGEST_SIDE), Image.Resampling.LANCZOS)
        return [picture_address(picture) for picture in shown]

    def sounds(self, signals: Sequence[Tensor], sample_rate: int | None) -> list[str]:
        """None."""
        return []

    def shown_part(self, grid: Tensor, samples: int, sample_rate: int | None) -> Tensor:
        """All of it, (rows, columns, width)."""
        return grid


class SoundView(View):
    """Sounds are played, and shown as spectrograms on one scale of loudness."""

    limits = f"Of each sound the first {SECONDS} seconds are kept, with 16 bits and without loss."
    wide = True

    def pictures(self, reference: Tensor, reconstructions: Sequence[Tensor], sample_rate: int | None) -> list[str]:
        """Spectrograms, brightness in decibels below the loudest of the reference."""
        sounds = [self._cut(signal, sample_rate).mean(0).numpy() for signal in (reference, *reconstructions)]
        shown = [decibels(sound, len(sound)) for sound in sounds]
        return [picture_address(to_colours(loudness - shown[0].max())) for loudness in shown]

    def sounds(self, signals: Sequence[Tensor], sample_rate: int | None) -> list[str]:
        """FLAC files."""
        addresses = []
        for signal in signals:
            file = io.BytesIO()
            soundfile.write(file, self._cut(signal, sample_rate).T.numpy(), sample_rate, "PCM_16", format="FLAC")
            addresses.append(data_address("audio/flac", file.getvalue()))
        return addresses

    def shown_part(self, grid: Tensor, samples: int, sample_rate: int | None) -> Tensor:
        """The beginning, as one row: (1, columns, width)."""
        part = min(1.0, SECONDS * sample_rate / samples)
        return grid[None, : max(1, round(len(grid) * part))]

    def _cut(self, signal: Tensor, sample_rate: int | None) -> Tensor:
        return signal.detach().cpu().float().clamp(-1, 1)[:, : SECONDS * sample_rate]


VIEWS: dict[ModalityName, View] = {"image": PictureView(), "audio": SoundView()}


def data_address(media_type: str, content: bytes) -> str:
    """`content` as an address that holds it."""
    return f"data:{media_type};base64,{base64.b64encode(content).decode('ascii')}"


def picture_address(picture: Image.Image) -> str:
    """A picture as an address, without loss."""
    file = io.BytesIO()
    # Method 2 takes 20 ms for 256x256 where the default takes 100, for files 4 % larger.
    picture.save(file, format="WEBP", lossless=True, method=2)
    return data_address("image/webp", file.getvalue())


def token_maps(codes: Sequence[Tensor]) -> list[str]:
    """A picture of each grid of codes (rows, columns, dim), a pixel for every position: alike codes, alike colours.

    Colours are the three directions in which the codes of all these grids differ most.
    """
    flat = torch.cat([grid.flatten(0, 1) for grid in codes]).double()
    centred = flat - flat.mean(0)
    directions = torch.linalg.eigh(centred.T @ centred).eigenvectors.flip(1)[:, :3]
    colours = torch.zeros(len(flat), 3, dtype=torch.float64)
    colours[:, : directions.shape[1]] = centred @ directions
    low, high = (torch.quantile(colours[:: max(1, len(flat) // 100_000)], share, dim=0) for share in (0.02, 0.98))
    levels = ((colours - low) / (high - low).clamp(min=1e-9) * 200 + 28).clamp(0, 255).round().to(torch.uint8)
    addresses, first = [], 0
    for grid in codes:
        rows, columns = grid.shape[:2]
        pixels = levels[first : first + rows * columns].reshape(rows, columns, 3).numpy()
        addresses.append(picture_address(Image.fromarray(numpy.ascontiguousarray(pixels))))
        first += rows * columns
    return addresses


def packed_tokens(tokens: Tensor) -> str:
    """tokens (rows, columns, groups) -> base64 of unsigned 32-bit integers, little-endian, for a script to look up."""
    return base64.b64encode(tokens.numpy().astype("<u4").tobytes()).decode("ascii")
