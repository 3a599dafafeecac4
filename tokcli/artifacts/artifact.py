"""The artifact: weights, codebooks and the recipe they came from, in one strict safetensors file.

The metadata is JSON text by key: `format`, `recipe` (resolved), `weights` (ema or raw), `codebooks` (what was built),
`codebook` (the one in use), `licence` and, where there are any, `credits`, `training` (a summary of the run), `storage`
(of the network's weights, where that is not float32: see `storage.py`), `digest` (a sha256 sum of all the others and of
the tensors; files of older versions have none).

An artifact may be a stranger's. Nothing is believed: what the metadata says is checked first, then the tokenizer is
built, which stops at a tensor or a part that the file could not fill (`promises.py`), and only then are the file's
tensors read.
"""

import json
import pathlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

from tokcli.artifacts.fingerprint import digest_tensors
from tokcli.artifacts.promises import build_as_promised, load_strictly
from tokcli.artifacts.storage import DTYPES, STORAGES, Storage, list_weights
from tokcli.artifacts.tensors import TensorFile, read_metadata, read_promises, read_tensors, write_tensors
from tokcli.contracts import BuildsCodebook, CodebookReport
from tokcli.errors import MismatchError, RecipeError, UsageError, quote
from tokcli.locking import lock_beside
from tokcli.numerics import lay_out
from tokcli.recipe.recipe import Recipe, from_artifact
from tokcli.schema import find_argument_problems
from tokcli.tokenizer import Tokenizer
from tokcli.untrusted import check_plain, parse_json

FORMAT = "tok-artifact/1"

LONGEST_METADATA = 1 << 26
"""Bytes of one entry of the metadata."""

ARTIFACT_NAME = "tokenizer.safetensors"
"""What an artifact is called in the folder of its run."""


@dataclass(frozen=True)
class Artifact:
    """A trained tokenizer and where it comes from.

    Attributes:
        tokenizer: the autoencoder and the quantizer, with their weights.
        recipe: it was trained by. Parts that only training needs may be of kinds that this installation does not know.
        weights: whether they are the averaged ones.
        codebooks: reports of those built after training.
        training: summary of the run, plain JSON values.
        storage: of the network's weights in the file; other than float32, they must have been rounded to it.
    """

    tokenizer: Tokenizer
    recipe: Recipe
    weights: Literal["ema", "raw"]
    codebooks: Sequence[CodebookReport] = ()
    training: Mapping[str, Any] = field(default_factory=dict)
    storage: Storage = "float32"


def save_artifact(path: pathlib.Path, artifact: Artifact) -> None:
    """Write the artifact whole or not at all. Raises OSError where that cannot be done."""
    quantizer = artifact.tokenizer.quantizer
    metadata = {
        "format": FORMAT,
        "recipe": artifact.recipe.to_dict(),
        "weights": artifact.weights,
        "codebooks": [asdict(report) for report in artifact.codebooks],
        "codebook": quantizer.codebook_size if codebook_ready(artifact.tokenizer) else None,
        "licence": artifact.recipe.licence,
        "training": dict(artifact.training),
    }
    metadata |= {"credits": artifact.recipe.credits} if artifact.recipe.credits else {}
    metadata |= {"storage": artifact.storage} if artifact.storage != "float32" else {}
    words = {key: json.dumps(value) for key, value in metadata.items()}
    tensors = _narrow(select_tensors(artifact.tokenizer), artifact)
    write_tensors(path, tensors, words | {"digest": json.dumps(digest_of(tensors, words))})


def load_artifact(path: str | pathlib.Path, codebook: int | None = None) -> Artifact:
    """Read an artifact strictly, in evaluation mode, on the CPU.

    Only the autoencoder and the quantizer are built, so a model can be used where a loss or a metric that it was
    trained with is not installed.

    Args:
        path: of the file, or of the folder of a finished run.
        codebook: which of the built ones to use, by its size; None takes the one that was in use when it was saved.

    Raises:
        InputError: where there is no file.
        MismatchError: where it is not an artifact, is corrupt, lacks or adds a tensor, or has one that is not finite.
        UsageError: where it has no such codebook.
    """
    path = _file_of(path)
    metadata = _parse_metadata(path, read_metadata(path))
    try:
        recipe = from_artifact(metadata["recipe"])
        tokenizer = build_as_promised(path, recipe, read_promises(path))
    except RecipeError as error:
        raise _unbuildable(path, error) from error
    file = read_tensors(path)
    _check_content(path, file)
    storage = metadata.get("storage", "float32")
    load_strictly(path, tokenizer, file.tensors, dict.fromkeys(list_weights(tokenizer), DTYPES[storage]))
    tokenizer.eval().requires_grad_(False)
    # As it was trained: for large convolutions a third faster.
    lay_out(tokenizer, recipe.training.channels_last)
    reports = [CodebookReport(**report) for report in metadata["codebooks"]]
    try:
        use_codebook(tokenizer, codebook or metadata["codebook"])
    except UsageError as error:
        raise error if codebook is not None else MismatchError(f"{path} is damaged: {error}") from error
    return Artifact(tokenizer, recipe, metadata["weights"], reports, metadata["training"], storage)


def lock_of(path: pathlib.Path) -> pathlib.Path:
    """The lock file of the artifact `path`: that of the run, where it lies in one."""
    return path.parent / ".tok-lock" if path.name == ARTIFACT_NAME else lock_beside(path)


def read_recipe(path: str | pathlib.Path) -> Recipe:
    """The recipe of an artifact or of a run folder's, without its tensors. Raises as `load_artifact` does."""
    path = _file_of(path)
    try:
        return from_artifact(_parse_metadata(path, read_metadata(path))["recipe"])
    except RecipeError as error:
        raise _unbuildable(path, error) from error


def codebook_ready(tokenizer: Tokenizer) -> bool:
    """Whether the tokenizer can give tokens: always, but for those whose codebook is still to be built."""
    quantizer = tokenizer.quantizer
    return not isinstance(quantizer, BuildsCodebook) or quantizer.codebook_ready


def use_codebook(tokenizer: Tokenizer, size: int | None) -> None:
    """Use the codebook of `size` codes; None leaves the one in use.

    Raises:
        UsageError: where there is none, with what can be done about it.
    """
    quantizer = tokenizer.quantizer
    if size is None or (size == quantizer.codebook_size and codebook_ready(tokenizer)):
        return
    if size not in quantizer.codebooks:
        have = ", ".join(map(str, quantizer.codebooks)) or "none"
        way_on = (
            f"tok build-codebook --size {size}"
            if isinstance(quantizer, BuildsCodebook) and quantizer.any_size
            else "this quantizer makes no other; leave the size out, or train with another one"
        )
        raise UsageError(f"this tokenizer has no codebook of {size} codes (it has: {have}); {way_on}")
    if isinstance(quantizer, BuildsCodebook):
        quantizer.use_codebook(size)


def select_tensors(tokenizer: Tokenizer) -> dict[str, Tensor]:
    """The tensors an artifact holds: all but the quantizer's buffers that serve training alone."""
    training_only = {f"quantizer.{name}" for name in tokenizer.quantizer.training_only}
    return {name: tensor for name, tensor in tokenizer.state_dict().items() if name not in training_only}


def _narrow(tensors: Mapping[str, Tensor], artifact: Artifact) -> dict[str, Tensor]:
    """The tensors as the artifact stores them. Raises ValueError where that would change one: a mistake of ours."""
    narrow = dict(tensors)
    if artifact.storage == "float32":
        return narrow
    for name in list_weights(artifact.tokenizer):
        narrow[name] = tensors[name].to(DTYPES[artifact.storage])
        if not torch.equal(narrow[name].float(), tensors[name]):
            raise ValueError(f"{name} was not rounded to {artifact.storage} before it was saved")
    return narrow


def _file_of(path: str | pathlib.Path) -> pathlib.Path:
    """The file that `path` stands for: itself, or the artifact in a run folder."""
    path = pathlib.Path(path)
    return path / ARTIFACT_NAME if path.is_dir() else path


def digest_of(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> str:
    """sha256 of everything an artifact holds but this sum itself, hexadecimal."""
    words = {key: value for key, value in metadata.items() if key != "digest"}
    return digest_tensors(tensors, json.dumps(words, sort_keys=True))


def _check_content(path: pathlib.Path, file: TensorFile) -> None:
    """Refuse, with a MismatchError, weights that are not those that were saved or that no signal survives."""
    stored = file.metadata.get("digest")
    if stored is not None and stored != json.dumps(digest_of(file.tensors, file.metadata)):
        raise MismatchError(
            f"{path} is damaged: its content is not what was saved, by the sum it carries; copy it anew"
        )
    for name, tensor in file.tensors.items():
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            raise MismatchError(f"{path} is of no use: the tensor {name} holds values that are not finite")


def _parse_metadata(path: pathlib.Path, metadata: Mapping[str, str]) -> dict[str, Any]:
    values = {}
    for key, text in metadata.items():
        try:
            values[key] = parse_json(text, LONGEST_METADATA)
            check_plain(values[key])
        except ValueError as error:
            raise MismatchError(
                f"{path} is a safetensors file, but not a tok artifact (metadata is not JSON that can be read: "
                f"{quote(key)}: {error})"
            ) from error
    if values.get("format") != FORMAT:
        other = values.get("format", "no format")
        raise MismatchError(f"{path} is not a tok artifact: expected the format {FORMAT}, found {quote(other)}")
    missing = {"recipe", "weights", "codebooks", "codebook", "training"} - values.keys()
    if missing:
        raise MismatchError(f"{path} is a damaged artifact: its metadata lacks {', '.join(sorted(missing))}")
    problems = _find_problems(values)
    if problems:
        raise MismatchError(f"{path} is a damaged artifact: its metadata has {'; '.join(problems)}")
    return values


def _find_problems(values: Mapping[str, Any]) -> list[str]:
    """What is of another type than an artifact has it, but for the recipe, which has a reader of its own."""
    problems = []
    if values["weights"] not in ("ema", "raw"):
        problems.append(f"the weights {quote(values['weights'])}, which are neither ema nor raw")
    storage = values.get("storage", "float32")
    if storage not in STORAGES:
        problems.append(f"the storage {quote(storage)}, which is none of {', '.join(STORAGES)}")
    codebook = values["codebook"]
    if codebook is not None and (type(codebook) is not int or codebook < 1):
        problems.append(f"the codebook {quote(codebook)}, which is no size")
    training = values["training"]
    if not isinstance(training, dict) or not isinstance(training.get("metrics", {}), dict):
        problems.append(f"the training {quote(training)}, which is no summary of one")
    codebooks = values["codebooks"]
    if not isinstance(codebooks, list) or not all(isinstance(report, dict) for report in codebooks):
        return [*problems, f"the codebooks {quote(codebooks)}, which are no list of reports"]
    for index, report in enumerate(codebooks):
        problems += find_argument_problems(CodebookReport, report, f"codebooks.{index}", "a report")
    return problems


def _unbuildable(path: pathlib.Path, error: RecipeError) -> MismatchError:
    return MismatchError(f"{path} holds a recipe that this version cannot build: {error}")
