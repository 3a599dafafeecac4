"""Which trained tokenizer a command means: the one named, that of the environment, the last run, or a shipped one.

Nothing is opened here; a repository of a hub is fetched.
"""

import dataclasses
import os
import pathlib
from collections.abc import Sequence

from tokcli import hub, shipped
from tokcli.artifacts import ARTIFACT_NAME
from tokcli.data.expansion import STANDARD_INPUT
from tokcli.data.modality import MODALITIES, count_files
from tokcli.errors import InputError, MismatchError, TokError, UsageError
from tokcli.files import read_text
from tokcli.progress import SILENT, Reporter
from tokcli.published import KINDS, find_place, is_known, split_choice
from tokcli.untrusted import parse_json

RUNS = pathlib.Path("runs")
VARIABLE = "TOK_MODEL"

NAMED = 5
"""Runs, or inputs, that an error names."""

DIGITS = 12
"""Of a commit, in a table."""

LIBRARY = "tok"
CONFIG_NAME = "config.json"
"""The file in a repository that says under `library_name` whose it is."""

LONGEST_CONFIG = 1 << 20
"""Bytes."""


def find_model(model: str | None, inputs: Sequence[str] = (), reporter: Reporter = SILENT) -> pathlib.Path:
    """The artifact that is meant: that of `model`, else of $TOK_MODEL, else of the last finished run in ./runs.

    Where there is none of these, the shipped tokenizer for such files as `inputs` are. A run that lies here under a
    shipped name is what that name means; `photo@1`, and any folder that is no run, leave it to the shipped one.

    What another library ships is found by its folder, with a number behind an @ where there is something to choose;
    the path that comes back is that very name.

    Args:
        model: a file, a run folder, a folder of `save_pretrained`, the name of a shipped tokenizer (`photo`, or
            `photo@1` for that very version), or a repository of a hub: `hf:USER/NAME`, or `hf:USER/NAME@REVISION`.
        inputs: folders, files, patterns and lists that it is for; none where there are none.
        reporter: is told which shipped tokenizer was chosen by the inputs.

    Raises:
        InputError: where there is none, with what to do.
        MismatchError: where what there is holds no tokenizer.
    """
    named = model or os.environ.get(VARIABLE)
    if named:
        path = pathlib.Path(named)
        if hub.is_name(named):
            return _find_shared(named)
        if shipped.is_name(named) and not _holds_runs(path):
            return shipped.find_tokenizer(named).path
        if path.is_dir() and (path / ARTIFACT_NAME).is_file():
            return path / ARTIFACT_NAME
        if find_place(named) is not None:
            return path
        return _find_artifact(path) if path.is_dir() else _check_artifact(path)
    finished = list_finished()
    if finished:
        return finished[-1]
    return _choose_shipped(inputs, reporter)


def require_trained(path: pathlib.Path) -> pathlib.Path:
    """The path of an artifact itself. Raises UsageError where another library ships what lies there."""
    if find_place(str(path)) is not None and path.suffix != ".safetensors":
        raise UsageError(
            f"{path} was published for another library, which alone knows its parts: it can be judged, encode and "
            "decode; a tokenizer to build on is an artifact of tok"
        )
    return path


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


def _find_shared(named: str) -> pathlib.Path:
    """The artifact in a repository of a hub, at the commit that its revision stands for now; or the folder of it.

    The latter where another library ships it, with its number behind an @.
    """
    name = hub.split_name(named)
    folder = hub.fetch(name.repository, name.revision).folder
    artifacts = sorted(folder.glob("*.safetensors"))
    own = [path for path in artifacts if path.name == ARTIFACT_NAME] or artifacts
    if len(own) == 1 and _names_tok(folder):
        if name.choice is not None:
            raise UsageError(
                f"{named}: the number {name.choice} chooses among the rates of a published codec; leave it out"
            )
        return own[0]
    published = f"{folder}@{name.choice}" if name.choice is not None else str(folder)
    place = find_place(published)
    if place is not None and is_known(place):
        return pathlib.Path(published)
    raise MismatchError(
        f"{named} holds no tokenizer that tok push has shared: expected {ARTIFACT_NAME} and a config.json with the "
        f"library_name {LIBRARY}, or a model of one of these kinds: {', '.join(KINDS)}"
    )


def _names_tok(folder: pathlib.Path) -> bool:
    """Whether the config.json of a repository says that it is for this program."""
    try:
        config = parse_json(read_text(folder / CONFIG_NAME, LONGEST_CONFIG))
    except (OSError, ValueError, InputError):
        return False
    return isinstance(config, dict) and config.get("library_name") == LIBRARY


def find_recorded(label: str) -> pathlib.Path | None:
    """The artifact that a label of `find_label` means, where it lies on this machine; nothing is fetched.

    What tokens say of their maker may be a stranger's word, which sends nobody to a network.
    """
    for each in shipped.list_tokenizers():
        if each.label == label:
            return each.path
    if not hub.is_name(label):
        return None
    try:
        name = hub.split_name(label)
        cached = hub.find_cached(name.repository, name.revision)
    except TokError:
        return None
    found = sorted(cached.folder.glob("*.safetensors")) if cached else []
    return found[0] if len(found) == 1 else None


def find_label(path: pathlib.Path) -> str | None:
    """`photo@1` or `hf:USER/NAME@COMMIT` for an artifact that has such a name everywhere; None for any other path."""
    base, choice = split_choice(str(path))
    label = shipped.find_label(path) or hub.find_label(pathlib.Path(base))
    if label is None or choice is None:
        return label
    return str(dataclasses.replace(hub.split_name(label), choice=f"{choice:g}"))


def name_model(path: pathlib.Path) -> str:
    """What people call the artifact `path`: `photo@1`, `hf:USER/NAME@COMMIT`, or its path where it has no such name."""
    return find_label(path) or str(path)


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
    """What each is called beside the others: its run's folder or its file, less the folders that all of them share.

    Of a repository it is the name with the first digits of the commit.
    """
    shared = [find_label(path) if hub.find_label(path) else None for path in artifacts]
    local = iter(_shorten_paths([path for path, label in zip(artifacts, shared, strict=True) if label is None]))
    return [next(local) if label is None else label[: label.rindex("@") + 1 + DIGITS] for label in shared]


def _shorten_paths(artifacts: Sequence[pathlib.Path]) -> list[str]:
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
