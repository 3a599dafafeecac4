"""One safetensors file: the library reads it, and foreign or damaged ones are refused."""

import pathlib

import numpy as np
import pytest
import safetensors.numpy
from token_samples import NAMES, header, made_items, write

from tokcli.errors import InputError, MismatchError, UsageError
from tokcli.tokens import open_tokens, open_writer
from tokcli.tokens.tensors import get_tensor


def test_the_safetensors_library_reads_what_we_stream(tmp_path: pathlib.Path) -> None:
    items = made_items(header(), ragged=True)
    write(tmp_path / "tokens.safetensors", header(), items)
    tensors = safetensors.numpy.load_file(tmp_path / "tokens.safetensors")
    assert set(tensors) == set(NAMES)
    for item in items:
        assert np.array_equal(tensors[item.name], item.tokens[..., 0].numpy())


def test_foreign_safetensors_files_are_refused(tmp_path: pathlib.Path) -> None:
    safetensors.numpy.save_file({"weight": np.zeros(3, np.float32)}, tmp_path / "model.safetensors")
    with pytest.raises(MismatchError, match="is a safetensors file, but was not written by tok encode"):
        open_tokens(tmp_path / "model.safetensors")
    (tmp_path / "noise.safetensors").write_bytes(bytes(range(256)))
    with pytest.raises(MismatchError, match="is not a whole safetensors file"):
        open_tokens(tmp_path / "noise.safetensors")


def test_tensors_that_the_header_does_not_list_are_refused(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "tokens.safetensors"
    write(path, header(), made_items(header()))
    with safetensors.safe_open(path, framework="numpy") as file:
        metadata = file.metadata()
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dictionary)
    safetensors.numpy.save_file(tensors | {"more": np.zeros(1, np.uint16)}, path, metadata)
    with pytest.raises(MismatchError, match="holds other tensors than the items it lists"):
        open_tokens(path)


def test_too_many_names_for_one_header_are_refused(tmp_path: pathlib.Path) -> None:
    with pytest.raises(UsageError, match=r"400000 items are too many for one .safetensors file; write to a folder"):
        open_writer(tmp_path / "tokens.safetensors", header(), [str(number) for number in range(400_000)])


@pytest.mark.parametrize(("error", "refusal"), [(MemoryError(), InputError), (KeyError("a.png"), MismatchError)])
def test_too_little_memory_is_no_damage(tmp_path: pathlib.Path, error: Exception, refusal: type[Exception]) -> None:
    """It once read "does not hold the tokens; encode again"."""

    class File:
        def get_tensor(self, name: str) -> None:
            raise error

    words = "not enough memory to read the tokens of a.png" if refusal is InputError else "does not hold the tokens"
    with pytest.raises(refusal, match=words):
        get_tensor(File(), "a.png", tmp_path / "tokens.safetensors")
