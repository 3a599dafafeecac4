"""Equal tensors and metadata are equal bytes, and a full disk says that it is full."""

import errno
import os
import pathlib
import subprocess
import sys

import pytest
import torch

from tokcli.artifacts import tensors
from tokcli.artifacts.tensors import read_tensors, write_tensors

METADATA = {
    name: f'{{"{name}": "ü\\n\\u001f"}}' for name in ("recipe", "format", "training", "weights", "licence", "a")
}


def test_equal_contents_are_equal_bytes(tmp_path: pathlib.Path) -> None:
    values = {"b": torch.arange(5.0), "a": torch.ones(3, dtype=torch.int64), "c": torch.zeros(7, dtype=torch.uint8)}
    contents = set()
    for index in range(8):
        path = tmp_path / str(index)
        write_tensors(path, values, METADATA)
        contents.add(path.read_bytes())
    assert len(contents) == 1
    file = read_tensors(path)
    assert file.metadata == METADATA
    assert all(torch.equal(file.tensors[name], value) for name, value in values.items())


def test_the_umask_gives_the_permissions(tmp_path: pathlib.Path) -> None:
    code = (
        "import os, pathlib, torch; from tokcli.artifacts.tensors import write_tensors; os.umask(0o027);"
        "write_tensors(pathlib.Path('x'), {'a': torch.ones(1)}, {})"
    )
    package = str(pathlib.Path(__file__).parents[2])
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=os.environ | {"PYTHONPATH": package}, check=True)
    assert (tmp_path / "x").stat().st_mode & 0o777 == 0o640


def test_a_full_disk_keeps_its_number(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(tensors, "_write", full)
    with pytest.raises(OSError, match="No space left") as caught:
        write_tensors(tmp_path / "x", {}, {})
    assert caught.value.errno == errno.ENOSPC
    assert caught.value.filename == str(tmp_path / "x")
    assert list(tmp_path.iterdir()) == []
