"""Pictures and sounds made of whole numbers alone, so that they are the same on every machine; and what pins tokens.

python tests/shipped/made_up.py        writes digests.json anew, for every tokenizer in tokcli/shipped
"""

import hashlib
import json
import pathlib

import numpy
import torch

from tokcli import shipped
from tokcli.library import LoadedTokenizer, load

PINNED = pathlib.Path(__file__).parent / "digests.json"


def make_image(index: int) -> numpy.ndarray:
    """(72, 88, 3) uint8: a slope of colour under discs, with a band of stripes."""
    y, x = numpy.mgrid[:72, :88]
    channels = []
    for channel in range(3):
        values = (x * (index + channel) + y * (5 - channel)) // 3 + 40 * channel
        for disc in range(4):
            middle_y, middle_x, radius = (17 * disc + 9 * index) % 72, (31 * disc + 13 * channel) % 88, 9 + 4 * disc
            inside = (y - middle_y) ** 2 + (x - middle_x) ** 2 < radius**2
            values = numpy.where(inside, 60 * (disc + channel + index) % 230, values)
        values = numpy.where((y > 50) & (x // 6 % 2 == 0), values // 2, values)
        channels.append(values % 256)
    return numpy.stack(channels, axis=-1).astype(numpy.uint8)


def make_audio(index: int) -> numpy.ndarray:
    """(12000,) float32 in [-1, 1]: three triangular waves under an envelope that rises and falls."""
    time = numpy.arange(12000)
    wave = numpy.zeros(12000, dtype=numpy.int64)
    for tone, loudness in ((1, 900), (2, 500), (5, 200)):
        period = (140 + 20 * index) // tone
        phase = (time + time * time // 90000) % period
        wave += loudness * (4 * numpy.minimum(phase, period - phase) - period) // period
    envelope = numpy.minimum(time % 4000, 3999 - time % 4000)
    return (wave * envelope // 200).clip(-32768, 32767).astype(numpy.float32) / 32768


def encode_all(tokenizer: LoadedTokenizer) -> list[torch.Tensor]:
    """The tokens of three made-up signals."""
    make = make_image if tokenizer.modality == "image" else make_audio
    return [tokenizer.encode(make(index)) for index in range(3)]


def digest_tokens(label: str) -> dict[str, str]:
    """A sum of these tokens for each codebook of a shipped tokenizer."""
    digests = {}
    for size in load(label).module.quantizer.codebooks:
        tokens = torch.cat([each.flatten() for each in encode_all(load(label, codebook=size))])
        digests[str(size)] = hashlib.sha256(tokens.numpy().astype("<i4").tobytes()).hexdigest()
    return digests


if __name__ == "__main__":
    digests = {each.label: digest_tokens(each.label) for each in shipped.list_tokenizers()}
    PINNED.write_text(json.dumps(digests, indent=1, sort_keys=True) + "\n")
    print(f"{PINNED}: {', '.join(digests) or 'nothing is shipped'}")
