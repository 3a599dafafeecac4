"""Synthetic voices: endless babble with the build of speech: gliding harmonics, formants, hiss and pauses.

A source and a filter, as in Fant, "Acoustic Theory of Speech Production", 1960: a train of pulses whose pitch glides,
or noise, shaped by resonances that move from one syllable's vowel to the next. No files, no licence.
"""

from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy
import torch
from numpy.typing import NDArray
from pydantic import Field

from tokcli.backbones.spectra import transform_pieces
from tokcli.contracts import Item, ModalityName, Source, SourceDescription
from tokcli.data.items import NumberedNames
from tokcli.schema import Count, CountOrZero

Doubles = NDArray[numpy.floating]

WINDOW_SECONDS = 0.032
"""Of the pieces that are shaped one by one and overlap by three quarters."""

SYLLABLE_SECONDS = (0.12, 0.34)
PAUSES, HISSES = 0.15, 0.6
"""The share of syllables that are silent, and of the others that begin with a fricative."""

PITCH = (85.0, 250.0)
"""Hz; the range of a speaker's mean."""

FORMANTS = ((280.0, 800.0), (800.0, 2300.0), (2300.0, 3100.0), (3300.0, 3900.0))
"""Hz; vowels lie anywhere in these ranges."""

BANDWIDTHS, STRENGTHS = (70.0, 100.0, 160.0, 250.0), (1.0, 0.6, 0.35, 0.2)


class SyntheticVoices(Source):
    """Audio made from (seed, index, draw) alone, (1, size) float32 in [-1, 1].

    Draw 0 is the fixed set that evaluation reads. Training reads every item under a new draw in each epoch, and so
    never reads a sound twice.

    Args:
        items: Sounds in the set.
        size: Samples in each.
        sample_rate: In Hz, at least 1000.
        seed: Another seed is another set.
    """

    modality: ClassVar[ModalityName] = "audio"

    def __init__(
        self,
        items: Count = 1000,
        size: Count = 9600,
        sample_rate: Annotated[int, Field(ge=1000)] = 16000,
        seed: CountOrZero = 0,
    ) -> None:
        self.names = NumberedNames("synthetic-voice-", items)
        self.sample_rate = self._rate = sample_rate
        self._size = size
        self._seed = seed

    def load(self, index: int, draw: int = 0) -> Item:
        """Sound `index`; each draw is another one, of another speaker."""
        generator = numpy.random.default_rng([self._seed, index, draw])
        samples = speak(generator, self._size, self._rate)
        return Item(self.names[index], torch.from_numpy(samples)[None], (self._size,))

    def describe(self) -> SourceDescription:
        """What they are, and their size."""
        return SourceDescription(self._size, made="synthetic voices")

    def protocol(self) -> dict[str, object]:
        """How the sounds are made, for the record."""
        return {"made": "synthetic voices", "size": self._size, "sample_rate": self._rate, "seed": self._seed}


@dataclass(frozen=True)
class Script:
    """What a speaker does in each short piece of a sound, (pieces, ...).

    Attributes:
        pitch: In Hz.
        voice: How loud, 0 to 1.
        hiss: How loud, 0 to 1.
        formants: In Hz, (pieces, 4).
        colour: Hz that the hiss is centred on.
    """

    pitch: Doubles
    voice: Doubles
    hiss: Doubles
    formants: Doubles
    colour: Doubles


def speak(generator: numpy.random.Generator, size: int, sample_rate: int) -> NDArray[numpy.float32]:
    """One sound, (size,) in [-1, 1]."""
    hop = max(1, round(WINDOW_SECONDS * sample_rate / 4))
    pieces = -(-size // hop) + 3
    script = write_script(generator, numpy.arange(pieces) * hop / sample_rate)
    buzz = pulses(numpy.interp(numpy.arange((pieces + 3) * hop), numpy.arange(pieces) * hop, script.pitch), sample_rate)
    noise = generator.standard_normal((pieces + 3) * hop, dtype=numpy.float32)
    frequencies = numpy.fft.rfftfreq(4 * hop, 1 / sample_rate)
    voiced = script.voice[:, None] * vowel_spectrum(frequencies, script.formants)
    hissed = script.hiss[:, None] * hiss_spectrum(frequencies, script.colour)
    samples = shape_pieces(buzz, voiced, hop) + shape_pieces(noise, hissed, hop)
    samples = samples[3 * hop : 3 * hop + size]  # the first pieces overlap with nothing before them
    samples *= generator.uniform(0.2, 0.9) / max(float(numpy.abs(samples).max()), 1e-2)
    samples += 10 ** generator.uniform(-3.5, -2.5) * noise[:size]
    return numpy.clip(samples, -1, 1).astype(numpy.float32)


def write_script(generator: numpy.random.Generator, times: Doubles) -> Script:
    """What is said at each of `times`, in seconds."""
    count = int(times[-1] / SYLLABLE_SECONDS[0]) + 3
    lengths = generator.uniform(*SYLLABLE_SECONDS, count)
    ends = numpy.cumsum(lengths) - generator.uniform(0, lengths[0])  # the sound begins anywhere in a syllable
    now = numpy.searchsorted(ends, times, side="right")
    progress = 1 - (ends[now] - times) / lengths[now]
    spoken = generator.random(count) >= PAUSES
    opening = generator.uniform(0.25, 0.45, count) * (spoken & (generator.random(count) < HISSES))
    loudness = generator.uniform(0.4, 1.0, count) * spoken
    after = numpy.clip((progress - opening[now]) / (1 - opening[now]), 0, 1)
    before = numpy.clip(progress / numpy.maximum(opening[now], 1e-9), 0, 1)

    tract = generator.uniform(0.85, 1.2)
    low, high = numpy.array(FORMANTS).T
    targets = tract * generator.uniform(low, high, (count, len(FORMANTS)))
    mean = numpy.exp(generator.uniform(*numpy.log(PITCH)))
    pitches = mean * numpy.exp(generator.normal(0, 0.12, count))
    centres = ends - lengths / 2
    return Script(
        pitch=numpy.interp(times, centres, pitches),
        voice=loudness[now] * numpy.sin(numpy.pi * after) ** 0.7,
        hiss=0.5 * loudness[now] * numpy.sin(numpy.pi * before) * (progress < opening[now]),
        formants=numpy.stack([numpy.interp(times, centres, target) for target in targets.T], axis=1),
        colour=generator.uniform(2000, 6500, count)[now],
    )


def pulses(pitch: Doubles, sample_rate: int) -> Doubles:
    """A pulse for each period of `pitch` (samples,), with equally strong harmonics and none beyond half the rate."""
    harmonics = max(1, int(sample_rate / 2 / pitch.max()))
    half = numpy.pi * numpy.cumsum(pitch) / sample_rate
    below = numpy.sin(half)
    near = numpy.abs(below) < 1e-6
    # The sum of cos(2·k·half) over k = 1 ... harmonics, in closed form; its limit where both sines vanish.
    ratio = numpy.sin((2 * harmonics + 1) * half) / numpy.where(near, 1, below)
    return (numpy.where(near, 2 * harmonics + 1, ratio) - 1) / numpy.sqrt(2 * harmonics)


def vowel_spectrum(frequencies: Doubles, formants: Doubles) -> Doubles:
    """Magnitudes (pieces, frequencies) for formants (pieces, 4): resonances over the fall of the glottal pulse."""
    resonances = numpy.zeros((len(formants), len(frequencies)))
    for formant, bandwidth, strength in zip(formants.T, BANDWIDTHS, STRENGTHS, strict=True):
        resonances += strength / numpy.sqrt(1 + ((frequencies - formant[:, None]) / (bandwidth / 2)) ** 2)
    return resonances / numpy.sqrt(1 + (frequencies / 800) ** 2)


def hiss_spectrum(frequencies: Doubles, colour: Doubles) -> Doubles:
    """Magnitudes (pieces, frequencies) of fricatives centred on `colour` (pieces,), a third of it wide."""
    return 0.25 * numpy.exp(-0.5 * ((frequencies - colour[:, None]) / (colour[:, None] / 3)) ** 2)


def shape_pieces(samples: Doubles, spectra: Doubles, hop: int) -> Doubles:
    """Multiply the spectrum of each piece of four hops by its own of `spectra`; (pieces + 3) * hop samples."""
    pieces = len(spectra)
    taper = numpy.sqrt(numpy.hanning(4 * hop + 1)[:-1] / 2)  # its squares add up to one
    parts = numpy.fft.irfft(transform_pieces(samples, taper, hop)[:pieces] * spectra, 4 * hop) * taper
    whole = numpy.zeros((pieces + 3, hop))
    for quarter in range(4):
        whole[quarter : quarter + pieces] += parts[:, quarter * hop : (quarter + 1) * hop]
    return whole.reshape(-1)
