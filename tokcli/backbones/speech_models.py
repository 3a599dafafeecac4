"""What trained models make of a recording: its words, and whose voice it is. A folder that the user brings.

`transformers` holds the architectures. Recognisers are Whisper (Radford et al. 2022, arXiv 2212.04356), which writes
word after word, and models with a CTC head as wav2vec 2.0 (Baevski et al. 2020, arXiv 2006.11477), which name a letter
for each position. Voices are x-vectors (Snyder et al. 2018) as WavLM makes them (Chen et al. 2021, arXiv 2110.13900).
"""

import hashlib
import pathlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from tokcli.backbones.torchvision import let_torchvision_import
from tokcli.backbones.whisper import is_whole, silent
from tokcli.errors import InputError
from tokcli.files import read_text
from tokcli.optional import require
from tokcli.untrusted import parse_json

SAMPLE_RATE = 16_000

LONGEST = 30 * SAMPLE_RATE
"""Samples that are recognised at a time: what Whisper was made for."""

SHORTEST = SAMPLE_RATE // 10
"""Samples below which there is no word and no voice: 0.1 s."""

LONGEST_CONFIG = 1 << 24


@dataclass(frozen=True)
class SpeechModel:
    """A frozen model with what prepares its input.

    Attributes:
        model: transformers' own, in evaluation mode and float32.
        processor: samples to its input, and its output to words where it has words.
        name: its architecture and the first digits of a sum of its weights.
    """

    model: Any
    processor: Any
    name: str

    def prepare(self, clip: np.ndarray) -> dict[str, torch.Tensor]:
        """The input for a clip (samples,) at 16 kHz, on the device of the model."""
        made = self.processor(clip, sampling_rate=SAMPLE_RATE, return_tensors="pt")
        return {key: value.to(self.model.device) for key, value in made.items()}


class Recogniser:
    """Speech to words.

    Args:
        opened: a Whisper model or one with a CTC head, with its tokenizer.
    """

    def __init__(self, opened: SpeechModel) -> None:
        self.name = opened.name
        self._opened = opened
        self._writes = opened.model.config.model_type == "whisper"

    def to(self, device: torch.device) -> None:
        """Move the model."""
        self._opened.model.to(device)

    @torch.no_grad()
    def transcribe(self, clip: np.ndarray) -> str:
        """The words of a clip (samples,) at 16 kHz, 30 s at a time; empty for one that is too short for a word."""
        pieces = [clip[start : start + LONGEST] for start in range(0, len(clip), LONGEST)]
        return " ".join(self._transcribe(piece) for piece in pieces if len(piece) >= SHORTEST).strip()

    def _transcribe(self, piece: np.ndarray) -> str:
        given = self._opened.prepare(piece)
        if self._writes:
            tokens = self._opened.model.generate(given["input_features"], do_sample=False, num_beams=1)
        else:
            tokens = self._opened.model(**given).logits.argmax(-1)
        return str(self._opened.processor.batch_decode(tokens, skip_special_tokens=True)[0])


class VoiceEmbedder:
    """Speech to a vector that says whose voice it is.

    Args:
        opened: a model with an x-vector head.
    """

    def __init__(self, opened: SpeechModel) -> None:
        self.name = opened.name
        self._opened = opened

    def to(self, device: torch.device) -> None:
        """Move the model."""
        self._opened.model.to(device)

    @torch.no_grad()
    def embed(self, clip: np.ndarray) -> torch.Tensor:
        """A clip (samples,) at 16 kHz -> (dim,) float32, on the CPU."""
        return self._opened.model(**self._opened.prepare(clip)).embeddings[0].float().cpu()


def load_recogniser(folder: pathlib.Path) -> Recogniser:
    """The recogniser in a folder. Raises UsageError without transformers, InputError where it is none."""
    wanted = "a recogniser of speech: a Whisper model, or one with a CTC head such as wav2vec 2.0"
    heads = {"WhisperForConditionalGeneration": "WhisperForConditionalGeneration", "ForCTC": "AutoModelForCTC"}
    return Recogniser(_open(folder, heads, wanted, "AutoProcessor"))


def load_voice_embedder(folder: pathlib.Path) -> VoiceEmbedder:
    """The embedder of voices in a folder. Raises UsageError without transformers, InputError where it is none."""
    wanted = "a model with an x-vector head, such as microsoft/wavlm-base-plus-sv"
    return VoiceEmbedder(_open(folder, {"ForXVector": "AutoModelForAudioXVector"}, wanted, "AutoFeatureExtractor"))


def _open(folder: pathlib.Path, heads: dict[str, str], wanted: str, processor: str) -> SpeechModel:
    """The model of a folder by the class that suits its architecture, and its processor."""
    architecture, digest = _check(folder, wanted)
    loader = next((name for end, name in heads.items() if architecture.endswith(end)), None)
    if loader is None:
        raise InputError(f"{folder} holds a model of the architecture {architecture}; expected {wanted}")
    let_torchvision_import()
    package = require("transformers", extra="speech")
    options = {"local_files_only": True}
    with silent(package.logging), torch.random.fork_rng(devices=[]):
        try:
            model, found = getattr(package, loader).from_pretrained(
                folder, use_safetensors=True, output_loading_info=True, **options
            )
            prepares = getattr(package, processor).from_pretrained(folder, **options)
        except (OSError, ValueError, RuntimeError, KeyError) as error:
            reason = " ".join(str(error).split())[:300]
            raise InputError(f"{folder} cannot be read ({reason}); expected the whole folder of {wanted}") from error
    absent = sorted(found["missing_keys"])
    if absent:
        raise InputError(f"{folder} is no whole model: {len(absent)} tensors are missing, the first {absent[0]}")
    return SpeechModel(model.float().requires_grad_(False).eval(), prepares, f"{architecture} {digest}")


def _check(folder: pathlib.Path, wanted: str) -> tuple[str, str]:
    """The architecture of the model in a folder, and the first digits of its sum. Raises InputError."""
    if not folder.is_dir():
        raise InputError(f"there is no folder {folder}; expected that of {wanted}")
    try:
        config = parse_json(read_text(folder / "config.json", LONGEST_CONFIG))
        architecture = str(config["architectures"][0])
    except (InputError, OSError, ValueError, KeyError, IndexError, TypeError) as error:
        raise InputError(f"{folder} holds no config.json that names an architecture; expected {wanted}") from error
    files = sorted(folder.glob("model*.safetensors"))
    if not files or not all(is_whole(file) for file in files):
        raise InputError(f"{folder} holds no whole model.safetensors; pickles are never read; expected {wanted}")
    digest = hashlib.sha256()
    for file in files:
        with file.open("rb") as opened:
            digest.update(hashlib.file_digest(opened, "sha256").digest())
    return architecture, digest.hexdigest()[:12]
