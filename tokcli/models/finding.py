"""Which trained tokenizer a command means: the one named, that of the environment, the last run, or a shipped one.

Nothing is opened here.
"""

import os
import pathlib
from collections.abc import Sequence

from tokcli import shipped
from tokcli.artifacts import ARTIFACT_NAME
from tokcli.data.expansion import STANDARD_INPUT
from tokcli.data.modality import MODALITIES, count_files
from tokcli.errors import InputError, MismatchError, TokError
from tokcli.progress import SILENT, Reporter

RUNS = pathlib.Path("runs")
VARIABLE = "TOK_MODEL"

NAMED = 5
"""Runs, or inputs, that an error names."""


def find_model(model: str | None, inputs: Sequence[str] = (), reporter: Reporter = SILENT) -> pathlib.Path:
    """The artifact that is meant: that of `model`, else of $TOK_MODEL, else of the last finished run in ./runs.

    Where there is none of these, the shipped tokenizer for such files as `inputs` are. A run that lies here under a
    shipped name is what that name means; `photo@1`, and any folder that is no run, leave it to the shipped one.

    Args:
        model: a file, a run folder, or the name of a shipped tokenizer: `photo`, or `photo@1` for that very version.
        inputs: folders, files, patterns and lists that it is for; none where there are none.
        reporter: is told which shipped tokenizer was chosen by the inputs.

    Raises:
        InputError: where there is none, with what to do.
    """
    named = model or os.environ.get(VARIABLE)
    if named:
        path = pathlib.Path(named)
        if shipped.is_name(named) and not _holds_runs(path):
            return shipped.find_tokenizer(named).path
        return _find_artifact(path) if path.is_dir() else _check_artifact(path)
    finished = list_finished()
    if finished:
        return finished[-1]
    return _choose_shipped(inputs, reporter)


def list_finished() -> list[pathlib.Path]:
    """The artifacts in ./runs, the last one written last."""
    return sorted(RUNS.glob(f"*/{ARTIFACT_NAME}"), key=lambda path: path.stat().st_mtime)


def _holds_runs(folder: pathlib.Path) -> bool:
    """Whether this is a run, finished or not, or a folder of runs."""
    places = (folder / ARTIFACT_NAME, folder / "recipe.yaml")
    return any(place.exists() for place in places) or any(folder.glob(f"*/{ARTIFACT_NAME}"))


def explain_absence() -> InputError:
    """The error where nobody names a model and none can be found, with what there is to do."""
    names = " or ".join(f"-m {name}" for name in shipped.list_names())
    ways = f"name one that comes with tok ({names}), or train one" if names else "train one"
    return InputError(
        f"no tokenizer was named, ${VARIABLE} is not set and ./{RUNS} holds no finished run; "
        f"{ways} with: tok train quickstart"
    )


def _choose_shipped(inputs: Sequence[str], reporter: Reporter) -> pathlib.Path:
    """The shipped tokenizer for the modality of the inputs. Raises InputError where they leave that open."""
    if not inputs or not shipped.list_tokenizers():
        raise explain_absence()
    ways = " or ".join(f"-m {name}" for name in shipped.DEFAULTS.values())
    if STANDARD_INPUT in inputs:
        raise InputError(f"a list on standard input is read once, for the files that it names; say {ways}")
    counts = count_files(inputs)
    if len(counts) != 1:
        given = " ".join(inputs[:NAMED])
        words = [f"{count} {MODALITIES[name].nouns[count != 1]}" for name, count in counts.items()]
        raise InputError(f"{given}: there are {' and '.join(words) or 'no pictures and no sounds'} here; say {ways}")
    (modality,) = counts
    chosen = shipped.find_tokenizer(shipped.DEFAULTS[modality])
    reporter.note(
        f"no tokenizer was named and ./{RUNS} holds no finished run: {chosen.label}, which comes with tok, is taken "
        f"for {MODALITIES[modality].nouns[1]}"
    )
    return chosen.path


def name_model(path: pathlib.Path) -> str:
    """What people call the artifact `path`: `photo@1` where it comes with tok, else its path."""
    return shipped.find_label(path) or str(path)


def find_models(models: Sequence[str], inputs: Sequence[str] = (), reporter: Reporter = SILENT) -> list[pathlib.Path]:
    """The artifacts that `models` name, as `find_model` finds one; without a name, the one that it finds then.

    Raises what `find_model` raises, with every problem in one message.
    """
    paths: list[pathlib.Path] = []
    problems: list[TokError] = []
    for model in models or [None]:
        try:
            paths.append(find_model(model, inputs, reporter))
        except TokError as problem:
            problems.append(problem)
    if problems:
        raise type(problems[0])("\n".join(str(problem) for problem in problems))
    return paths


def shorten_labels(artifacts: Sequence[pathlib.Path]) -> list[str]:
    """What each is called beside the others: its run's folder or its file, less the folders that all of them share."""
    named = [pathlib.Path(name_model(path)) for path in artifacts]
    paths = [path.parent if path.name == ARTIFACT_NAME and path.parent.name else path for path in named]
    folders = [os.path.dirname(path) for path in paths]
    alike = len({os.path.isabs(folder) for folder in folders}) == 1
    shared = os.path.commonpath(folders) if alike else ""
    start = len(os.path.join(shared, "")) if shared else 0
    return [str(path)[start:] for path in paths]


def _check_artifact(path: pathlib.Path) -> pathlib.Path:
    if not path.is_file():
        names = shipped.list_names() if path.name == str(path) else []
        others = f", or one of: {', '.join(names)}" if names else ""
        raise InputError(f"there is no tokenizer at {path}; expected a .safetensors file or a run folder{others}")
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
