"""Whisper's encoder, frozen: what a speech recogniser hears in a sound, layer by layer.

Radford et al. 2022, "Robust Speech Recognition via Large-Scale Weak Supervision" (arXiv 2212.04356). The `transformers`
package holds the architecture; the weights are a folder that the user brings, because nothing here reaches for the
network. The log-mel front end is torch's own arithmetic, so that gradients reach the waveform.
"""

import contextlib
import pathlib
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from tokcli.backbones.spectra import transform
from tokcli.backbones.torchvision import let_torchvision_import
from tokcli.errors import InputError
from tokcli.optional import require
from tokcli.untrusted import parse_json

SAMPLE_RATE = 16_000
WINDOW, STEP = 400, 160
POSITION = 2 * STEP
"""Samples for each position of the encoder, whose second convolution halves the frames."""
QUIETEST = 1e-10
RANGE = 8.0
"""Powers of ten below a clip's loudest band at which the logarithm is cut off."""
WANTED = (
    "the folder of a Whisper model, as openai/whisper-small has it, with config.json and model.safetensors; "
    "nothing is downloaded"
)


class Whisper(nn.Module):
    """Whisper's encoder, frozen, always in evaluation mode, always in float32.

    encoder: transformers' own. bank: (201, bands), the weight of each frequency in each mel band.
    blocks: transformer layers. longest: samples that it hears at a time.

    Whisper was trained on 30 s, silence included. A shorter clip is not padded to that: the encoder runs on the
    clip's own positions, which costs a fiftieth for 0.6 s, and both sides of a comparison are heard the same way.
    """

    encoder: Any
    taper: Tensor
    bank: Tensor
    positions: Tensor

    def __init__(self, encoder: Any, bank: Tensor) -> None:
        super().__init__()
        self.encoder = encoder.float().requires_grad_(False).eval()
        self.register_buffer("taper", torch.hann_window(WINDOW), persistent=False)
        self.register_buffer("bank", bank.float().T.contiguous(), persistent=False)
        self.register_buffer("positions", encoder.embed_positions.weight.detach().clone(), persistent=False)
        self.blocks = len(encoder.layers)
        self.longest = POSITION * len(self.positions)

    def train(self, mode: bool = True) -> "Whisper":
        """Stays in evaluation mode: dropout would make the features random."""
        return super().train(False)

    def leave_out_blocks_after(self, layer: int) -> None:
        """Drop what only layers above `layer` need; their hidden states are no longer computed."""
        if layer < self.blocks:
            # transformers takes the first hidden state from the first block's input, so one block stays.
            self.encoder.layers = self.encoder.layers[: max(layer, 1)]
            self.encoder.layer_norm = nn.Identity()
            self.blocks = len(self.encoder.layers)

    def forward(self, signals: Tensor) -> tuple[Tensor, ...]:
        """signals: (batch, samples) at 16 kHz in [-1, 1] -> hidden states (batch, positions, channels) float32.

        One before the first block and one after each, the last of all normalised as the decoder would read it. A
        position is 20 ms; the last is filled up with silence. Raises InputError for more than Whisper's 30 s.
        """
        if signals.shape[-1] > self.longest:
            raise InputError(
                f"Whisper hears at most {self.longest / SAMPLE_RATE:g} s at a time, got "
                f"{signals.shape[-1] / SAMPLE_RATE:g} s; train on shorter crops"
            )
        with torch.autocast(signals.device.type, enabled=False):
            features = self.log_mel(signals)
            positions = self.positions[: features.shape[-1] // 2]
            self.encoder.embed_positions = nn.Embedding.from_pretrained(positions)
            self.encoder.config.max_source_positions = len(positions)
            return self.encoder(features, output_hidden_states=True).hidden_states

    def log_mel(self, signals: Tensor) -> Tensor:
        """signals: (batch, samples) -> (batch, bands, frames) float32, two frames for each position that has begun.

        They are the first frames of what Whisper computes from the sound with silence after it up to 30 s.
        """
        frames = 2 * -(-signals.shape[-1] // POSITION)
        # Silence up to where no further frame reaches the sound: the loudest band may lie beyond the last whole frame.
        padded = functional.pad(signals.float(), (0, (frames + 2) * STEP + WINDOW // 2 - signals.shape[-1]))
        spectrum = transform(padded, self.taper, STEP, "reflect")
        power = spectrum.real.square() + spectrum.imag.square()
        levels = (self.bank @ power).clamp(min=QUIETEST).log10()
        levels = torch.maximum(levels, levels.amax(dim=(1, 2), keepdim=True) - RANGE)
        return (levels[..., :frames] + 4) / 4


def load_whisper(path: str) -> Whisper:
    """The encoder of the Whisper model in the folder `path`; leaves torch's generator untouched.

    Raises UsageError where transformers is not installed, InputError where the folder is not a whole Whisper model.
    """
    folder = pathlib.Path(path).expanduser()
    _require_whisper(folder, path)
    let_torchvision_import()
    package = require("transformers", extra="whisper")
    with silent(package.logging), torch.random.fork_rng(devices=[]):
        model, found = _loaded(package, folder, path)
    absent = sorted(key for key in found["missing_keys"] if "encoder." in key)
    if absent:
        raise InputError(f"{path} is no whole Whisper model: {len(absent)} tensors are missing, the first {absent[0]}")
    bank = package.WhisperFeatureExtractor(feature_size=model.config.num_mel_bins).mel_filters
    return Whisper(model.get_encoder(), torch.from_numpy(bank))


def _loaded(package: ModuleType, folder: pathlib.Path, path: str) -> tuple[Any, dict[str, Any]]:
    """The model, and transformers' account of the tensors that it found."""
    options = {"local_files_only": True, "use_safetensors": True, "output_loading_info": True}
    try:
        return package.WhisperModel.from_pretrained(folder, **options)
    except (OSError, ValueError, RuntimeError) as error:
        raise InputError(f"{path} cannot be read as a Whisper model ({error}); expected {WANTED}") from error


def _require_whisper(folder: pathlib.Path, path: str) -> None:
    """Check what the folder says it holds, before anything slow is imported."""
    if not folder.is_dir():
        raise InputError(f"there is no folder {path}; expected {WANTED}")
    try:
        config = parse_json((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path} holds no readable config.json; expected {WANTED}") from error
    kind = config.get("model_type") if isinstance(config, dict) else None
    if kind != "whisper":
        raise InputError(f"{path} holds a model of type {kind!r}, not 'whisper'; expected {WANTED}")
    files = sorted(folder.glob("model*.safetensors"))
    if not files:
        raise InputError(f"{path} holds no model.safetensors; expected {WANTED}")
    for file in files:
        if not is_whole(file):
            raise InputError(f"{file} is cut off or not what its name says; download it again")


def is_whole(file: pathlib.Path) -> bool:
    """Whether a .safetensors file is as long as its own header says; half a download is not, nor is a git-lfs stub."""
    size = file.stat().st_size
    with file.open("rb") as opened:
        length = int.from_bytes(opened.read(8), "little")
        text = opened.read(length) if 8 + length <= size else b""
    try:
        entries = parse_json(text)
        return size == 8 + length + max(entry["data_offsets"][1] for entry in entries.values() if "dtype" in entry)
    except ValueError:
        return False


@contextlib.contextmanager
def silent(logging: ModuleType) -> Iterator[None]:
    """transformers reports on every file it loads; what matters of that is an error here."""
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
