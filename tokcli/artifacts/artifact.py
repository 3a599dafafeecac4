"""The artifact: weights, codebooks and the recipe they came from, in one strict safetensors file.

The metadata is JSON text by key: `format`, `recipe` (resolved), `weights` (ema or raw), `codebooks` (what was built),
`codebook` (the one in use), `licence`, `training` (a summary of the run).
"""

import json
import pathlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from torch import Tensor

from tokcli.artifacts.tensors import read_metadata, read_tensors, write_tensors
from tokcli.contracts import BuildsCodebook, CodebookReport
from tokcli.errors import MismatchError, RecipeError, UsageError
from tokcli.locking import lock_beside
from tokcli.recipe.build import build_tokenizer
from tokcli.recipe.recipe import Recipe, from_artifact
from tokcli.tokenizer import Tokenizer

FORMAT = "tok-artifact/1"

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
    """

    tokenizer: Tokenizer
    recipe: Recipe
    weights: Literal["ema", "raw"]
    codebooks: Sequence[CodebookReport] = ()
    training: Mapping[str, Any] = field(default_factory=dict)


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
    write_tensors(path, kept_tensors(artifact.tokenizer), {key: json.dumps(value) for key, value in metadata.items()})


def load_artifact(path: str | pathlib.Path, codebook: int | None = None) -> Artifact:
    """Read an artifact strictly, in evaluation mode, on the CPU.

    Only the autoencoder and the quantizer are built, so a model can be used where a loss or a metric that it was
    trained with is not installed.

    Args:
        path: of the file, or of the folder of a finished run.
        codebook: which of the built ones to use, by its size; None takes the one that was in use when it was saved.

    Raises:
        InputError: where there is no file.
        MismatchError: where it is not an artifact, is corrupt, or lacks or adds a tensor.
        UsageError: where it has no such codebook.
    """
    path = _file_of(path)
    file = read_tensors(path)
    metadata = _parse_metadata(path, file.metadata)
    try:
        recipe = from_artifact(metadata["recipe"])
        tokenizer = build_tokenizer(recipe)
    except RecipeError as error:
        raise _unbuildable(path, error) from error
    _load_strictly(path, tokenizer, file.tensors)
    tokenizer.eval().requires_grad_(False)
    reports = [CodebookReport(**report) for report in metadata["codebooks"]]
    _use_codebook(tokenizer, codebook or metadata["codebook"], asked=codebook is not None)
    return Artifact(tokenizer, recipe, metadata["weights"], reports, metadata["training"])


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


def kept_tensors(tokenizer: Tokenizer) -> dict[str, Tensor]:
    """The tensors an artifact holds: all but the quantizer's buffers that serve training alone."""
    training_only = {f"quantizer.{name}" for name in tokenizer.quantizer.training_only}
    return {name: tensor for name, tensor in tokenizer.state_dict().items() if name not in training_only}


def _file_of(path: str | pathlib.Path) -> pathlib.Path:
    """The file that `path` stands for: itself, or the artifact in a run folder."""
    path = pathlib.Path(path)
    return path / ARTIFACT_NAME if path.is_dir() else path


def _parse_metadata(path: pathlib.Path, metadata: Mapping[str, str]) -> dict[str, Any]:
    try:
        values = {key: json.loads(value) for key, value in metadata.items()}
    except json.JSONDecodeError as error:
        raise MismatchError(f"{path} is a safetensors file, but not a tok artifact (metadata is not JSON)") from error
    if values.get("format") != FORMAT:
        other = values.get("format", "no format")
        raise MismatchError(f"{path} is not a tok artifact: expected the format {FORMAT}, found {other}")
    missing = {"recipe", "weights", "codebooks", "codebook", "training"} - values.keys()
    if missing:
        raise MismatchError(f"{path} is a damaged artifact: its metadata lacks {', '.join(sorted(missing))}")
    return values


def _unbuildable(path: pathlib.Path, error: RecipeError) -> MismatchError:
    return MismatchError(f"{path} holds a recipe that this version cannot build: {error}")


def _load_strictly(path: pathlib.Path, tokenizer: Tokenizer, tensors: Mapping[str, Tensor]) -> None:
    training_only = {f"quantizer.{name}" for name in tokenizer.quantizer.training_only}
    try:
        outcome = tokenizer.load_state_dict(dict(tensors), strict=False)
    except RuntimeError as error:
        raise MismatchError(f"{path}: a tensor does not have the shape its recipe asks for: {error}") from error
    missing = sorted(set(outcome.missing_keys) - training_only)
    if missing:
        raise MismatchError(f"{path} is damaged: it lacks {len(missing)} tensors, the first is {missing[0]}")
    if outcome.unexpected_keys:
        raise MismatchError(f"{path} is damaged: it has tensors its recipe does not name: {outcome.unexpected_keys[0]}")


def _use_codebook(tokenizer: Tokenizer, size: int | None, asked: bool) -> None:
    quantizer = tokenizer.quantizer
    if size is None or (size == quantizer.codebook_size and codebook_ready(tokenizer)):
        return
    if isinstance(quantizer, BuildsCodebook) and size in quantizer.codebooks:
        quantizer.use_codebook(size)
        return
    have = quantizer.codebooks if isinstance(quantizer, BuildsCodebook) else (quantizer.codebook_size,)
    have = ", ".join(map(str, have)) or "none"
    error = UsageError if asked else MismatchError
    raise error(f"this tokenizer has no codebook of {size} codes (it has: {have}); tok build-codebook --size {size}")
