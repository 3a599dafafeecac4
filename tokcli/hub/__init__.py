"""Tokenizers on a Hugging Face hub: what names them there, fetching them, sharing them."""

from tokcli.hub.fetching import Fetched, fetch, find_cached, find_label
from tokcli.hub.names import PREFIX, HubName, is_name, split_name

__all__ = ["PREFIX", "Fetched", "HubName", "fetch", "find_cached", "find_label", "is_name", "split_name"]
