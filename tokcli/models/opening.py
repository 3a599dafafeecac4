"""Opening a trained tokenizer: on which device, with which codebook, and files as it takes them."""

import os
import pathlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from tokcli import shipped
from tokcli.artifacts import ARTIFACT_NAME, Artifact, load_artifact
from tokcli.artifacts.artifact import codebook_ready, use_codebook
from tokcli.artifacts.fingerprint import compute_fingerprints, compute_network_fingerprint
from tokcli.contracts import Source
from tokcli.data.modality import MODALITIES, Modality
from tokcli.errors import InputError, MismatchError, TokError, UsageError, quote
from tokcli.models.finding import RUNS, VARIABLE, explain_absence, find_model, list_finished, name_model
from tokcli.progress import SILENT, Reporter
from tokcli.tokenizer import Tokenizer
from tokcli.tokens import TokenHeader

DEVICES = ("auto", "cpu", "cuda", "mps")

WEIGHTS = {"ema": "averaged", "raw": "raw"}
"""What people read of the kinds of weights. The averaging is over training steps, not that of a codebook."""

MOST_SEARCHED = 20
"""Runs that are opened to find out which one made some tokens."""


@dataclass(frozen=True)
class Model:
    """A loaded tokenizer on its device, and the file it came from.

    Attributes:
        path: of the artifact.
        artifact: the tokenizer with its recipe.
        device: that it is on.
    """

    path: pathlib.Path
    artifact: Artifact
    device: torch.device

    @property
    def name(self) -> str:
        """What people call it: `photo@1` where it comes with tok, else its path."""
        return name_model(self.path)

    @property
    def short_name(self) -> str:
        """The shortest that -m takes for it: `photo@1`, the folder of its run, or its file."""
        return str(self.path.parent) if self.path.name == ARTIFACT_NAME else self.name

    @property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer itself."""
        return self.artifact.tokenizer

    @property
    def modality(self) -> Modality:
        """What its signals are, and all that follows from that."""
        return MODALITIES[self.tokenizer.modality]

    @property
    def trained_size(self) -> int | None:
        """The size that its recipe evaluates at, which it was made to be good at; None where items keep their own."""
        return self.artifact.recipe.eval_data.get("size")

    @property
    def default_size(self) -> int | None:
        """The size that files are brought to where nobody names one; None where they keep their own."""
        return self.modality.default_size(self.trained_size)

    def open_source(self, inputs: Sequence[str], size: int | None) -> Source:
        """The files that folders, files and lists stand for, as the model takes them.

        Args:
            inputs: folders, single files and .txt lists of files.
            size: that each item is brought to, in samples; None leaves it at its own.

        Raises:
            InputError: where there are none.
        """
        return self.modality.open_source(inputs, size, self.tokenizer.autoencoder.sample_rate)

    def describe_tokens(self, preprocessing: Mapping[str, Any]) -> TokenHeader:
        """What a file of its tokens says about it, and about what was done to the signals before it."""
        tokenizer = self.tokenizer
        sums = compute_fingerprints(tokenizer, self.artifact.recipe)
        return TokenHeader(
            codebook_size=tokenizer.quantizer.codebook_size,
            groups=tokenizer.quantizer.groups,
            modality=tokenizer.modality,
            network_fingerprint=sums.network,
            codebook_fingerprint=sums.codebook,
            weights=self.artifact.weights,
            preprocessing=dict(preprocessing),
            sample_rate=tokenizer.autoencoder.sample_rate,
            model=shipped.find_label(self.path),
        )


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
        model: a file, a run folder or a shipped name; None takes the one that `find_model` finds then.
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
    path = find_model(model, inputs, reporter)
    artifact = load_artifact(path, codebook)
    ready = codebook_ready(artifact.tokenizer)
    if need_tokens and not ready:
        raise UsageError(f"the tokenizer {path} has no codebook yet; run: tok build-codebook {path}")
    artifact.tokenizer.to(device)
    opened = Model(path, artifact, device)
    tell_model(opened, reporter)
    return opened


def tell_model(model: Model, reporter: Reporter) -> None:
    """Note which model it is."""
    artifact, quantizer = model.artifact, model.tokenizer.quantizer
    codes = f", {quantizer.codebook_size} codes" if codebook_ready(model.tokenizer) else ", no codebook yet"
    weights = f"{WEIGHTS[artifact.weights]} weights"
    reporter.note(f"model {model.name}: {artifact.recipe.quantizer['kind']}{codes}, {weights}, on {model.device}")


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
        own = compute_network_fingerprint(opened.tokenizer, opened.artifact.recipe)
        if own == header.network_fingerprint:
            break
        refusals.append((opened, own))
    else:
        opened, own = refusals[0]
        raise _refuse_maker(opened, path, "network", own, header.network_fingerprint)
    use_codebook(opened.tokenizer, header.codebook_size)
    require_maker(opened, path, header.network_fingerprint, header.codebook_fingerprint)
    tell_model(opened, reporter)
    return opened


def choose_named(model: str | None, recorded: Any) -> str | None:
    """The model that tokens without a header are of, as far as anybody says: the caller, the environment, `recorded`.

    Args:
        model: that the caller names.
        recorded: what an export keeps of the model that made its tokens; it may be anything.
    """
    known = isinstance(recorded, str) and recorded in {each.label for each in shipped.list_tokenizers()}
    return model or os.environ.get(VARIABLE) or (str(shipped.find_tokenizer(recorded).path) if known else None)


def _list_makers(path: pathlib.Path, header: TokenHeader) -> list[str]:
    """What may have made the tokens of `path`, where nobody names it: whom they name, the last run, all shipped ones.

    Fingerprints decide among these. Raises InputError where there is none.
    """
    own = [str(each.path) for each in shipped.list_tokenizers() if each.label == header.model]
    finished = list_finished()
    others = [str(each.path) for each in shipped.list_tokenizers()]
    if header.model is not None and not own and not finished:
        raise InputError(
            f"{path} was made by {quote(header.model)}, which comes with another version of tok: install that, or name "
            "the file of the tokenizer with -m"
        )
    makers = list(dict.fromkeys([*own, *(str(each) for each in finished[-1:]), *others]))
    if not makers:
        raise explain_absence()
    return makers


def require_maker(model: Model, path: pathlib.Path, network: str, codebook: str) -> None:
    """Refuse, with a MismatchError, tokens that carry other fingerprints than `model` has.

    Args:
        model: that is to decode them.
        path: of the tokens.
        network: the fingerprint of the network that they carry.
        codebook: that of the codebook.
    """
    sums = compute_fingerprints(model.tokenizer, model.artifact.recipe)
    for what, own, theirs in (("network", sums.network, network), ("codebook", sums.codebook, codebook)):
        if own != theirs:
            raise _refuse_maker(model, path, what, own, theirs)


def _refuse_maker(model: Model, path: pathlib.Path, what: str, own: str, theirs: str) -> MismatchError:
    if what == "codebook":
        size = model.tokenizer.quantizer.codebook_size
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
    folders = (RUNS,) if shipped.find_label(model) else (RUNS, model.parent.parent)
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
