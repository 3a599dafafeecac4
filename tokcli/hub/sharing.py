"""Sharing a folder as a repository of a hub: made where it is absent, private unless asked otherwise, one commit."""

import pathlib
from dataclasses import dataclass
from typing import Any

from tokcli.errors import InputError, UsageError
from tokcli.hub.fetching import BUGS, explain, find_endpoint, is_kept_offline, open_library, quiet
from tokcli.hub.names import PREFIX, check_repository

OWN = ".gitattributes"
"""The file that a hub itself puts into a new repository."""


@dataclass(frozen=True)
class Shared:
    """What a repository is after a commit.

    Attributes:
        revision: the hash of the commit.
        url: of the repository, for a browser.
        private: whether only its owner sees it.
    """

    revision: str
    url: str
    private: bool


def share(folder: pathlib.Path, name: str, *, known_by: str, message: str, public: bool, force: bool) -> Shared:
    """Upload the files of `folder` as one commit.

    Args:
        folder: its files, which take the place of those of the same names.
        name: USER/NAME.
        known_by: the file that a repository holds which is an earlier version of this one.
        message: of the commit.
        public: whether a new repository is seen by everybody; one that is there stays as it is.
        force: also write into a repository that holds something else.

    Raises:
        InputError: the hub cannot be reached, or does not let this user write, with what to do.
        UsageError: the repository holds something else.
    """
    check_repository(name)
    hub = open_library()
    if is_kept_offline(hub):
        raise InputError(
            f"the network is forbidden (TOK_OFFLINE or HF_HUB_OFFLINE), so {PREFIX}{name} cannot be shared"
        )
    if not hub.get_token():
        raise InputError(
            f"sharing {PREFIX}{name} needs a token that may write; set HF_TOKEN, or run `hf auth login` once"
        )
    api = hub.HfApi(endpoint=find_endpoint(), library_name="tok")
    with quiet(hub):
        try:
            api.whoami()
            api.create_repo(name, private=not public, exist_ok=True)
            _require_own(api, name, known_by, force)
            commit = api.upload_folder(repo_id=name, folder_path=str(folder), commit_message=message)
            told = api.model_info(name)
        except (*BUGS, UsageError):
            raise
        except Exception as error:  # the transport's errors have no common class across versions
            raise explain(hub, name, None, error) from error
    place = find_endpoint() or hub.constants.ENDPOINT
    return Shared(str(commit.oid), f"{place}/{name}", bool(told.private))


def _require_own(api: Any, name: str, known_by: str, force: bool) -> None:
    """Raise UsageError where the repository is in use for something else."""
    there = [path for path in api.list_repo_files(name) if path != OWN]
    if there and known_by not in there and not force:
        raise UsageError(
            f"{PREFIX}{name} holds something else ({', '.join(there[:3])}); choose another name, or write beside that "
            "with --force"
        )
