"""`hf://datasets/...`: tars and parquet of a hub's data sets are read as those of the disk are, over loopback."""

import io
import pathlib
import tarfile

import numpy
import pytest
from loopback_hub import Hub
from PIL import Image

from tokcli.data.image.files import ImageFiles
from tokcli.data.items import Failure, read_items
from tokcli.errors import InputError

hf_file_system = pytest.importorskip("huggingface_hub.hf_file_system", reason="fsspec reads hf:// with huggingface_hub")


def draw(seed: int) -> bytes:
    content = io.BytesIO()
    pixels = numpy.random.default_rng(seed).integers(0, 256, (18, 20, 3), dtype=numpy.uint8)
    Image.fromarray(pixels).save(content, "PNG")
    return content.getvalue()


def pack(numbers: range) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for number in numbers:
            for suffix, content in (("png", draw(number)), ("cls", str(number).encode())):
                member = tarfile.TarInfo(f"{number:02d}.{suffix}")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    return packed.getvalue()


@pytest.fixture
def data(hub: Hub, monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> str:
    """The URL of a data set of two tars and a list of them."""
    monkeypatch.setenv("TOK_CACHE", str(tmp_path / "own-cache"))
    # Read from HF_ENDPOINT when the library is imported, which another test may have done before.
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", hub.url)
    template = f"{hub.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)
    hf_file_system.HfFileSystem.clear_instance_cache()
    hub.add("me/photos", {"0.tar": pack(range(3)), "1.tar": pack(range(3, 6)), "all.txt": b"0.tar\n1.tar\n"})
    return "hf://datasets/me/photos"


@pytest.mark.parametrize("given", ["{0..1}.tar", "*.tar", "all.txt"])
def test_tars_of_a_data_set_are_read_like_files(data: str, given: str) -> None:
    items = list(read_items(ImageFiles(f"{data}/{given}", 16), workers=0))
    assert [item.about for item in items if not isinstance(item, Failure)] == [{"label": n} for n in range(6)]


def test_what_a_hub_has_not_is_one_sentence(data: str) -> None:
    with pytest.raises(InputError, match=r"'hf://datasets/me/photos/2\.tar': there is no such file, folder or bucket$"):
        ImageFiles(f"{data}/{{1..2}}.tar", 16)
