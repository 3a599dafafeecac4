"""What every source promises. A new one is a line in EXAMPLES, and the whole suite runs on it."""

import functools
import io
import json
import pathlib
import pickle
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, BinaryIO, overload

import numpy
import pytest
import soundfile
import torch
import yaml
from PIL import Image

from tokcli.commands.train import train
from tokcli.contracts import Item, Source, SourceDescription
from tokcli.data import SOURCES
from tokcli.data.batches import open_training_loader
from tokcli.data.files import ARCHIVES, Files
from tokcli.data.items import read_item, read_items
from tokcli.data.modality import MODALITIES
from tokcli.errors import InputError

EXAMPLES: dict[str, dict[str, Any]] = {
    "images": {"kind": "images", "path": "FOLDER", "size": 16, "crop": "random", "flip": True},
    "audio": {"kind": "audio", "path": "FOLDER", "size": 1600, "sample_rate": 8000, "crop": "random"},
    "dead-leaves": {"kind": "dead-leaves", "items": 5, "size": 16},
    "synthetic-voices": {"kind": "synthetic-voices", "items": 5, "size": 1600, "sample_rate": 8000},
}

RECIPES = {
    "image": """
autoencoder: {kind: vqgan, latent_dim: 3, width: 8, multipliers: [1, 1], blocks: 1, patch: 2, groups: 2}
evaluation: {batch_size: 4, metrics: [psnr]}
""",
    "audio": """
autoencoder:
  {kind: spectral, latent_dim: 3, width: 16, blocks: 1, kernel: 3, sample_rate: 8000, hop: 80, frame: 160, window: 32}
evaluation: {batch_size: 4, metrics: [si-sdr]}
""",
}

TRAINING = """
name: contract
quantizer: {kind: fsp, levels: [4, 3, 3]}
losses: [{kind: l1}]
training: {steps: 2, batch_size: 4, learning_rate: 1e-3, workers: 0, log_every: 1, checkpoint_every: 2}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """Five images and five recordings; one more of each is damaged."""
    folder = tmp_path_factory.mktemp("files")
    generator = numpy.random.default_rng(0)
    for index in range(5):
        pixels = generator.integers(0, 256, (20 + index, 24, 3), dtype=numpy.uint8)
        Image.fromarray(pixels).save(folder / f"{index}.png")
        soundfile.write(folder / f"{index}.wav", generator.uniform(-0.5, 0.5, 8000 + index), 16000)
    for name in ("damaged.png", "damaged.wav"):
        (folder / name).write_bytes(b"RIFF, or rather not")
    return folder


@pytest.fixture(params=EXAMPLES)
def node(request: pytest.FixtureRequest, folder: pathlib.Path) -> dict[str, Any]:
    """A recipe's node for each source."""
    return {key: str(folder) if value == "FOLDER" else value for key, value in EXAMPLES[request.param].items()}


@pytest.fixture
def source(node: dict[str, Any]) -> Source:
    return SOURCES.build(node, "data.train")


def readable(source: Source) -> list[int]:
    """The indices of items that are not damaged."""
    return [index for index, name in enumerate(source.names) if not name.startswith("damaged")]


def test_every_source_is_examined() -> None:
    assert set(EXAMPLES) == set(SOURCES)


def test_a_signal_is_a_function_of_index_and_draw(source: Source, node: dict[str, Any]) -> None:
    again = SOURCES.build(node, "data.train")
    for index in readable(source):
        for draw in (0, 1, 2**62):
            item = source.load(index, draw)
            assert torch.equal(item.signal, again.load(index, draw).signal)
        assert torch.equal(source.load(index).signal, source.load(index, 0).signal)
    assert not torch.equal(source.load(0, 1).signal, source.load(0, 2).signal)


def test_items_are_what_they_are_said_to_be(source: Source) -> None:
    described = source.describe()
    for index in readable(source):
        item = source.load(index, 3)
        axes = 2 if source.modality == "image" else 1
        assert item.name == source.names[index]
        assert item.signal.dtype == torch.float32
        assert item.signal.abs().max() <= 1
        assert item.signal.shape[1:] == (described.size,) * axes
        assert len(item.original_size) == axes
        assert json.loads(json.dumps(dict(item.about))) == item.about == {}


def test_names_are_unique_and_stay_within_a_folder(source: Source) -> None:
    names = list(source.names)
    assert len(set(names)) == len(names) == len(source)
    assert MODALITIES[source.modality].strip_suffixes(names)


def test_the_record_and_the_description_agree(source: Source, node: dict[str, Any]) -> None:
    record, described = dict(source.protocol()), source.describe()
    assert json.loads(json.dumps(record)) == record
    assert (record["size"], record.get("crop"), record.get("made")) == (
        described.size,
        described.crop,
        described.made,
    )
    assert described.size == node["size"]
    assert source.sample_rate == node.get("sample_rate")
    assert (described.made is None) == (source.files is not None)


def test_files_are_told_so_that_an_overlap_shows(source: Source, node: dict[str, Any], folder: pathlib.Path) -> None:
    if source.files is None:
        assert "path" not in node
        return
    resolved = list(source.files.resolved())
    assert resolved == [str((folder / name).resolve()) for name in source.names]
    assert list(source.files.resolved(2)) == resolved[:2]


def test_a_source_crosses_processes_and_reads_the_same_there(source: Source) -> None:
    copy = pickle.loads(pickle.dumps(source))
    assert list(copy.names) == list(source.names)
    assert torch.equal(copy.load(1, 5).signal, source.load(1, 5).signal)
    alone, helped = (list(read_items(source, workers, indices=[0, 1, 2], draw=7)) for workers in (0, 1))
    for own, other in zip(alone, helped, strict=True):
        assert isinstance(own, Item)
        assert isinstance(other, Item)
        assert torch.equal(own.signal, other.signal)


def test_a_damaged_item_is_named_and_does_not_end_the_work(source: Source) -> None:
    damaged = sorted(set(range(len(source))) - set(readable(source)))
    for index in damaged:
        with pytest.raises(InputError, match=f"^{source.names[index]}: "):
            source.load(index)
        failure = read_item(source, index)
        assert failure.item == source.names[index]
        assert not failure.reason.startswith(source.names[index])
    batches = list(open_training_loader(source, 5, seed=0, start_step=0, steps=4))
    assert {failure.item for batch in batches for failure in batch.failures} <= {source.names[i] for i in damaged}


def test_a_recipe_trains_on_it(node: dict[str, Any], tmp_path: pathlib.Path) -> None:
    assert train_on(node, SOURCES[node["kind"]].modality, tmp_path).steps == 2


def train_on(node: dict[str, Any], modality: str, folder: pathlib.Path) -> Any:
    """Train two steps of a tiny recipe on a node, and evaluate on generated data."""
    size = {"image": {"kind": "dead-leaves", "size": 16}, "audio": {"kind": "synthetic-voices", "sample_rate": 8000}}
    recipe = yaml.safe_load(TRAINING) | yaml.safe_load(RECIPES[modality])
    recipe["data"] = {"train": node, "eval": size[modality] | {"items": 2, "seed": 1}}
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe, sort_keys=False))
    return train(str(path), out=str(folder / "run"))


class Names(Sequence[str]):
    """Names that are made when they are asked for, as a source of 10^9 items would have them."""

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[str]: ...
    def __getitem__(self, index: int | slice) -> str | Sequence[str]:
        if isinstance(index, slice):
            return [self[number] for number in range(*index.indices(len(self)))]
        return f"plain-{index}"

    def __len__(self) -> int:
        return 10**9


class Plain(Source):
    """What the contract asks for, and nothing more."""

    modality = "image"
    names = Names()

    def load(self, index: int, draw: int = 0) -> Item:
        values = numpy.random.default_rng([index, draw]).uniform(-1, 1, (3, 16, 16))
        return Item(self.names[index], torch.from_numpy(values.astype(numpy.float32)), (16, 16))

    def protocol(self) -> Mapping[str, object]:
        return {"made": "for a test"}

    def describe(self) -> SourceDescription:
        return SourceDescription(16, made="noise")


def test_names_may_be_made_when_they_are_asked_for() -> None:
    few = read_items(Plain(), workers=0, indices=[0, 10**9 - 1])
    assert [item.name for item in few if isinstance(item, Item)] == ["plain-0", "plain-999999999"]


def test_a_source_that_keeps_the_contract_to_the_letter_trains(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Small(Plain):
        names = ("a", "b", "c")

    monkeypatch.setitem(SOURCES._table, "plain", Small)
    assert train_on({"kind": "plain"}, "image", tmp_path).steps == 2


class FilesInJson(Files):
    """An archive of files, of which more is known than their names."""

    def __init__(self, path: str, suffixes: Sequence[str], noun: str) -> None:
        self._contents = json.loads(pathlib.Path(path).read_text())
        self.names = [name for name in self._contents if name.endswith(tuple(suffixes))]
        if not self.names:
            raise InputError(f"'{path}' holds no {noun}")

    def opener(self, index: int) -> Callable[[], BinaryIO]:
        return functools.partial(io.BytesIO, bytes.fromhex(self._contents[self.names[index]]))

    def resolved(self, count: int | None = None) -> Iterator[str]:
        return (f"archive:{name}" for name in self.names[:count])

    def about(self, index: int) -> Mapping[str, Any]:
        return {"label": index}


@pytest.mark.parametrize("kind", ["images", "audio"])
def test_files_may_lie_in_an_archive(
    kind: str, folder: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A line in the table is all that it takes; archives stand with archives; a missing one is a missing file."""
    source = SOURCES.build(EXAMPLES[kind] | {"path": str(folder)}, "data.train")
    packed = tmp_path / "all.PACKED"
    packed.write_text(json.dumps({name: (folder / name).read_bytes().hex() for name in source.names}))
    monkeypatch.setitem(ARCHIVES, ".packed", f"{__name__}:FilesInJson")
    archived = SOURCES.build(EXAMPLES[kind] | {"path": str(packed)}, "data.train")
    assert list(archived.names) == list(source.names)
    for index in readable(source):
        item = archived.load(index, 4)
        assert torch.equal(item.signal, source.load(index, 4).signal)
        assert item.about == {"label": index}
    again, still = tmp_path / "more" / "all.packed", {"flip": False} if kind == "images" else {}
    again.parent.mkdir()
    again.write_bytes(packed.read_bytes())
    both = SOURCES.build(EXAMPLES[kind] | {"path": [str(again), str(packed)], "crop": "center"} | still, "data.train")
    assert list(both.names) == [f"{stem}/{name}" for stem in ("more/all.packed", "all.PACKED") for name in source.names]
    for index in readable(source):
        assert torch.equal(both.load(len(source) + index).signal, both.load(index).signal)
    with pytest.raises(InputError, match=r"all\.PACKED' is an archive, which is read with other archives alone"):
        SOURCES.build(EXAMPLES[kind] | {"path": [str(folder), str(packed)]}, "data.train")
    with pytest.raises(InputError, match="there is no file or folder"):
        SOURCES.build(EXAMPLES[kind] | {"path": str(tmp_path / "none.packed")}, "data.train")
