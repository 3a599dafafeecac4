"""`tok import FILE --as PUBLISHER`: weights of somebody else's tokenizer become an artifact like any other.

checkpoint -> tensors, nothing run -> a tokenizer of ours, every tensor in its place -> artifact
"""

import hashlib
import pathlib
from dataclasses import dataclass
from typing import Any

from tokcli.artifacts import Artifact, save_artifact
from tokcli.artifacts.artifact import lock_of
from tokcli.errors import UsageError
from tokcli.files import require_regular, try_output
from tokcli.foreign_weights import UNKNOWN, convert, find_naming, read_weights
from tokcli.locking import wait
from tokcli.progress import SILENT, Reporter


@dataclass(frozen=True)
class ImportedWeights:
    """An artifact made of somebody's weights.

    Attributes:
        output: the artifact.
        publisher: whose they are, as `--as` says it.
        tensors: of the file that are in it.
        ignored: tensors of the file that tokens and pictures do not depend on.
        parameters: numbers that it has learnt.
        codebook_size: codes.
        stride: pixels of a position, along each axis.
        licence: of the weights.
        sha256: of the file that they were in.
    """

    output: pathlib.Path
    publisher: str
    tensors: int
    ignored: int
    parameters: int
    codebook_size: int
    stride: int
    licence: str
    sha256: str

    def to_json(self) -> dict[str, Any]:
        """The object that `--json` prints."""
        return vars(self) | {"output": str(self.output)}


def import_weights(
    source: str,
    output: str,
    *,
    publisher: str,
    licence: str | None = None,
    force: bool = False,
    reporter: Reporter = SILENT,
) -> ImportedWeights:
    """Make an artifact of a published checkpoint.

    Args:
        source: the file, .pt, .ckpt or .safetensors.
        output: the artifact, .safetensors.
        publisher: whose names its tensors have: llamagen or taming.
        licence: of the weights, as `mit`; None: unknown.
        force: overwrite what is there.
        reporter: is told what happens.

    Raises:
        UsageError: there is no such publisher, or the output is in the way.
        InputError: there is no such file.
        MismatchError: it is no such checkpoint.
    """
    path, target = pathlib.Path(source), pathlib.Path(output)
    find_naming(publisher)
    require_regular(path)
    try_output(target, (".safetensors",))
    if target.exists() and target.samefile(path):
        raise UsageError(f"{target} is the file that is imported; name another one for the artifact")
    if target.exists() and not force:
        raise UsageError(f"{target} is there; --force overwrites it")
    foreign = convert(path, read_weights(path), publisher, licence)
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    imported = {"publisher": publisher, "file": path.name, "sha256": digest}
    with wait(lock_of(target), target, reporter):
        save_artifact(target, Artifact(foreign.tokenizer, foreign.recipe, "raw", training={"imported": imported}))
    return ImportedWeights(
        target,
        publisher,
        foreign.tensors,
        foreign.ignored,
        sum(value.numel() for value in foreign.tokenizer.parameters()),
        foreign.tokenizer.codebook_size,
        foreign.tokenizer.autoencoder.stride,
        licence or UNKNOWN,
        digest,
    )
