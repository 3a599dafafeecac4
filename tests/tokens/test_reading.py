"""Reading a token file of any format: each item at its own size, and tokens beyond the codebook are named."""

import pathlib

import numpy as np
import pytest
from token_samples import header, made_items, write

from tokcli.errors import MismatchError
from tokcli.tokens import open_tokens


def test_audio_has_one_axis_and_a_sample_rate(tmp_path: pathlib.Path) -> None:
    about = header(modality="audio", sample_rate=16000)
    items = made_items(about, ["a.wav", "b.wav"], grid=(7,), ragged=True)
    write(tmp_path / "tokens.safetensors", about, items)
    reader = open_tokens(tmp_path / "tokens.safetensors")
    assert reader.header.sample_rate == 16000
    assert reader[1].tokens.shape == (8, 1)


def test_a_token_beyond_the_codebook_is_named(tmp_path: pathlib.Path) -> None:
    write(tmp_path / "tokens.npy", header(), made_items(header()))
    array = np.load(tmp_path / "tokens.npy")
    array[2, 1, 1] = 1000
    np.save(tmp_path / "tokens.npy", array)
    reader = open_tokens(tmp_path / "tokens.npy")
    assert reader[1].tokens.max() == 999
    words = r"ü c.png holds the token 1000, but the codebook has 1000 codes \(0 to 999\)"
    with pytest.raises(MismatchError, match=words):
        reader[2]
    with pytest.raises(MismatchError, match=words):
        reader.array()
