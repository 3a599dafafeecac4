"""One array and its sidecar: numpy reads them, and nothing is ever unpickled."""

import json
import pathlib
import pickle
from typing import Any

import numpy as np
import pytest
import torch
from token_samples import header, made_items, write

from tokcli.errors import InputError, MismatchError
from tokcli.tokens import open_tokens


@pytest.mark.parametrize(
    ("codebook_size", "dtype"), [(1, "uint8"), (256, "uint8"), (257, "uint16"), (65536, "uint16"), (65537, "uint32")]
)
def test_tokens_take_the_smallest_type_that_holds_them(tmp_path: pathlib.Path, codebook_size: int, dtype: str) -> None:
    about = header(codebook_size=codebook_size)
    write(tmp_path / "tokens.npy", about, made_items(about))
    assert np.load(tmp_path / "tokens.npy", allow_pickle=False).dtype == dtype


@pytest.mark.parametrize(("groups", "shape"), [(1, (5, 2, 3)), (2, (5, 2, 3, 2))])
def test_numpy_and_its_header_read_what_we_write(tmp_path: pathlib.Path, groups: int, shape: tuple[int, ...]) -> None:
    about = header(groups=groups)
    items = made_items(about)
    write(tmp_path / "tokens.npy", about, items)
    array = np.load(tmp_path / "tokens.npy", mmap_mode="r", allow_pickle=False)
    assert array.shape == shape
    assert np.array_equal(array.reshape(5, 2, 3, groups), torch.stack([item.tokens for item in items]).numpy())
    sidecar = json.loads((tmp_path / "tokens.npy.json").read_text())
    assert sidecar["codebook_size"] == 1000
    assert sidecar["grid"] == [2, 3]
    assert sidecar["items"][0] == {
        "item": "a.png",
        "grid": [2, 3],
        "original_size": [100, 90],
        "signal_size": [7, 11],
    }


def test_a_npy_file_without_its_sidecar_is_refused(tmp_path: pathlib.Path) -> None:
    np.save(tmp_path / "tokens.npy", np.zeros((2, 3), np.uint8))
    with pytest.raises(MismatchError, match=r"tokens.npy.json, which tok encode writes beside it, is missing"):
        open_tokens(tmp_path / "tokens.npy")


def test_a_sidecar_of_something_else_is_refused(tmp_path: pathlib.Path) -> None:
    np.save(tmp_path / "x.npy", np.zeros((2, 3), np.uint8))
    (tmp_path / "x.npy.json").write_text("[1, 2]")
    with pytest.raises(MismatchError, match=r"x.npy.json was not written by tok encode"):
        open_tokens(tmp_path / "x.npy")


class Trap:
    """Pickled, it would write a file when it is loaded."""

    def __init__(self, path: pathlib.Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return pathlib.Path.write_text, (self.path, "sprung")


def test_nothing_is_ever_unpickled(tmp_path: pathlib.Path) -> None:
    path, sprung = tmp_path / "tokens.npy", tmp_path / "sprung"
    write(path, header(), made_items(header()))
    np.save(path, np.array([Trap(sprung)] * 5, dtype=object), allow_pickle=True)
    with pytest.raises(MismatchError, match=r"is not a whole .npy file of numbers"):
        open_tokens(path)
    path.write_bytes(pickle.dumps(Trap(sprung)))
    with pytest.raises(MismatchError, match=r"is not a whole .npy file of numbers"):
        open_tokens(path)
    assert not sprung.exists()


@pytest.mark.parametrize("kept", [0, 5, -1])
def test_a_truncated_npy_file_says_so(tmp_path: pathlib.Path, kept: int) -> None:
    path = tmp_path / "tokens.npy"
    write(path, header(), made_items(header()))
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(MismatchError, match=r"is not a whole .* encode again"):
        open_tokens(path)


def test_a_npy_file_with_more_behind_it_is_refused(tmp_path: pathlib.Path) -> None:
    write(tmp_path / "tokens.npy", header(), made_items(header()))
    with open(tmp_path / "tokens.npy", "ab") as file:
        file.write(b"\0")
    with pytest.raises(MismatchError, match=r"is not what tokens.npy.json describes"):
        open_tokens(tmp_path / "tokens.npy")


def change_sidecar(path: pathlib.Path, **changes: Any) -> None:
    sidecar = path.with_name(path.name + ".json")
    sidecar.write_text(json.dumps(json.loads(sidecar.read_text()) | changes))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"format": "tok-tokens/2"}, "has the format 'tok-tokens/2', this version of tok reads tok-tokens/1"),
        ({"format": "other"}, "was not written by tok encode"),
        ({"codebook_size": "many"}, "damaged header: codebook_size: input should be a valid integer, got 'many'"),
        ({"codebook_size": -5}, "damaged header: codebook_size must be from 1"),
        ({"modality": "smell"}, "damaged header: modality: "),
        ({"items": None}, "damaged list of items: None"),
        ({"items": [{"item": "a.png", "grid": [2, -3]}]}, "damaged list of items: .* does not describe one"),
        ({"items": []}, r"is not what tokens.npy.json describes \(0 items\)"),
    ],
)
def test_a_damaged_sidecar_is_refused(tmp_path: pathlib.Path, changes: dict[str, Any], words: str) -> None:
    write(tmp_path / "tokens.npy", header(), made_items(header()))
    change_sidecar(tmp_path / "tokens.npy", **changes)
    with pytest.raises(MismatchError, match=words):
        open_tokens(tmp_path / "tokens.npy")


def test_a_sidecar_that_lacks_a_line_is_refused(tmp_path: pathlib.Path) -> None:
    write(tmp_path / "tokens.npy", header(), made_items(header()))
    sidecar = tmp_path / "tokens.npy.json"
    values = json.loads(sidecar.read_text())
    del values["network_fingerprint"]
    sidecar.write_text(json.dumps(values))
    with pytest.raises(MismatchError, match="network_fingerprint: a token file needs this argument"):
        open_tokens(tmp_path / "tokens.npy")


def test_a_sidecar_of_other_tokens_is_refused(tmp_path: pathlib.Path) -> None:
    write(tmp_path / "tokens.npy", header(), made_items(header()))
    np.save(tmp_path / "tokens.npy", np.zeros((5, 3, 3), np.uint16))
    with pytest.raises(MismatchError, match=r"a.png holds uint16 \[3, 3\], its header promises uint16 \[2, 3\]"):
        open_tokens(tmp_path / "tokens.npy")[0]
    np.save(tmp_path / "tokens.npy", np.zeros((5, 2, 3), np.int64))
    with pytest.raises(MismatchError, match=r"a.png holds int64 \[2, 3\], its header promises uint16"):
        open_tokens(tmp_path / "tokens.npy").array()
    np.save(tmp_path / "tokens.npy", np.zeros((4, 2, 3), np.uint16))
    with pytest.raises(MismatchError, match=r"is not what tokens.npy.json describes \(5 items\)"):
        open_tokens(tmp_path / "tokens.npy")


def test_an_unreadable_file_is_unreadable_input(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "tokens.npy", header(), made_items(header()))

    def deny(*arguments: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("tokcli.files.os.open", deny)
    with pytest.raises(InputError, match="Permission denied"):
        open_tokens(tmp_path / "tokens.npy")
