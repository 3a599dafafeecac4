"""A folder of `save_pretrained`: which network it holds, opening it strictly, and what is recorded of it.

Nothing is run that the folder brings: the class is one of our table, and weights are safetensors alone.
"""

import hashlib
import pathlib
import re
from dataclasses import dataclass
from typing import Any, TypeGuard

import torch
from safetensors import SafetensorError

from tokcli.backbones.torchvision import let_torchvision_import
from tokcli.backbones.whisper import silent
from tokcli.contracts import ModalityName
from tokcli.errors import InputError, MismatchError
from tokcli.files import open_regular, read_bytes
from tokcli.hub import find_label
from tokcli.optional import require
from tokcli.published.codec import PADDING, PublishedCodec
from tokcli.published.networks import Kind, Range, find_kind
from tokcli.untrusted import parse_json

EXTRA = "published"

CONFIG, PROCESSOR, PIPELINE = "config.json", "preprocessor_config.json", "model_index.json"

PARTS = ("vqvae", "movq", "vqmodel")
"""Folders of a pipeline of diffusers that hold its tokenizer."""

CHOICE = re.compile(r"(.+)@([0-9]{1,6}(?:\.[0-9]{1,3})?)", re.DOTALL)

LARGEST_CONFIG = 1 << 24
"""Bytes of a config.json."""

DIGESTED_AT_ONCE = 1 << 22
"""Bytes."""


@dataclass(frozen=True)
class Place:
    """Where a published tokenizer lies, and what is asked of it.

    Attributes:
        folder: that holds its config.json.
        choice: the bandwidth or the number of codebooks; None takes its library's own.
        source: what people call where it is from: `hf:USER/NAME`, or the folder.
        revision: the commit of it, where it is of a hub.
    """

    folder: pathlib.Path
    choice: float | None
    source: str
    revision: str | None


@dataclass(frozen=True)
class Published:
    """An opened one.

    Attributes:
        codec: that encodes and decodes.
        record: what every JSON and token file says of it; plain values.
        summary: what it is, in a few words.
        fingerprint: sha256 sum of its class, its configuration and its weights.
    """

    codec: PublishedCodec
    record: dict[str, Any]
    summary: str
    fingerprint: str


def split_choice(named: str) -> tuple[str, float | None]:
    """`FOLDER@6` -> FOLDER and 6; what is there under its whole name, or has no number, chooses nothing."""
    match = CHOICE.fullmatch(named)
    if match is None or pathlib.Path(named).exists():
        return named, None
    return match[1], float(match[2])


def find_place(named: str) -> Place | None:
    """The published tokenizer that a name means: a folder with a config.json, @ and a number behind it if wanted."""
    base, choice = split_choice(named)
    folder = pathlib.Path(base)
    if (folder / PIPELINE).is_file():
        folder = next((folder / part for part in PARTS if (folder / part / CONFIG).is_file()), folder)
    if not (folder / CONFIG).is_file():
        return None
    label = find_label(folder.absolute())
    if label is None:
        return Place(folder, choice, base, None)
    source, _, revision = label.rpartition("@")
    return Place(folder, choice, source, revision)


def is_known(place: Place) -> bool:
    """Whether what lies there is of the table, by its config.json."""
    try:
        _read_kind(place)
    except MismatchError:
        return False
    return True


def read_modality(place: Place) -> ModalityName:
    """What its signals are, by its config.json alone. Raises MismatchError where it is none of the table."""
    return _read_kind(place)[0].network.modality


def digest_published(place: Place) -> str:
    """Its fingerprint, without loading it. Raises what opening it raises of its files."""
    kind, _ = _read_kind(place)
    return _digest(kind, [place.folder / CONFIG, place.folder / PROCESSOR, *_find_weights(place)])


def open_published(place: Place) -> Published:
    """Load a published tokenizer, on the CPU and in evaluation mode; torch's generator stays as it is.

    Raises:
        UsageError: its library is not installed, or it has no such bandwidth or number of codebooks.
        InputError: it cannot be read.
        MismatchError: it is none of the table, or no safetensors, or lacks tensors.
    """
    kind, _ = _read_kind(place)
    fingerprint = digest_published(place)
    let_torchvision_import()
    package = require(kind.library, EXTRA)
    logging = require(f"{kind.library}.utils.logging", EXTRA)
    with silent(logging), torch.random.fork_rng(devices=[]):
        module = _load(package, kind, place)
        codec = PublishedCodec(kind.network(module.eval().requires_grad_(False), place.choice), _read_range(place))
    network = codec.network
    record = {
        "source": place.source,
        "revision": place.revision,
        "sha256": fingerprint,
        "library": f"{kind.library} {package.__version__}",
        "class": kind.class_name,
        **({network.unit: network.choice} if network.unit else {}),
        **({"sample_rate": network.sample_rate} if network.sample_rate else {}),
        **({"channels": network.channels} if network.channels != codec.channels else {}),
        "padding": PADDING[codec.modality],
    }
    if not codec.values.is_plain:
        record |= {"mean": list(codec.values.mean), "deviation": list(codec.values.deviation)}
    groups = f" in {codec.groups} groups" if codec.groups > 1 else ""
    asked = f", {network.choice:g} {network.unit}" if network.choice is not None else ""
    summary = f"{kind.class_name} of {kind.library}{asked}, {codec.codebook_size} codes{groups}"
    return Published(codec, record, summary, fingerprint)


def _read_kind(place: Place) -> tuple[Kind, dict[str, Any]]:
    """The line of the table, and the configuration. Raises MismatchError."""
    config = _read_json(place.folder / CONFIG)
    return find_kind(config, place.folder), config


def _read_json(path: pathlib.Path) -> dict[str, Any]:
    try:
        values = parse_json(read_bytes(path, LARGEST_CONFIG))
    except ValueError as error:
        raise MismatchError(f"{path} is damaged: {error}") from error
    if not isinstance(values, dict):
        raise MismatchError(f"{path} is damaged: it holds no settings")
    return values


def _read_range(place: Place) -> Range:
    """The values that its pictures have, by what lies beside it."""
    config = _read_json(place.folder / CONFIG)
    if config.get("lookup_from_codebook") is True:  # aMUSEd and its kin, whose pipelines take [0, 1]
        return Range((0.0,), (1.0,))
    if not (place.folder / PROCESSOR).is_file():
        return Range()
    said = _read_json(place.folder / PROCESSOR)
    mean, deviation = said.get("image_mean"), said.get("image_std")
    if not _are_numbers(mean) or not _are_numbers(deviation) or said.get("do_normalize") is False:
        return Range()
    return Range(tuple(mean), tuple(deviation))


def _are_numbers(values: Any) -> TypeGuard[list[float]]:
    """Whether these are as many positive numbers as a picture has channels."""
    return (
        isinstance(values, list)
        and len(values) == 3
        and all(type(each) in (int, float) and each > 0 for each in values)
    )


def _find_weights(place: Place) -> list[pathlib.Path]:
    """Its files of weights. Raises MismatchError where there is none, or a pickle in its place."""
    files = sorted(place.folder.glob("*.safetensors"))
    if files:
        return files
    pickles = sorted(path.name for suffix in ("bin", "pt", "pth", "ckpt") for path in place.folder.glob(f"*.{suffix}"))
    found = f", but {pickles[0]}, a pickle, which is never opened" if pickles else ""
    raise MismatchError(
        f"{place.folder} holds no .safetensors file{found}; save it anew with save_pretrained(..., "
        "safe_serialization=True) where you trust it"
    )


def _load(package: Any, kind: Kind, place: Place) -> Any:
    """The network, whole. Raises InputError where the library cannot read it, MismatchError where tensors lack."""
    options: dict[str, Any] = {"local_files_only": True, "use_safetensors": True, "output_loading_info": True}
    options |= {"dtype": torch.float32} if kind.library == "transformers" else {"torch_dtype": torch.float32}
    try:
        loader = getattr(package, kind.class_name)
    except (AttributeError, ImportError) as error:
        raise InputError(
            f"{kind.library} {package.__version__} has no {kind.class_name}; "
            f"install a newer one: pip install -U {kind.library}"
        ) from error
    try:
        module, told = loader.from_pretrained(str(place.folder), **options)
    except (OSError, ValueError, RuntimeError, TypeError, KeyError, SafetensorError) as error:
        reason = " ".join(str(error).split())[:300]
        raise InputError(f"{place.folder} cannot be read as {kind.class_name} of {kind.library}: {reason}") from error
    unfit = sorted([*map(str, told["missing_keys"]), *(str(each[0]) for each in told["mismatched_keys"])])
    if unfit:
        listed = ", ".join(unfit[:5]) + (", …" if len(unfit) > 5 else "")
        raise MismatchError(f"{place.folder} is no whole {kind.class_name}: {len(unfit)} tensors lack: {listed}")
    return module


def _digest(kind: Kind, files: list[pathlib.Path]) -> str:
    """sha256 of the class, and of the names and the bytes of these files, as far as they are there."""
    digest = hashlib.sha256(f"{kind.library} {kind.class_name}".encode())
    for path in files:
        if path.is_file():
            digest.update(f"\n{path.name} {path.stat().st_size}\n".encode())
            with open_regular(path) as file:
                while block := file.read(DIGESTED_AT_ONCE):
                    digest.update(block)
    return digest.hexdigest()
