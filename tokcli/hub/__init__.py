"""Tokenizers on a Hugging Face hub: what names them there, fetching them, sharing them."""

from tokcli.hub.fetching import Fetched, fetch, find_cached, find_label
from tokcli.hub.names import PREFIX, HubName, check_repository, is_name, split_name
from tokcli.hub.sharing import Shared, share

__all__ = [
    "PREFIX",
    "Fetched",
    "HubName",
    "Shared",
    "check_repository",
    "fetch",
    "find_cached",
    "find_label",
    "is_name",
    "share",
    "split_name",
]
