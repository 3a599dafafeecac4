"""Opening a trained tokenizer: on which device, with which codebook, and files as it takes them."""

import hashlib
import os
import pathlib
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from tokcli import hub, shipped
from tokcli.artifacts import ARTIFACT_NAME, load_artifact, read_recipe
from tokcli.artifacts.artifact import codebook_ready
from tokcli.artifacts.fingerprint import compute_network_fingerprint
from tokcli.autoencoders import AUTOENCODERS
from tokcli.contracts import ModalityName
from tokcli.data.modality import MODALITIES
from tokcli.errors import InputError, MismatchError, TokError, UsageError, quote
from tokcli.models.finding import (
    RUNS,
    VARIABLE,
    explain_absence,
    find_label,
    find_model,
    find_recorded,
    list_finished,
    name_model,
    require_trained,
)
from tokcli.models.model import Model, PublishedModel, TrainedModel, choose_settings, require_only_codebook
from tokcli.progress import SILENT, Reporter
from tokcli.published import digest_published, find_place, open_published, read_modality
from tokcli.recipe.settings import EvaluationSettings
from tokcli.tokens import TokenHeader

DEVICES = ("auto", "cpu", "cuda", "mps")

MOST_SEARCHED = 20
"""Runs that are opened to find out which one made some tokens."""


def open_model(
    model: str | None,
    device: torch.device,
    reporter: Reporter,
    codebook: int | None = None,
    need_tokens: bool = True,
    inputs: Sequence[str] = (),
) -> Model:
    """Load the tokenizer that `model` means and say which it is.

    Args:
        model: a file, a run folder, a shipped name or `hf:USER/NAME`; None takes the one that `find_model` finds then.
        device: to put it on.
        reporter: is told which it is.
        codebook: which of the built ones, by its size; None takes the one in use when it was saved.
        need_tokens: refuse one whose codebook is still to be built.
        inputs: the files that it is for, by which a shipped one is chosen where there is no other.

    Raises:
        InputError: where there is none.
        MismatchError: where the file is no artifact of this version.
        UsageError: where it has no such codebook, or none yet.
    """
    opened = _open(find_model(model, inputs, reporter), device, codebook, need_tokens)
    tell_model(opened, reporter)
    return opened


def open_trained(
    model: str | None,
    device: torch.device,
    reporter: Reporter,
    codebook: int | None = None,
    need_tokens: bool = True,
) -> TrainedModel:
    """The same, where it must be an artifact of tok, because its parts are needed."""
    opened = _open_artifact(find_model(model, (), reporter), device, codebook, need_tokens)
    tell_model(opened, reporter)
    return opened


def _open(path: pathlib.Path, device: torch.device, codebook: int | None, need_tokens: bool) -> Model:
    """The model that lies at a path that `find_model` found."""
    place = find_place(str(path))
    if place is None:
        return _open_artifact(path, device, codebook, need_tokens)
    published = open_published(place)
    require_only_codebook(str(path), published.codec, codebook)
    published.codec.to(device)
    return PublishedModel(path, device, published)


def _open_artifact(path: pathlib.Path, device: torch.device, codebook: int | None, need_tokens: bool) -> TrainedModel:
    require_trained(path)
    artifact = load_artifact(path, codebook)
    if need_tokens and not codebook_ready(artifact.tokenizer):
        raise UsageError(f"the tokenizer {path} has no codebook yet; run: tok build-codebook {path}")
    artifact.tokenizer.to(device)
    return TrainedModel(path, device, artifact)


def list_codebooks(path: pathlib.Path) -> list[int]:
    """The sizes that were built into the model at a path that `find_model` found. Raises what opening it raises."""
    if find_place(str(path)) is not None:
        return []
    return [built.size for built in load_artifact(path).codebooks]


def digest_model(path: pathlib.Path) -> str:
    """A sha256 sum that changes with the model at such a path, and with what is chosen of it, before it is loaded."""
    place = find_place(str(path))
    if place is not None:
        return f"{digest_published(place)} {place.choice}"
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_settings(path: pathlib.Path) -> tuple[EvaluationSettings, ModalityName]:
    """How the model at such a path is evaluated, and on what kind of signals, before it is loaded."""
    place = find_place(str(path))
    if place is not None:
        modality = read_modality(place)
        return choose_settings(MODALITIES[modality]), modality
    recipe = read_recipe(path)
    return recipe.evaluation, AUTOENCODERS[recipe.autoencoder["kind"]].modality


def tell_model(model: Model, reporter: Reporter) -> None:
    """Note which model it is."""
    reporter.note(f"model {model.name}: {model.describe()}")


def open_maker(
    model: str | None, device: torch.device, reporter: Reporter, path: pathlib.Path, header: TokenHeader
) -> Model:
    """Load the tokenizer that made the tokens of `path`, with the codebook that they were made with.

    Raises what `open_model` does, and MismatchError where `model` means another tokenizer.
    """
    named = model or os.environ.get(VARIABLE)
    refusals = []
    for candidate in [named] if named else _list_makers(path, header):
        opened = open_model(candidate, device, SILENT, need_tokens=False)
        own = opened.network_fingerprint
        if own == header.network_fingerprint:
            break
        refusals.append((opened, own))
    else:
        opened, own = refusals[0]
        raise _refuse_maker(opened, path, "network", own, header.network_fingerprint)
    opened.use_codebook(header.codebook_size)
    require_maker(opened, path, header.network_fingerprint, header.codebook_fingerprint)
    tell_model(opened, reporter)
    return opened


def choose_named(model: str | None, recorded: Any) -> str | None:
    """The model that tokens without a header are of, as far as anybody says: the caller, the environment, `recorded`.

    Args:
        model: that the caller names.
        recorded: what an export keeps of the model that made its tokens; it may be anything.
    """
    known = find_recorded(recorded) if isinstance(recorded, str) else None
    return model or os.environ.get(VARIABLE) or (str(known) if known else None)


def _list_makers(path: pathlib.Path, header: TokenHeader) -> list[str]:
    """What may have made the tokens of `path`, where nobody names it: whom they name, the last run, all shipped ones.

    Fingerprints decide among these. Raises InputError where there is none.
    """
    if header.published is not None:
        raise InputError(
            f"{path} was made by {_name_published(header.published)}, which tok did not train and does not look for; "
            "name it with -m"
        )
    recorded = find_recorded(header.model) if header.model is not None else None
    own = [str(recorded)] if recorded else []
    finished = list_finished()
    others = [str(each.path) for each in shipped.list_tokenizers()]
    if header.model is not None and not own and hub.is_name(header.model):
        named = shlex.quote(header.model)
        raise InputError(f"{path} was made by {quote(header.model)}, which is fetched if you name it: -m {named}")
    if header.model is not None and not own and not finished:
        raise InputError(
            f"{path} was made by {quote(header.model)}, which comes with another version of tok: install that, or name "
            "the file of the tokenizer with -m"
        )
    makers = list(dict.fromkeys([*own, *(str(each) for each in finished[-1:]), *others]))
    if not makers:
        raise explain_absence()
    return makers


def _name_published(record: Mapping[str, Any]) -> str:
    """Where a published tokenizer was from, by what a token file says of it."""
    return quote("@".join(str(record[key]) for key in ("source", "revision") if record.get(key) is not None))


def require_maker(model: Model, path: pathlib.Path, network: str, codebook: str) -> None:
    """Refuse, with a MismatchError, tokens that carry other fingerprints than `model` has.

    Args:
        model: that is to decode them.
        path: of the tokens.
        network: the fingerprint of the network that they carry.
        codebook: that of the codebook.
    """
    sums = (("network", model.network_fingerprint, network), ("codebook", model.codebook_fingerprint, codebook))
    for what, own, theirs in sums:
        if own != theirs:
            raise _refuse_maker(model, path, what, own, theirs)


def _refuse_maker(model: Model, path: pathlib.Path, what: str, own: str, theirs: str) -> MismatchError:
    if what == "codebook":
        size = model.codec.codebook_size
        called, remedy = f"this network with another codebook of {size} codes", "name the right one with -m"
    else:
        made_in = _find_named(model.path, theirs)
        called = made_in if made_in else f"of the fingerprint {theirs[:12]}"
        remedy = f"name it: -m {made_in}" if made_in else "name the right one with -m"
    return MismatchError(
        f"{path} was made by another tokenizer ({called}): its {what} has the fingerprint {theirs[:12]}, "
        f"that of {model.name} is {own[:12]}; {remedy}"
    )


def _find_named(model: pathlib.Path, network: str) -> str | None:
    """What to name with -m for this fingerprint: a run in ./runs or beside that of `model`, or a shipped tokenizer."""
    folders = (RUNS,) if find_label(model) else (RUNS, model.parent.parent)
    artifacts = [path for folder in folders for path in folder.glob(f"*/{ARTIFACT_NAME}")]
    artifacts += [path for each in artifacts for path in each.parent.glob("checkpoints/tokenizer-*.safetensors")]
    artifacts = [*(each.path for each in shipped.list_tokenizers()), *artifacts]
    for path in list(dict.fromkeys(artifacts))[:MOST_SEARCHED]:
        try:
            artifact = load_artifact(path)
        except (TokError, OSError):
            continue
        if compute_network_fingerprint(artifact.tokenizer, artifact.recipe) == network:
            return name_model(path.parent if path.name == ARTIFACT_NAME else path)
    return None


def pick_device(name: str) -> torch.device:
    """The device called `name`; auto takes CUDA, then MPS, then the CPU.

    Raises UsageError for a device that this machine does not have.
    """
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        return torch.device(next(kind for kind in ("cuda", "mps", "cpu") if available[kind]))
    if name not in available:
        raise UsageError(f"there is no device '{name}'; expected one of: {', '.join(DEVICES)}")
    if not available[name]:
        raise UsageError(f"this machine has no usable {name} device; try --device auto")
    return torch.device(name)


def pick_own_device(name: str) -> torch.device:
    """The device called `name`, of several GPUs the one of this worker: torchrun and `--processes` number them."""
    device = pick_device(name)
    if device.type == "cuda" and os.environ.get("LOCAL_RANK", "").isdecimal():
        return torch.device("cuda", int(os.environ["LOCAL_RANK"]) % torch.cuda.device_count())
    return device


def pick_batch_size(device: torch.device) -> int:
    """Items at a time where nobody said: enough to fill a GPU, few enough to keep a CPU's caches and memory calm."""
    return 8 if device.type == "cpu" else 32
