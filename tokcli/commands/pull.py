"""`tok pull`: the tokenizer in a repository of a hub as a file of one's own."""

import pathlib
import shutil
from dataclasses import asdict, dataclass
from typing import Any

from tokcli import hub
from tokcli.artifacts import ARTIFACT_NAME, load_artifact
from tokcli.errors import UsageError
from tokcli.files import replacing, try_output
from tokcli.models import find_model, name_model
from tokcli.progress import SILENT, Reporter


@dataclass(frozen=True)
class Pulled:
    """A tokenizer that was brought here.

    Attributes:
        output: the file.
        model: `hf:USER/NAME@COMMIT`.
        licence: that it is under.
    """

    output: pathlib.Path
    model: str
    licence: str

    def to_json(self) -> dict[str, Any]:
        """The object that `--json` prints."""
        return asdict(self) | {"output": str(self.output)}


def pull(name: str, output: str | None = None, *, force: bool = False, reporter: Reporter = SILENT) -> Pulled:
    """Fetch a tokenizer and put it into a file.

    Args:
        name: USER/NAME, with `@REVISION` where it is not to be the newest.
        output: a .safetensors file, or a folder, which it lies in as in that of a run; None: NAME.safetensors here.
        force: overwrite what is there.
        reporter: is told what was fetched.

    Raises:
        InputError: it is not there, cannot be reached, or may not be read.
        MismatchError: the repository holds no tokenizer of tok, or a damaged one.
        UsageError: the output is there, or is no place for it.
    """
    named = hub.split_name(name.removeprefix(hub.PREFIX))
    target = pathlib.Path(output or f"{named.repository.partition('/')[2]}.safetensors")
    if target.suffix != ".safetensors":
        target = target / ARTIFACT_NAME
    try_output(target, (".safetensors",))
    if target.exists() and not force:
        raise UsageError(f"{target} is there; --force overwrites it")
    found = find_model(str(named), reporter=reporter)
    licence = load_artifact(found).recipe.licence
    with replacing(target) as unfinished:
        shutil.copyfile(found, unfinished)
    return Pulled(target, name_model(found), licence)
