"""Memory that is short costs the items that need it, and no others."""

import pathlib

import pytest
import torch

from tokcli.numerics import is_out_of_memory
from tokcli.tokenizer import Tokenizer


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")]
)
def test_a_picture_that_memory_is_too_short_for_is_one_failed_item(
    tok, tiny_run: pathlib.Path, photos: pathlib.Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    encode = Tokenizer.encode

    def encode_small(self: Tokenizer, signals: torch.Tensor) -> torch.Tensor:
        if signals.shape[0] > 1 or signals.shape[2] > 30:
            raise error
        return encode(self, signals)

    monkeypatch.setattr(Tokenizer, "encode", encode_small)
    outcome = tok("encode", "photos", "-o", "tokens.safetensors", "--size", "native", "--json")
    assert outcome.code == 5, outcome.err
    assert outcome.json["items"] == 4
    (failure,) = outcome.json["failed"]
    assert failure["item"] == "photo-2.png"
    assert failure["reason"] == "there is not enough memory to encode it at 40×24; give it a --size"


def test_what_is_no_lack_of_memory_is_none() -> None:
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory"))
    assert not is_out_of_memory(RuntimeError("shapes differ"))
