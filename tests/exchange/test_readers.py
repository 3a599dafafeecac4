"""Each format is read as its generators read it: by their library where there is one, else by their reader's logic."""

import json
import linecache
import pathlib
import struct
from dataclasses import replace

import numpy
import pytest
from token_sets import HEADER, write_tokens

from tokcli.commands.export import export


@pytest.fixture
def tokens(tmp_path: pathlib.Path) -> dict[str, numpy.ndarray]:
    """Seven items of 4×4 in two class folders, in tokens.npy."""
    return write_tokens(tmp_path / "tokens.npy")


def run_export(tmp_path: pathlib.Path, to: str, **options: object) -> pathlib.Path:
    export(str(tmp_path / "tokens.npy"), str(tmp_path / "out"), to=to, options=options, part_items=4)
    return tmp_path / "out"


def test_hugging_face_datasets_load_the_folder_with_its_classes(tokens, tmp_path, monkeypatch) -> None:
    datasets = pytest.importorskip("datasets")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    out = run_export(tmp_path, "parquet", split=0.6)
    loaded = datasets.load_dataset("parquet", data_dir=str(out), cache_dir=str(tmp_path / "cache"))
    assert set(loaded) == {"train", "validation"}
    assert loaded["train"].features["label"].names == ["cat", "dog"]
    rows = {row["name"]: row for split in loaded.values() for row in split}
    assert set(rows) == set(tokens)
    for name, row in rows.items():
        assert row["tokens"] == tokens[name].reshape(-1).tolist()
        assert loaded["train"].features["label"].int2str(row["label"]) == name.split("/")[0]


def test_hugging_face_datasets_load_lists_of_one_length(tokens, tmp_path) -> None:
    datasets = pytest.importorskip("datasets")
    out = run_export(tmp_path, "parquet", fixed=True)
    loaded = datasets.load_dataset("parquet", data_dir=str(out), cache_dir=str(tmp_path / "cache"), split="train")
    assert loaded.features["tokens"].length == 16
    assert numpy.array(loaded.with_format("numpy")["tokens"]).shape == (7, 16)


def test_cosyvoice_reads_its_own_columns(tokens, tmp_path) -> None:
    """Its reader turns a table into a list of dicts, and drops those whose `speech_token` is empty."""
    parquet = pytest.importorskip("pyarrow.parquet")
    out = run_export(tmp_path, "parquet", columns={"tokens": "speech_token", "name": "utt"})
    (path, *_) = sorted(out.glob("*.parquet"))
    for frame in parquet.ParquetFile(path).iter_batches(batch_size=64):
        for row in frame.to_pandas().to_dict(orient="records"):
            assert list(row["speech_token"]) == tokens[row["utt"]].reshape(-1).tolist()


def test_nanogpt_maps_the_bin_and_cuts_windows(tokens, tmp_path) -> None:
    out = run_export(tmp_path, "bin")
    data = numpy.memmap(out / "train.bin", dtype=numpy.uint16, mode="r")
    assert len(data) == 7 * 16
    window = data[16 * 2 : 16 * 3].astype(numpy.int64)
    assert window.tolist() == list(tokens.values())[2].reshape(-1).tolist()


def test_specials_lie_behind_the_codes_and_the_meta_says_so(tokens, tmp_path) -> None:
    out = run_export(tmp_path, "bin", bos="auto", eos="auto", label_token="auto", offset=10)
    meta = json.loads((out / "meta.json").read_text())
    assert (meta["offset"], meta["bos"], meta["eos"], meta["label_base"], meta["vocabulary_size"]) == (
        10,
        1010,
        1011,
        1012,
        1014,
    )
    assert meta["classes"] == ["cat", "dog"]
    first = numpy.fromfile(out / "train.bin", numpy.uint16)[:19]
    assert first.tolist() == [1010, 1013, *(next(iter(tokens.values())).reshape(-1) + 10), 1011]


def test_ids_beyond_sixteen_bits_take_four_bytes(tmp_path) -> None:
    tokens = write_tokens(tmp_path / "tokens.npy", header=replace(HEADER, codebook_size=100_000))
    out = run_export(tmp_path, "bin")
    data = numpy.memmap(out / "train.bin", dtype=numpy.uint32, mode="r")
    assert data[:16].tolist() == next(iter(tokens.values())).reshape(-1).tolist()


def read_megatron(path: pathlib.Path) -> list[numpy.ndarray]:
    """Megatron's indexed dataset: header, lengths, pointers, documents; then a slice of the .bin for each sequence."""
    with open(path.with_suffix(".idx"), "rb") as index:
        assert index.read(9) == b"MMIDIDX\x00\x00"
        (version,) = struct.unpack("<Q", index.read(8))
        (code,) = struct.unpack("<B", index.read(1))
        sequences, documents = struct.unpack("<QQ", index.read(16))
        assert version == 1
        lengths = numpy.frombuffer(index.read(4 * sequences), numpy.int32)
        pointers = numpy.frombuffer(index.read(8 * sequences), numpy.int64)
        indices = numpy.frombuffer(index.read(8 * documents), numpy.int64)
        assert not index.read()
    assert indices.tolist() == list(range(sequences + 1))
    dtype = {8: numpy.uint16, 4: numpy.int32}[code]
    content = path.read_bytes()
    return [
        numpy.frombuffer(content, dtype, length, pointer) for length, pointer in zip(lengths, pointers, strict=True)
    ]


def test_megatron_core_itself_reads_the_index(tokens, tmp_path) -> None:
    """It installs and imports without its CUDA companions: pip install --no-deps megatron-core."""
    indexed = pytest.importorskip("megatron.core.datasets.indexed_dataset")
    out = run_export(tmp_path, "bin", eos="auto")
    dataset = indexed.IndexedDataset(str(out / "train"))
    assert [row.tolist() for row in dataset] == [[*each.reshape(-1).tolist(), 1000] for each in tokens.values()]
    assert dataset.document_indices.tolist() == list(range(8))


@pytest.mark.parametrize("codebook_size", [1000, 100_000])
def test_megatron_finds_every_item_as_a_document(codebook_size: int, tmp_path) -> None:
    tokens = write_tokens(tmp_path / "tokens.npy", header=replace(HEADER, codebook_size=codebook_size))
    sequences = read_megatron(run_export(tmp_path, "bin") / "train.bin")
    assert [row.tolist() for row in sequences] == [each.reshape(-1).tolist() for each in tokens.values()]


def test_webdataset_reads_tokens_class_caption_and_json(tokens, tmp_path) -> None:
    webdataset = pytest.importorskip("webdataset")
    lines = [json.dumps({"name": name, "caption": f"a {name}", "label": 3}) for name in tokens]
    (tmp_path / "about.jsonl").write_text("\n".join(lines))
    export(
        str(tmp_path / "tokens.npy"),
        str(tmp_path / "out"),
        to="webdataset",
        about=str(tmp_path / "about.jsonl"),
        part_items=4,
    )
    shards = sorted(str(path) for path in (tmp_path / "out").glob("*.tar"))
    assert len(shards) == 2
    samples = list(webdataset.WebDataset(shards, shardshuffle=False).decode())
    for sample, (name, expected) in zip(samples, tokens.items(), strict=True):
        assert (sample["npy"] == expected[..., 0]).all()
        assert (sample["cls"], sample["txt"], sample["json"]["name"]) == (3, f"a {name}", name)


def test_maskgen_reads_raw_half_floats(tokens, tmp_path) -> None:
    webdataset = pytest.importorskip("webdataset")
    out = run_export(tmp_path, "webdataset", preset="maskgen")
    samples = webdataset.WebDataset(sorted(map(str, out.glob("*.tar"))), shardshuffle=False)
    for sample, expected in zip(samples, tokens.values(), strict=True):
        row = numpy.frombuffer(sample["token.npy"], dtype=numpy.float16).reshape(-1)
        assert row.astype(int).tolist() == expected.reshape(-1).tolist()


def test_four_m_reads_a_folder_for_the_modality(tokens, tmp_path) -> None:
    webdataset = pytest.importorskip("webdataset")
    out = run_export(tmp_path, "webdataset", preset="4m")
    shards = sorted(str(path) for path in (out / "tok_rgb").glob("shard-*.tar"))
    assert shards[0].endswith("shard-00000.tar")
    samples = list(webdataset.WebDataset(shards, shardshuffle=False).decode())
    assert samples[0]["npy"].dtype == numpy.int16
    assert samples[0]["npy"].shape == (1, 16)
    assert len(samples) == 7


def test_llamagen_reads_codes_and_labels_by_number(tokens, tmp_path) -> None:
    """Its dataset loads feature i and label i, and takes one augmentation of axis 1."""
    out = run_export(tmp_path, "npy-tree", preset="llamagen")
    for number, (name, expected) in enumerate(tokens.items()):
        features = numpy.load(out / "imagenet256_codes" / f"{number}.npy")
        labels = numpy.load(out / "imagenet256_labels" / f"{number}.npy")
        assert (features.dtype, features.shape, labels.dtype, labels.shape) == ("int64", (1, 1, 16), "int64", (1,))
        assert features[:, 0].reshape(-1).tolist() == expected.reshape(-1).tolist()
        assert int(labels[0]) == int(name.startswith("dog"))


def test_speech_readers_find_their_axes(tmp_path) -> None:
    header = replace(HEADER, groups=4, modality="audio", sample_rate=16000)
    tokens = write_tokens(tmp_path / "tokens.safetensors", header=header, grid=(9,), ragged=True)
    for preset, dtype, shape in (("fish-speech", "uint32", (4, 9)), ("amphion", "int64", (9, 4))):
        out = tmp_path / preset
        export(str(tmp_path / "tokens.safetensors"), str(out), to="npy-tree", options={"preset": preset})
        array = numpy.load(out / "dog" / "photo-0.npy")
        assert (array.dtype, array.shape) == (dtype, shape)
        flat = array.T if preset == "fish-speech" else array
        assert (flat == tokens["dog/photo-0.png"]).all()


def test_xcodec2_reads_a_row_of_int32(tmp_path) -> None:
    header = replace(HEADER, modality="audio", sample_rate=16000)
    tokens = write_tokens(tmp_path / "tokens.safetensors", header=header, grid=(9,), ragged=True)
    export(str(tmp_path / "tokens.safetensors"), str(tmp_path / "out"), to="npy-tree", options={"preset": "xcodec2"})
    array = numpy.load(tmp_path / "out" / "cat" / "photo-1.npy")
    assert (array.dtype, array.tolist()) == ("int32", tokens["cat/photo-1.png"].reshape(-1).tolist())


def test_one_d_tokenizer_reads_class_and_tokens_by_line_number(tokens, tmp_path) -> None:
    export(str(tmp_path / "tokens.npy"), str(tmp_path / "tokens.jsonl"), to="jsonl")
    linecache.clearcache()
    for number, (name, expected) in enumerate(tokens.items()):
        data = json.loads(linecache.getline(str(tmp_path / "tokens.jsonl"), number + 1))
        assert data["tokens"] == expected.reshape(-1).tolist()
        assert data["class_id"] == int(name.startswith("dog"))


def test_a_delayed_layout_shifts_each_group_by_one(tmp_path) -> None:
    """Group g of position t stands in row t + g (MusicGen's pattern), and the gaps hold the pad."""
    header = replace(HEADER, codebook_size=10, groups=2, modality="audio", sample_rate=16000)
    write_tokens(tmp_path / "tokens.npy", items=1, header=header, grid=(3,))
    values = numpy.load(tmp_path / "tokens.npy")[0].astype(int)
    rows = numpy.fromfile(run_export(tmp_path, "bin", layout="delay") / "train.bin", numpy.uint16).reshape(4, 2)
    pad = 20
    (a, d), (b, e), (c, f) = values.tolist()
    assert rows.tolist() == [[a, pad], [b, 10 + d], [c, 10 + e], [pad, 10 + f]]
