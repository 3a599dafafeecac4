"""Fetching a repository of a hub into huggingface_hub's cache: weights as safetensors, and the text beside them.

Nothing that can carry a pickle is fetched. A commit that lies in the cache is read without a network, a branch is
looked up each time. `HF_ENDPOINT`, `HF_TOKEN`, `HF_HOME` and `HF_HUB_OFFLINE` mean what they mean to huggingface_hub,
and `TOK_OFFLINE=1` is as good as the last.
"""

import contextlib
import importlib
import os
import pathlib
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tokcli.errors import InputError, MismatchError, TokError
from tokcli.hub.names import COMMIT, PREFIX, check_repository
from tokcli.optional import OFFLINE, is_offline, require
from tokcli.progress import SILENT, listener

PATTERNS = ("*.safetensors", "*.json", "*.md", "*.yaml")
"""What is fetched."""

PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".th")
"""Endings of weight files that are never read."""

BUGS = (TypeError, AttributeError, NameError, AssertionError, LookupError)
"""What no network raises: a mistake in a program, which must look like one."""

MAIN = "main"

SNAPSHOT = re.compile(r"models--(.+?)--(.+)/snapshots/([0-9a-f]{40})(?:/.*)?")
"""Where huggingface_hub keeps a commit; neither USER nor NAME holds `--`."""


@dataclass(frozen=True)
class Fetched:
    """A repository at one commit, on the disk.

    Attributes:
        folder: that holds its files; they belong to the cache and are not to be changed.
        revision: the hash of the commit.
    """

    folder: pathlib.Path
    revision: str


def fetch(name: str, revision: str | None = None) -> Fetched:
    """The files of the repository `name`, fetched where the cache lacks them.

    What was interrupted goes on with the files that are missing. The listener is told what a person would wonder at.

    Args:
        name: USER/NAME.
        revision: a branch, a tag or a commit; None is the newest of the main branch.

    Raises:
        InputError: it is not there, cannot be reached, or may not be read, with what to do.
        MismatchError: it holds no safetensors.
        UsageError: the name is spelt as no repository is, or huggingface_hub is absent.
    """
    check_repository(name)
    hub = open_library()
    former = find_cached(name, revision)
    if former is not None and revision is not None and COMMIT.fullmatch(revision):
        return _require_tensors(name, former)
    if is_kept_offline(hub):
        return _require_tensors(name, former or _refuse_offline(hub, name, revision))
    with quiet(hub):
        try:
            files = _list_files(hub, name, revision)
        except BUGS:
            raise
        except Exception as error:  # the transport's errors have no common class across versions
            return _fall_back(hub, name, revision, former, error)
        if not any(file.endswith(".safetensors") for file in files):
            raise _refuse_files(name, files)
        fetched = _download(hub, name, revision)
    if former is not None and former.revision != fetched.revision:
        listener().note(
            f"{PREFIX}{name}: {revision or MAIN} moved from {former.revision[:12]} to {fetched.revision[:12]} since it "
            f"was last fetched; the former is still {PREFIX}{name}@{former.revision}"
        )
    return fetched


def find_cached(name: str, revision: str | None = None) -> Fetched | None:
    """The repository as the cache has it, whole, without asking any hub; None where it has not."""
    check_repository(name)
    hub = open_library()
    with quiet(hub):
        try:
            folder = pathlib.Path(
                hub.snapshot_download(name, revision=revision, allow_patterns=list(PATTERNS), local_files_only=True)
            )
        except (OSError, ValueError):  # of which its LocalEntryNotFoundError is one
            return None
    # A broken link is a file that is gone; versions before 2 do not see that.
    whole = all(path.exists() for path in folder.rglob("*"))
    return Fetched(folder, folder.name) if whole else None


def find_label(path: pathlib.Path) -> str | None:
    """`hf:USER/NAME@COMMIT` for a file or a folder of the cache; None for any other path."""
    match = SNAPSHOT.search(path.as_posix())
    return f"{PREFIX}{match[1]}/{match[2]}@{match[3]}" if match else None


def _list_files(hub: Any, name: str, revision: str | None) -> list[str]:
    """What the repository holds, by the hub's word."""
    told = hub.HfApi(endpoint=find_endpoint()).model_info(name, revision=revision)
    return [sibling.rfilename for sibling in told.siblings or []]


def _download(hub: Any, name: str, revision: str | None) -> Fetched:
    """Bring what is missing into the cache. Raises InputError."""
    try:
        folder = pathlib.Path(
            hub.snapshot_download(
                name, revision=revision, allow_patterns=list(PATTERNS), endpoint=find_endpoint(), library_name="tok"
            )
        )
    except BUGS:
        raise
    except Exception as error:  # as above
        reason = explain(hub, name, revision, error)
        raise InputError(
            f"fetching {PREFIX}{name} was interrupted: {reason}; the same command goes on with the files that are "
            "missing"
        ) from error
    return Fetched(folder, folder.name)


def _fall_back(hub: Any, name: str, revision: str | None, former: Fetched | None, error: Exception) -> Fetched:
    """The copy in the cache where the hub could not be reached. Raises what the error means otherwise."""
    problem = explain(hub, name, revision, error)
    if former is None or _find_status(error) is not None:
        raise problem from error
    listener().note(f"{problem}; the copy of {former.revision[:12]} in the cache is taken")
    return _require_tensors(name, former)


def explain(hub: Any, name: str, revision: str | None, error: Exception) -> TokError:
    """What went wrong with a repository, in a sentence that says what to do."""
    errors, called, status = hub.errors, f"{PREFIX}{name}", _find_status(error)
    place = find_endpoint() or hub.constants.ENDPOINT
    if isinstance(error, TokError):
        return error
    if isinstance(error, errors.GatedRepoError):
        return InputError(
            f"{called} is gated: its owner lets in who asks; ask at {place}/{name}, and set HF_TOKEN to your token"
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return InputError(
            f"{called} has no revision {revision or MAIN}, or has it no longer; see {place}/{name}/commits, or leave "
            "it out for the newest"
        )
    if isinstance(error, errors.RepositoryNotFoundError):
        known = "with this token" if hub.get_token() else "without a token; a private one needs HF_TOKEN"
        return InputError(f"there is no repository {called} at {place} {known}")
    if status in (401, 403):
        return InputError(
            f"{place} refuses this token for {called}; HF_TOKEN, or `hf auth login`, takes one that may "
            f"{'read it' if status == 401 else 'write there'}"
        )
    reason = " ".join(str(error).split())[:200] or type(error).__name__
    if status is not None:
        return InputError(f"{place} answers {status} for {called} ({reason}); try again later")
    return InputError(f"{place} cannot be reached for {called} ({reason}); try again with a network")


def open_library() -> Any:
    """The package huggingface_hub with what is used of it, which it imports on demand. Raises UsageError."""
    hub = require("huggingface_hub", "hub")
    for part in ("constants", "errors", "utils"):
        importlib.import_module(f"huggingface_hub.{part}")
    return hub


def find_endpoint() -> str | None:
    """The hub that is asked: that of $HF_ENDPOINT; None for huggingface_hub's own choice."""
    return os.environ.get("HF_ENDPOINT", "").rstrip("/") or None


def _find_status(error: Exception) -> int | None:
    """The HTTP status that a hub answered with; None where it did not answer."""
    response = vars(error).get("response")
    return None if response is None else int(response.status_code)


def is_kept_offline(hub: Any) -> bool:
    """Whether a variable forbids the network."""
    return is_offline() or bool(hub.constants.HF_HUB_OFFLINE)


def _refuse_offline(hub: Any, name: str, revision: str | None) -> Fetched:
    """Raise InputError: the network is forbidden, and the cache has no whole copy."""
    variable = OFFLINE if is_offline() else "HF_HUB_OFFLINE"
    at = f"@{revision}" if revision else ""
    raise InputError(
        f"{variable} is set, and the cache {hub.constants.HF_HUB_CACHE} holds no whole copy of {PREFIX}{name}{at}; "
        "fetch it once without that, or set HF_HOME to the cache that has it"
    )


def _require_tensors(name: str, fetched: Fetched) -> Fetched:
    files = [path.name for path in fetched.folder.rglob("*")]
    if not any(file.endswith(".safetensors") for file in files):
        raise _refuse_files(name, files)
    return fetched


def _refuse_files(name: str, files: list[str]) -> MismatchError:
    pickled = [file for file in files if file.endswith(PICKLES)]
    found = f", but {', '.join(pickled[:3])}, which may be a pickle and is never read" if pickled else ""
    return MismatchError(
        f"{PREFIX}{name} holds no .safetensors file{found}; ask its owner for one, or name another repository"
    )


@contextlib.contextmanager
def quiet(hub: Any) -> Iterator[None]:
    """huggingface_hub says nothing but what is raised, and draws bars where a person watches."""
    shown = listener() is not SILENT and sys.stderr.isatty()
    logging, utils = hub.utils.logging, hub.utils
    verbosity, drawn = logging.get_verbosity(), not utils.are_progress_bars_disabled()
    logging.set_verbosity_error()
    if drawn and not shown:
        utils.disable_progress_bars()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if drawn and not shown:
            utils.enable_progress_bars()
