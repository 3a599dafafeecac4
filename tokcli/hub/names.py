"""`hf:USER/NAME@REVISION`: how a command names a repository of a hub, and a repository the commit that was fetched."""

import re
from dataclasses import dataclass

from tokcli.errors import UsageError, quote

PREFIX = "hf:"

REPOSITORY = re.compile(r"(?!.*(?:--|\.\.))[A-Za-z0-9_][A-Za-z0-9_.-]{0,95}/[A-Za-z0-9_][A-Za-z0-9_.-]{0,95}")
"""What hubs take as USER/NAME."""

REVISION = re.compile(r"(?!.*\.\.)[A-Za-z0-9_][A-Za-z0-9_./+-]{0,199}")
"""A branch, a tag or a commit."""

CHOICE = re.compile(r"[0-9]{1,6}(?:\.[0-9]{1,3})?")

COMMIT = re.compile(r"[0-9a-f]{40}")
"""The hash of a commit, which means the same files for ever."""


@dataclass(frozen=True)
class HubName:
    """A repository of a hub, as a command names it.

    Attributes:
        repository: USER/NAME.
        revision: a branch, a tag or a commit; None for the newest of the main branch.
        choice: the number that a published codec was given beside it, as the kbps or the codebooks; None: none.
    """

    repository: str
    revision: str | None = None
    choice: str | None = None

    def __str__(self) -> str:
        parts = (part for part in (self.choice, self.revision) if part is not None)
        return "@".join([f"{PREFIX}{self.repository}", *parts])


def is_name(text: str) -> bool:
    """Whether `text` means a repository of a hub. `hf://` are files of a data set, which is something else."""
    return text.startswith(PREFIX) and not text.startswith(f"{PREFIX}//")


def split_name(text: str) -> HubName:
    """What `hf:USER/NAME`, `hf:USER/NAME@REVISION`, `hf:USER/NAME@6` or `hf:USER/NAME@6@REVISION` says.

    A number after an @ is a choice; anything else is a revision.

    Raises:
        UsageError: where it is spelt otherwise.
    """
    repository, *parts = text.removeprefix(PREFIX).split("@")
    choices = [part for part in parts if CHOICE.fullmatch(part)]
    revisions = [part for part in parts if not CHOICE.fullmatch(part)]
    check_repository(repository)
    if len(choices) > 1 or len(revisions) > 1 or not all(REVISION.fullmatch(each) for each in revisions):
        raise UsageError(
            f"{quote(text)}: expected hf:USER/NAME@REVISION with one branch, tag or commit, or one number for a "
            "published codec, or both"
        )
    return HubName(repository, *(revisions or [None]), *(choices or [None]))


def check_repository(repository: str) -> str:
    """The repository itself. Raises UsageError where no hub has one of that spelling."""
    if not REPOSITORY.fullmatch(repository):
        raise UsageError(
            f"{quote(repository)} names no repository; expected USER/NAME of letters, digits, '-', '_' and '.', as in "
            "hf:USER/NAME"
        )
    return repository
