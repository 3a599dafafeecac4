"""`tok probe` as a user calls it, with a protocol small enough for a test."""

import dataclasses
import json
import pathlib

import pytest
import torch
from probe_samples import HEADER, shrink_protocol, write_counting_tokens
from safetensors import SafetensorError

from tokcli.errors import InterruptedRunError
from tokcli.probing.network import require_transformers
from tokcli.probing.protocols import Protocol
from tokcli.probing.training import ProbeTraining


@pytest.fixture(autouse=True)
def protocol(monkeypatch: pytest.MonkeyPatch) -> Protocol:
    return shrink_protocol(monkeypatch)


def test_figures_stand_beside_entropies_and_the_folder_is_a_model(tok, tmp_path: pathlib.Path) -> None:
    train = write_counting_tokens(tmp_path / "train.npy")
    val = write_counting_tokens(tmp_path / "val.npy", items=6, seed=1)
    outcome = tok("probe", train, "--val", val, "-o", "p", "--json")
    assert outcome.code == 0, outcome.err
    (row,) = outcome.json["probes"]
    pytest.importorskip("matplotlib")
    assert (row["train_tokens"], row["val_tokens"], row["unit"]) == (640, 96, "bits_per_pixel")
    assert row["packed_bits"] == pytest.approx(3.585, abs=1e-3)
    # Counting up: the code before says all but the first one of an item.
    assert row["first_order_bits"] < 1 < row["zeroth_order_bits"]
    assert row["bits"] < row["zeroth_order_bits"]
    assert row["rates"]["probe"] == pytest.approx(row["bits"] * 16 / 32**2)
    assert row["gains"]["first_order"] == pytest.approx(row["first_order_bits"] - row["bits"])
    assert [point["step"] for point in row["curve"]] == [4, 8, 12]
    assert {path.name for path in pathlib.Path("p").iterdir()} >= {
        "train",
        "probe.json",
        "table.md",
        "curve.png",
        "trade.png",
    }

    transformers = pytest.importorskip("transformers")
    model = transformers.AutoModelForCausalLM.from_pretrained("p/train")
    modes = {path.stat().st_mode & 0o777 for path in pathlib.Path("p/train").iterdir()}
    assert len(modes) == 1, "who can read one file can read all"
    assert model.config.vocab_size == HEADER.codebook_size + 1
    drawn = model.generate(torch.tensor([[HEADER.codebook_size]]), max_new_tokens=5, do_sample=True, pad_token_id=0)
    assert drawn.shape == (1, 6)


def test_the_bits_are_the_loss_that_transformers_computes(tok, tmp_path: pathlib.Path) -> None:
    train = write_counting_tokens(tmp_path / "train.npy")
    val = write_counting_tokens(tmp_path / "val.npy", items=3, seed=1)
    (row,) = tok("probe", train, "--val", val, "--json").json["probes"]
    transformers = pytest.importorskip("transformers")
    model = transformers.AutoModelForCausalLM.from_pretrained("probes/train").eval()
    from tokcli import load_tokens

    starts = torch.full((3, 1), HEADER.codebook_size)
    ids = torch.cat([starts, *[torch.stack([item.tokens.reshape(-1) for item in load_tokens(val)])]], dim=1)
    with torch.no_grad():
        loss = model(input_ids=ids, labels=ids).loss
    assert row["bits"] == pytest.approx(float(loss) / 0.6931471805599453, rel=1e-5)


def test_an_interrupted_probe_goes_on_and_ends_equal(tok, tmp_path: pathlib.Path, monkeypatch) -> None:
    train = write_counting_tokens(tmp_path / "train.npy")
    assert tok("probe", train, "-o", "whole").code == 0
    taken = ProbeTraining._take_step

    def stop_at_six(self: ProbeTraining) -> float:
        if self.progress.step == 6:
            raise KeyboardInterrupt
        return taken(self)

    with monkeypatch.context() as patch:
        patch.setattr(ProbeTraining, "_take_step", stop_at_six)
        assert tok("probe", train, "-o", "again").code == 130
    assert not pathlib.Path("again/train").exists()
    outcome = tok("probe", train, "-o", "again")
    assert (outcome.code, "go on with --resume" in outcome.err) == (2, True), outcome.err
    outcome = tok("probe", train, "-o", "again", "--resume")
    assert (outcome.code, "going on behind step 4" in outcome.err) == (0, True), outcome.err
    for name in ("model.safetensors", "config.json", "probe.json"):
        assert pathlib.Path("again/train", name).read_bytes() == pathlib.Path("whole/train", name).read_bytes()


def test_a_stop_that_is_asked_for_leaves_a_checkpoint_of_that_step(tok, tmp_path: pathlib.Path, monkeypatch) -> None:
    train = write_counting_tokens(tmp_path / "train.npy")
    with monkeypatch.context() as patch:
        patch.setattr(ProbeTraining, "_agree_to_stop", lambda self, stop: self.progress.step == 7)
        outcome = tok("probe", train, "-o", "again")
    assert (outcome.code, "stopped after step 7 of 12" in outcome.err) == (InterruptedRunError.exit_code, True)
    outcome = tok("probe", train, "-o", "again", "--resume", "--seed", 1)
    assert (outcome.code, "of other tokens, or of another protocol or seed" in outcome.err) == (4, True), outcome.err
    assert "behind step 7" in tok("probe", train, "-o", "again", "--resume").err
    assert tok("probe", train, "-o", "whole").code == 0
    assert pathlib.Path("again/train/probe.json").read_bytes() == pathlib.Path("whole/train/probe.json").read_bytes()


def test_several_tokenizers_share_a_table_and_finished_ones_are_kept(tok, tmp_path: pathlib.Path) -> None:
    first = write_counting_tokens(tmp_path / "first.npy")
    other = dataclasses.replace(HEADER, codebook_size=20, codebook_fingerprint="d" * 64)
    second = write_counting_tokens(tmp_path / "second.npy", header=other)
    assert tok("probe", first, "-o", "p").code == 0
    before = pathlib.Path("p/first/model.safetensors").stat().st_mtime_ns
    outcome = tok("probe", first, second, "-o", "p", "--resume")
    assert outcome.code == 0, outcome.err
    assert pathlib.Path("p/first/model.safetensors").stat().st_mtime_ns == before
    outcome = tok("probe", first, "-o", "p", "--resume", "--steps", 3)
    assert (outcome.code, "p/first is a probe of other tokens" in outcome.err) == (4, True), outcome.err
    table = pathlib.Path("p/table.md").read_text()
    assert "| first | 12 |" in table
    assert "| second | 20 |" in table
    assert "held out by name: first, second" in table
    assert len(json.loads(pathlib.Path("p/probe.json").read_text())) == 2


def test_classes_start_the_sequences_and_items_without_one_are_listed(tok, tmp_path: pathlib.Path) -> None:
    train = write_counting_tokens(tmp_path / "train.npy", labelled=True)
    (row,) = tok("probe", train, "-o", "folders", "--json").json["probes"]
    assert row["classes"] == 2
    assert json.loads(pathlib.Path("folders/train/config.json").read_text())["vocab_size"] == 14
    pathlib.Path("about.csv").write_text(
        "name,label\n" + "".join(f"{'dog' if n % 2 == 0 else 'cat'}/{n}.png,{n % 2}\n" for n in range(39))
    )
    outcome = tok("probe", train, "-o", "joined", "--about", "about.csv", "--json")
    assert outcome.code == 5
    assert [each["item"] for each in outcome.json["probes"][0]["failed"]] == ["cat/39.png"]


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["train.npy", "--val", "other.npy"], 4, "other.npy was made by another tokenizer than train.npy"),
        (["few.npy"], 2, "few.npy makes 6 sequences of up to 16 tokens to learn from, and probe-small wants 16"),
        (["train.npy", "--protocol", "probe-smal"], 2, "no protocol 'probe-smal'; did you mean 'probe-small'?"),
        (["train.npy", "train.npy"], 2, "two token files are called"),
        (["train.npy", "few.npy", "--val", "few.npy"], 2, "--val names 1 token files for 2"),
        (["none.npy"], 3, "there is no token file none.npy"),
        (["train.npy", "-o", "full"], 2, "full exists already; go on with --resume"),
        (["train.npy", "--temperature", "0"], 2, "--temperature: expected more than 0"),
        (["train.npy", "--samples", "2"], 2, "none of the 0 models that were looked at made the tokens of train"),
        (["train.npy", "--labels", "folder"], 2, "--labels folder: no item lies in a folder"),
        (["train.npy", "--scores", "table.json"], 4, "table.json is not what tok eval prints"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(arguments, code, words, tok, tmp_path: pathlib.Path) -> None:
    write_counting_tokens(tmp_path / "train.npy")
    write_counting_tokens(tmp_path / "few.npy", items=7)
    write_counting_tokens(tmp_path / "other.npy", header=dataclasses.replace(HEADER, network_fingerprint="o" * 64))
    pathlib.Path("full").mkdir()
    pathlib.Path("full/thesis.txt").write_text("mine")
    pathlib.Path("table.json").write_text("[3]")
    outcome = tok("probe", *arguments)
    assert (outcome.code, words in outcome.err) == (code, True), outcome.err
    assert pathlib.Path("full/thesis.txt").read_text() == "mine"


@pytest.mark.skipif(not pathlib.Path("/dev/full").exists(), reason="there is no /dev/full here")
def test_a_full_disk_costs_nothing_that_was_trained(tok, tmp_path: pathlib.Path, monkeypatch) -> None:
    transformers = require_transformers()
    train = write_counting_tokens(tmp_path / "train.npy")
    save = transformers.PreTrainedModel.save_pretrained

    def fill(self, folder: pathlib.Path, **more: object) -> None:
        try:
            pathlib.Path("/dev/full").write_bytes(b"x" * 10_000)
        except OSError as error:  # as safetensors says it
            raise SafetensorError(f"I/O error: {error.strerror} (os error {error.errno})") from error

    with monkeypatch.context() as patch:
        patch.setattr(transformers.PreTrainedModel, "save_pretrained", fill)
        outcome = tok("probe", train, "-o", "p")
    assert (outcome.code, "the disk is full" in outcome.err) == (1, True), outcome.err
    assert not pathlib.Path("p/train").exists()
    assert transformers.PreTrainedModel.save_pretrained is save
    outcome = tok("probe", train, "-o", "p", "--resume")
    assert (outcome.code, "going on behind step 12" in outcome.err) == (0, True), outcome.err


def test_without_transformers_the_extra_is_named(tok, tmp_path: pathlib.Path, monkeypatch) -> None:
    write_counting_tokens(tmp_path / "train.npy")
    monkeypatch.setitem(__import__("sys").modules, "transformers", None)
    outcome = tok("probe", "train.npy")
    assert (outcome.code, "pip install transformers (extra: probe)" in outcome.err) == (2, True), outcome.err


def test_samples_are_laid_beside_real_ones_and_decode(tok, tiny_run, photos: pathlib.Path) -> None:
    """A real tokenizer: 5 pictures of 32 pixels, as many sequences of 16 tokens as the protocol wants."""
    assert tok("encode", photos, "-o", "t.npy", "--size", "64").code == 0
    outcome = tok("probe", "t.npy", "--val", "t.npy", "--samples", "3", "--top-k", "5", "--json")
    assert outcome.code == 0, outcome.err
    (row,) = outcome.json["probes"]
    assert row["cut"]
    assert row["reconstruction"]["psnr"] > 0
    samples = row["samples"]
    assert (samples["count"], samples["grid"], samples["top_k"]) == (3, [4, 4], 5)
    assert pathlib.Path(samples["sheet"]).is_file()
    assert samples["fid"] is None
    assert "no FID of the samples" in tok("probe", "t.npy", "--val", "t.npy", "--samples", "3", "--resume").err
    assert tok("decode", samples["tokens"], "-o", "out").code == 0
    assert len(list(pathlib.Path("out").iterdir())) == 3


def test_sounds_of_several_groups_cost_bits_per_second(tok, tmp_path: pathlib.Path) -> None:
    """40 sounds of 8 frames of 8 samples at 80 Hz: .8 s and 16 tokens each."""
    header = dataclasses.replace(HEADER, groups=2, modality="audio", sample_rate=80)
    write_counting_tokens(tmp_path / "train.safetensors", header=header, grid=(8,))
    (row,) = tok("probe", "train.safetensors", "--val", "train.safetensors", "--json").json["probes"]
    assert (row["groups"], row["unit"], row["val_tokens"], row["cut"]) == (2, "kbps", 640, False)
    assert row["rates"]["packed"] == pytest.approx(16 * row["packed_bits"] / 0.8 / 1000)
    assert json.loads(pathlib.Path("probes/train/config.json").read_text())["vocab_size"] == 25
