"""Opening a trained tokenizer: which one is meant, on which device, and files as it takes them.

A model is the one that is named, that of the environment, or the last finished run.
"""

import os
import pathlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from tokcli.artifacts import ARTIFACT_NAME, Artifact, load_artifact
from tokcli.artifacts.artifact import codebook_ready, use_codebook
from tokcli.artifacts.fingerprint import compute_fingerprints, compute_network_fingerprint
from tokcli.contracts import Source
from tokcli.data.modality import MODALITIES, Modality
from tokcli.errors import InputError, MismatchError, TokError, UsageError
from tokcli.progress import SILENT, Reporter
from tokcli.tokenizer import Tokenizer
from tokcli.tokens import TokenHeader

RUNS = pathlib.Path("runs")
VARIABLE = "TOK_MODEL"

DEVICES = ("auto", "cpu", "cuda", "mps")

WEIGHTS = {"ema": "averaged", "raw": "raw"}
"""What people read of the kinds of weights. The averaging is over training steps, not that of a codebook."""

NAMED = 5
"""Runs that an error names."""

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
        )


def open_model(
    model: str | None, device: torch.device, reporter: Reporter, codebook: int | None = None, need_tokens: bool = True
) -> Model:
    """Load the tokenizer that `model` means and say which it is.

    Args:
        model: a file or a run folder; None takes the one that `find_model` finds then.
        device: to put it on.
        reporter: is told which it is.
        codebook: which of the built ones, by its size; None takes the one in use when it was saved.
        need_tokens: refuse one whose codebook is still to be built.

    Raises:
        InputError: where there is none.
        MismatchError: where the file is no artifact of this version.
        UsageError: where it has no such codebook, or none yet.
    """
    path = find_model(model)
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
    reporter.note(f"model {model.path}: {artifact.recipe.quantizer['kind']}{codes}, {weights}, on {model.device}")


def open_maker(
    model: str | None, device: torch.device, reporter: Reporter, path: pathlib.Path, header: TokenHeader
) -> Model:
    """Load the tokenizer that made the tokens of `path`, with the codebook that they were made with.

    Raises what `open_model` does, and MismatchError where `model` means another tokenizer.
    """
    opened = open_model(model, device, SILENT, need_tokens=False)
    own = compute_network_fingerprint(opened.tokenizer, opened.artifact.recipe)
    if own != header.network_fingerprint:
        raise _refuse_maker(opened, path, "network", own, header.network_fingerprint)
    use_codebook(opened.tokenizer, header.codebook_size)
    require_maker(opened, path, header.network_fingerprint, header.codebook_fingerprint)
    tell_model(opened, reporter)
    return opened


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
        made_in = _find_run(model.path, theirs)
        called = str(made_in) if made_in else f"of the fingerprint {theirs[:12]}"
        remedy = f"name it: -m {made_in}" if made_in else "name the right one with -m"
    return MismatchError(
        f"{path} was made by another tokenizer ({called}): its {what} has the fingerprint {theirs[:12]}, "
        f"that of {model.path} is {own[:12]}; {remedy}"
    )


def _find_run(model: pathlib.Path, network: str) -> pathlib.Path | None:
    """A run in ./runs, or beside the run that `model` lies in, whose network has this fingerprint."""
    artifacts = [path for folder in (RUNS, model.parent.parent) for path in folder.glob(f"*/{ARTIFACT_NAME}")]
    artifacts += [path for each in artifacts for path in each.parent.glob("checkpoints/tokenizer-*.safetensors")]
    for path in list(dict.fromkeys(artifacts))[:MOST_SEARCHED]:
        try:
            artifact = load_artifact(path)
        except (TokError, OSError):
            continue
        if compute_network_fingerprint(artifact.tokenizer, artifact.recipe) == network:
            return path.parent if path.name == ARTIFACT_NAME else path
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


def pick_batch_size(device: torch.device) -> int:
    """Items at a time where nobody said: enough to fill a GPU, few enough to keep a CPU's caches and memory calm."""
    return 8 if device.type == "cpu" else 32


def find_model(model: str | None) -> pathlib.Path:
    """The artifact that `model` names (a file or a run folder), else $TOK_MODEL, else the last finished run in ./runs.

    Raises InputError where there is none, with the command that makes one.
    """
    named = model or os.environ.get(VARIABLE)
    if named:
        path = pathlib.Path(named)
        return _find_artifact(path) if path.is_dir() else _check_artifact(path)
    finished = sorted(RUNS.glob(f"*/{ARTIFACT_NAME}"), key=lambda path: path.stat().st_mtime)
    if not finished:
        raise InputError(
            f"no tokenizer was named, ${VARIABLE} is not set and ./{RUNS} holds no finished run; "
            "train one with: tok train quickstart"
        )
    return finished[-1]


def find_models(models: Sequence[str]) -> list[pathlib.Path]:
    """The artifacts that `models` name, as `find_model` finds one; without a name, the one that it finds then.

    Raises what `find_model` raises, with every problem in one message.
    """
    paths: list[pathlib.Path] = []
    problems: list[TokError] = []
    for model in models or [None]:
        try:
            paths.append(find_model(model))
        except TokError as problem:
            problems.append(problem)
    if problems:
        raise type(problems[0])("\n".join(str(problem) for problem in problems))
    return paths


def shorten_labels(artifacts: Sequence[pathlib.Path]) -> list[str]:
    """What each is called beside the others: its run's folder or its file, less the folders that all of them share."""
    paths = [path.parent if path.name == ARTIFACT_NAME and path.parent.name else path for path in artifacts]
    folders = [os.path.dirname(path) for path in paths]
    alike = len({os.path.isabs(folder) for folder in folders}) == 1
    shared = os.path.commonpath(folders) if alike else ""
    start = len(os.path.join(shared, "")) if shared else 0
    return [str(path)[start:] for path in paths]


def _check_artifact(path: pathlib.Path) -> pathlib.Path:
    if not path.is_file():
        raise InputError(f"there is no tokenizer at {path}; expected a .safetensors file or a run folder")
    if path.suffix != ".safetensors":
        raise MismatchError(f"{path} is no tokenizer; expected a .safetensors file or a run folder")
    return path


def _find_artifact(folder: pathlib.Path) -> pathlib.Path:
    """The artifact of a run folder. A folder of runs is no model: it says which runs it holds."""
    artifact = folder / ARTIFACT_NAME
    if artifact.is_file():
        return artifact
    begun = artifact.exists() or (folder / "recipe.yaml").exists()
    inside = [] if begun else sorted(path.parent.name for path in folder.glob(f"*/{ARTIFACT_NAME}"))
    if not inside:
        raise InputError(f"there is no tokenizer at {artifact}; has that run finished?")
    more = f" and {len(inside) - NAMED} more" if len(inside) > NAMED else ""
    raise InputError(
        f"{folder} is no run but a folder of finished runs: {', '.join(inside[:NAMED])}{more}; "
        f"name one of them, or compare all with: tok eval {folder}/*/"
    )
