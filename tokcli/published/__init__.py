"""Tokenizers that other libraries ship: a folder of `save_pretrained` becomes a codec like any of ours."""

from tokcli.published.codec import PublishedCodec
from tokcli.published.folder import (
    Place,
    Published,
    digest_published,
    find_place,
    is_known,
    open_published,
    read_modality,
    split_choice,
)
from tokcli.published.networks import KINDS

__all__ = [
    "KINDS",
    "Place",
    "Published",
    "PublishedCodec",
    "digest_published",
    "find_place",
    "is_known",
    "open_published",
    "read_modality",
    "split_choice",
]
