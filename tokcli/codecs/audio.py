"""Opus through libsndfile, in the Ogg files that players know."""

import io
from collections.abc import Iterable, Iterator
from typing import ClassVar

import soundfile
import torch
from torch import Tensor

from tokcli.codecs.base import ClassicalCodec
from tokcli.contracts import ModalityName
from tokcli.errors import UsageError

SAMPLE_RATES = (8_000, 12_000, 16_000, 24_000, 48_000)

LOWEST_KBPS, KBPS_SPAN = 6, 250
"""libsndfile offers 6 to 256 kbps a channel, by a compression level from 1 down to 0."""

SAMPLES_AT_ONCE = 2**18
"""Of a file that is decoded in blocks."""

PAGE_HEAD = 27
"""Bytes of an Ogg page before the table of its segments, whose length the last of them tells."""


class Opus(ClassicalCodec):
    """Opus at a variable bit rate, from 6 kbps a channel upwards.

    That lower end is libsndfile's: most speech tokenizers spend less.
    """

    modality: ClassVar[ModalityName] = "audio"
    settings: ClassVar[range] = range(0, KBPS_SPAN + 1)
    searched_samples: ClassVar[int] = 1_000_000

    def setting_name(self, setting: int) -> str:
        """The rate that it aims at."""
        return f"{LOWEST_KBPS + setting}k"

    def compress(self, signal: Tensor, setting: int, sample_rate: int | None) -> bytes:
        """The file of (channels, samples), aiming at 6 + `setting` kbps a channel.

        Raises:
            UsageError: Opus does not know this sample rate.
        """
        return self.compress_blocks([signal], setting, sample_rate)

    def compress_blocks(self, blocks: Iterable[Tensor], setting: int, sample_rate: int | None) -> bytes:
        """The file of blocks (channels, samples), written as they come. Raises UsageError as `compress` does."""
        if sample_rate not in SAMPLE_RATES:
            known = ", ".join(map(str, SAMPLE_RATES))
            raise UsageError(f"Opus codes sound at {known} Hz, this model's is at {sample_rate} Hz; leave opus out")
        data, file, level = io.BytesIO(), None, 1 - setting / KBPS_SPAN
        for block in blocks:
            if file is None:
                options = {"format": "OGG", "subtype": "OPUS", "compression_level": level}
                file = soundfile.SoundFile(data, "w", sample_rate, len(block), **options)
            file.write(block.float().clamp(-1, 1).cpu().numpy().T)
        if file is not None:
            file.close()
        return data.getvalue()

    def decompress(self, data: bytes) -> Tensor:
        """(channels, samples) float32."""
        return torch.cat(list(self.decompress_blocks(data)), dim=1)

    def decompress_blocks(self, data: bytes) -> Iterator[Tensor]:
        """Blocks (channels, samples) float32."""
        with soundfile.SoundFile(io.BytesIO(data)) as file:
            while len(samples := file.read(SAMPLES_AT_ONCE, dtype="float32", always_2d=True)):
                yield torch.from_numpy(samples.T.copy())

    def header_bytes(self, data: bytes) -> int:
        """The two pages that introduce the stream, and the head of every page."""
        start = pages = headers = 0
        while start < len(data):
            segments = data[start + PAGE_HEAD - 1]
            head = PAGE_HEAD + segments
            body = sum(data[start + PAGE_HEAD : start + head])
            headers += head + (body if pages < 2 else 0)
            start += head + body
            pages += 1
        return headers

    def protocol(self) -> dict[str, object]:
        """Library, container and mode."""
        return {"library": soundfile.__libsndfile_version__, "container": "Ogg", "bitrate_mode": "variable"}
