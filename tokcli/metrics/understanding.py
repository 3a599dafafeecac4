"""What is left for who listens or reads: words recognised in speech, whose voice it is, text read in pictures.

Each compares what a trained model makes of the reconstruction with what it makes of the reference, item by item; a
model that errs on both alike costs nothing. Where an item brings the words that are said in it, they are the reference.
"""

import math
import pathlib
import unicodedata
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from tokcli import hub
from tokcli.backbones.reading import TextReader
from tokcli.backbones.speech import resample
from tokcli.backbones.speech_models import SHORTEST, load_recogniser, load_voice_embedder
from tokcli.contracts import ModalityName, RoundTrip
from tokcli.errors import InputError
from tokcli.metrics.audio import to_mono
from tokcli.metrics.base import ItemMean, merge_states, require_sample_rate
from tokcli.numerics import to_levels

TEXT_KEYS = ("text", "transcript", "transcription", "sentence")
"""Under which an item may bring the words that are said in it."""


def count_edits(candidate: Sequence[Any], reference: Sequence[Any]) -> int:
    """The fewest insertions, deletions and substitutions between them (Levenshtein 1966)."""
    row = list(range(len(reference) + 1))
    for place, own in enumerate(candidate, start=1):
        former, row[0] = row[0], place
        for index, other in enumerate(reference, start=1):
            former, row[index] = row[index], min(row[index] + 1, row[index - 1] + 1, former + (own != other))
    return row[-1]


def split_words(text: str) -> list[str]:
    """The words of a text, in lower case and without punctuation."""
    kept = (character for character in text.lower() if unicodedata.category(character)[0] not in "PS")
    return "".join(kept).split()


class ItemByItem(ItemMean):
    """The mean over items of a score that a trained model gives one item at a time."""

    def scores(self, round_trip: RoundTrip) -> Tensor:
        """(batch,) on the CPU; NaN where an item cannot be scored."""
        pairs = zip(round_trip.reconstruction, round_trip.reference, strict=True)
        abouts = round_trip.about or [{}] * len(round_trip.reference)
        values = [
            self.score(*pair, about, round_trip) if all(bool(each.isfinite().all()) for each in pair) else math.nan
            for pair, about in zip(pairs, abouts, strict=True)
        ]
        return torch.tensor(values, dtype=torch.float64)

    @abstractmethod
    def score(
        self, reconstruction: Tensor, reference: Tensor, about: Mapping[str, Any], round_trip: RoundTrip
    ) -> float:
        """One item, both (channels, *size), of a round trip; NaN where it cannot be scored."""


class Wer(ItemByItem):
    """Mean over clips of the word error rate; 0 is every word understood.

    Args:
        weights: the folder of a recogniser, or `hf:USER/NAME`.

    Raises:
        InputError: there is none, with what to give.
        UsageError: transformers is absent.
    """

    modality: ClassVar[ModalityName | None] = "audio"
    higher_is_better: ClassVar[bool | None] = False
    meaning: ClassVar[str] = "words that a recogniser gets wrong, per word: 0 is none"

    def __init__(self, weights: str | None = None) -> None:
        super().__init__()
        self._recogniser = load_recogniser(find_folder(weights, "wer", "openai/whisper-base.en"))
        self.state |= {name: torch.zeros((), dtype=torch.int64) for name in ("errors", "words", "texts")}

    def score(
        self, reconstruction: Tensor, reference: Tensor, about: Mapping[str, Any], round_trip: RoundTrip
    ) -> float:
        """Errors per word of the clip's text, else of what is recognised in the reference; NaN without a word."""
        rate = require_sample_rate(round_trip)
        self._recogniser.to(reference.device)
        said = next((about[key] for key in TEXT_KEYS if isinstance(about.get(key), str)), None)
        words = split_words(said if said is not None else self._recogniser.transcribe(to_clip(reference, rate)))
        if not words:
            return math.nan
        errors = count_edits(split_words(self._recogniser.transcribe(to_clip(reconstruction, rate))), words)
        seen = {"errors": errors, "words": len(words), "texts": int(said is not None)}
        self.state = merge_states([self.state, {name: torch.tensor(value) for name, value in seen.items()}])
        return errors / len(words)

    def remark(self) -> str | None:
        """The rate over all words, which papers print."""
        errors, words = int(self.state["errors"]), int(self.state["words"])
        return (
            f"wer over all clips together is {errors / words:.4f}: {errors} errors in {words} words" if words else None
        )

    def protocol(self) -> dict[str, object]:
        """Recogniser, text, normalisation and averaging."""
        return {
            "recogniser": self._recogniser.name,
            "clips_with_text": int(self.state["texts"]),
            "other_clips": "what is recognised in the reference",
            "words": "lower case, without punctuation",
            "average": "per clip",
        }


class SpeakerSimilarity(ItemByItem):
    """Mean over clips of the cosine between the voices of both; 1 is the same voice.

    Args:
        weights: the folder of a model with an x-vector head, or `hf:USER/NAME`.

    Raises:
        InputError: there is none, with what to give.
        UsageError: transformers is absent.
    """

    modality: ClassVar[ModalityName | None] = "audio"
    higher_is_better: ClassVar[bool | None] = True
    meaning: ClassVar[str] = "cosine between embeddings of both voices: 1 is the same"

    def __init__(self, weights: str | None = None) -> None:
        super().__init__()
        self._embedder = load_voice_embedder(find_folder(weights, "speaker-similarity", "microsoft/wavlm-base-plus-sv"))

    def score(
        self, reconstruction: Tensor, reference: Tensor, about: Mapping[str, Any], round_trip: RoundTrip
    ) -> float:
        """The cosine; NaN for a clip that is too short for a voice."""
        rate = require_sample_rate(round_trip)
        clips = [to_clip(signal, rate) for signal in (reconstruction, reference)]
        if len(clips[0]) < 10 * SHORTEST:
            return math.nan
        self._embedder.to(reference.device)
        return float(torch.cosine_similarity(*(self._embedder.embed(clip).double() for clip in clips), dim=0))

    def protocol(self) -> dict[str, object]:
        """Model, shortest clip and averaging."""
        return {"embedder": self._embedder.name, "shortest_seconds": 1.0, "average": "per clip"}


class Text(ItemByItem):
    """Mean over pictures of how much of their text can still be read; 1 is all of it.

    Raises:
        UsageError: rapidocr or onnxruntime is absent.
    """

    modality: ClassVar[ModalityName | None] = "image"
    higher_is_better: ClassVar[bool | None] = True
    meaning: ClassVar[str] = "share of the characters read in the original that are read again: 1 is all"

    def __init__(self) -> None:
        super().__init__()
        self._reader = TextReader()

    def score(
        self, reconstruction: Tensor, reference: Tensor, about: Mapping[str, Any], round_trip: RoundTrip
    ) -> float:
        """1 less the edits per character, at least 0; NaN where nothing is read in the reference."""
        texts = [self._reader.read(_to_pixels(signal)) for signal in (reconstruction, reference)]
        if not texts[1]:
            return math.nan
        return max(0.0, 1 - count_edits(*texts) / len(texts[1]))

    def protocol(self) -> dict[str, object]:
        """Reader, rounding and averaging."""
        return {"reader": self._reader.name, "rounding": "8-bit, to nearest", "average": "per image with text"}


def to_clip(signal: Tensor, sample_rate: int) -> np.ndarray:
    """(channels, samples) -> (samples,) float32 at 16 kHz, channels averaged."""
    return resample(to_mono(signal[None])[0].cpu().numpy(), sample_rate)


def find_folder(weights: str | None, metric: str, example: str) -> pathlib.Path:
    """The folder of a metric's model, fetched where it is on a hub. Raises InputError where nobody named one."""
    if weights is None:
        raise InputError(
            f"the metric {metric} needs a model: --weights {metric}=FOLDER names that of one such as {example}, "
            f"--weights {metric}=hf:{example} fetches it"
        )
    if not hub.is_name(weights):
        return pathlib.Path(weights).expanduser()
    name = hub.split_name(weights)
    return hub.fetch(name.repository, name.revision).folder


def _to_pixels(signal: Tensor) -> np.ndarray:
    """(channels, height, width) in [-1, 1] -> (height, width, 3) uint8."""
    levels = to_levels(signal).to(torch.uint8).cpu()
    return levels.expand(3, -1, -1).permute(1, 2, 0).contiguous().numpy()
