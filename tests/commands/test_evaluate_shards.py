"""An evaluation in a folder: any number of workers come to the scores of one process, whoever is interrupted."""

import json
import os
import pathlib
import shutil

import pytest
import torch

from tokcli.contracts import Candidate, Item, RoundTrip, Source
from tokcli.data.items import Failure
from tokcli.evaluation.run import Evaluation
from tokcli.evaluation.seen import add_up, pack_seen, take_seen, unpack_seen
from tokcli.progress import SILENT

EVAL = ["eval", "runs/tiny", "--data", "photos", "--size", "16", "--metrics", "psnr,ssim,usage,cvu", "-q"]
SHARDED = [*EVAL, "--shard-items", "3"]
"""Five pictures in batches of four: two shards, of four and of one."""


def without_digest(scores: dict) -> dict:
    """Of all signals, which nobody has seen who has seen a part."""
    return {**scores, "protocol": {**scores["protocol"], "dataset_sha256": None}}


def list_files(folder: pathlib.Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def alone(tok, tiny_run: pathlib.Path, photos: pathlib.Path) -> dict:
    """The scores of one process."""
    outcome = tok(*EVAL, "--json")
    assert outcome.code == 0, outcome.err
    return outcome.json


def test_workers_that_share_a_folder_come_to_the_scores_of_one(tok, alone: dict, tmp_path) -> None:
    first = tok(*SHARDED, "-o", "scores", "--shard", "1/2", "--json")
    assert {name: first.json[name] for name in ("shards", "done", "items", "finished")} == {
        "shards": 2, "done": 1, "items": 1, "finished": False,
    }  # fmt: skip
    early = tok(*SHARDED, "-o", "scores", "--finish")
    assert (early.code, "1 of its 2 shards are missing" in early.err) == (3, True)
    last = tok(*SHARDED, "-o", "scores", "--shard", "0/2", "--json")
    assert last.code == 0, last.err
    assert last.json == without_digest(alone)
    assert json.loads((tmp_path / "scores" / "scores.json").read_text()) == last.json
    assert tok("eval", "-o", "scores", "--status", "--json").json["finished"]
    again = tok(*SHARDED[:-3], "-o", "scores", "--sheet", "sheet.png", "--report", "report.html", "--shard-items", "3")
    assert (again.code, "complete, there is nothing to do" in again.err) == (0, True), again.err
    assert (tmp_path / "sheet.png").exists()
    assert "photo-4.png" in (tmp_path / "report.html").read_text()


def test_models_of_one_folder_are_compared_as_in_one_process(tok, alone: dict) -> None:
    both = ["eval", "runs/tiny", "runs/tiny", *EVAL[2:]]
    expected = [without_digest(row) for row in tok(*both, "--json").json]
    assert tok(*both, "-o", "scores", "--shard-items", "4", "--json").json == expected


def test_a_shard_that_was_damaged_is_made_again(tok, alone: dict, tmp_path) -> None:
    assert tok(*SHARDED, "-o", "scores").code == 0
    folder = tmp_path / "scores"
    before = (folder / "shard-00000.safetensors").read_bytes()
    (folder / "scores.json").unlink()
    (folder / "shard-00000.safetensors").write_bytes(bytes(len(before)))
    (folder / "shard-00001.json").write_text("{")
    outcome = tok(*[word for word in SHARDED if word != "-q"], "-o", "scores", "--json")
    assert outcome.json == without_digest(alone)
    assert "shard 0 of scores is damaged, and is made again" in outcome.err
    assert (folder / "shard-00000.safetensors").read_bytes() == before
    assert list_files(folder) == sorted(
        ["plan.json", "scores.json", *(f"shard-0000{n}.{kind}" for n in range(2) for kind in ("json", "safetensors"))]
    )


def test_items_that_cannot_be_read_are_listed(tok, tiny_run, photos, tmp_path) -> None:
    (photos / "photo-0.png").write_bytes(b"none")
    alone = tok(*EVAL, "--json")
    shared = tok(*SHARDED, "-o", "scores", "--json")
    assert (shared.code, shared.json) == (5, without_digest(alone.json))
    for path in photos.rglob("*.png"):
        path.write_bytes(b"none")
    outcome = tok(*SHARDED, "-o", "nothing")
    assert (outcome.code, "none of the 5 items could be read" in outcome.err) == (3, True)
    assert not (tmp_path / "nothing").exists()


def test_another_evaluation_is_refused_and_nothing_is_lost(tok, alone: dict, tmp_path) -> None:
    assert tok(*SHARDED, "-o", "scores").code == 0
    before = (tmp_path / "scores" / "scores.json").read_bytes()
    other = tok(*SHARDED, "-o", "scores", "--metrics", "psnr")
    assert (other.code, "was begun with other settings: metrics" in other.err) == (4, True)
    os.utime(tmp_path / "photos" / "photo-4.png", (0, 0))
    changed = tok(*SHARDED, "-o", "scores")
    assert (changed.code, "the inputs have changed since its plan was made" in changed.err) == (4, True)
    assert (tmp_path / "scores" / "scores.json").read_bytes() == before
    assert tok(*SHARDED, "-o", "scores", "--force").code == 0
    tokens = tok("encode", "photos", "--size", "16", "-o", "scores")
    assert tokens.code in (2, 4)
    assert tok("encode", "photos", "--size", "16", "-o", "tokens", "-q").code == 0
    scores = tok(*SHARDED, "-o", "tokens", "--force")
    assert (scores.code, "tokens is of tok encode; choose another folder" in scores.err) == (2, True)
    foreign = tok(*SHARDED, "-o", "photos")
    assert (foreign.code, "is a folder with other things in it" in foreign.err) == (2, True)
    shutil.rmtree(tmp_path / "scores")
    assert tok("eval", "-o", "scores", "--status").code == 3


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--shard", "0/2"], "--shard: of a folder that workers share"),
        (["--status", "--force"], "--status, --force: of a folder that workers share"),
        (["-o", "scores", "--against", "jpeg"], "leave --reference, --reconstruction and --against"),
        (["-o", "scores", "--on", "ray", "--sheet", "s.png"], "--on ray makes the scores of models in a folder"),
        (["--on", "slurm"], "name it with -o FOLDER"),
        (["-o", "scores", "--shard", "2/2"], "expected I/N with I from 0 to N-1"),
    ],
)
def test_what_does_not_go_together_is_refused(tok, photos, flags: list[str], words: str) -> None:
    outcome = tok(*EVAL, *flags)
    assert (outcome.code, words in outcome.err) == (2, True), outcome.err


class Squares(Source):
    """Seven pictures, the third of which cannot be read."""

    modality = "image"
    names = tuple(f"{place}.png" for place in range(7))

    def load(self, index: int, draw: int = 0) -> Item:
        return Item(self.names[index], torch.full((3, 12, 12), index / 10), (12, 12))

    def protocol(self) -> dict[str, object]:
        return {}


class Darker(Candidate):
    """Loses more of a brighter picture; its tokens are of a codebook that is counted sparsely."""

    modality = "image"
    sample_rate = None
    codebook_size = 2**21
    device = torch.device("cpu")

    def round_trip(self, signals: torch.Tensor) -> RoundTrip:
        tokens = (signals[:, :1, 0, 0, None] * 1000).long() + 2**20
        return RoundTrip(signals, 0.5 * signals, tokens, self.codebook_size)


def test_what_was_seen_survives_a_file_and_adds_up(tmp_path) -> None:
    evaluation = Evaluation(Darker(), Squares(), ["psnr", "ssim", "usage"], rates=True)
    with SILENT.task("evaluating", None, "items") as task:
        whole = evaluation.score(take_seen(evaluation.walk(range(7), 2, 0, task)))
        parts = []
        for span in (range(4, 7), range(4)):
            seen = take_seen(evaluation.walk(span, 2, 0, task))
            tensors, failed = pack_seen(seen)
            assert not any(value.is_sparse for value in tensors.values())
            parts.append(unpack_seen(tensors, json.loads(json.dumps(failed))))
    together = evaluation.score(add_up(parts))
    assert (together.names, together.metrics, together.rates) == (whole.names, whole.metrics, whole.rates)
    assert all(torch.equal(together.item_scores[name], values) for name, values in whole.item_scores.items())


def test_failures_survive_a_file() -> None:
    evaluation = Evaluation(Darker(), Squares(), ["psnr"])
    with SILENT.task("evaluating", None, "items") as task:
        seen = take_seen(evaluation.walk(range(2), 2, 0, task))
    failed = {1: Failure("1.png", "it is torn")}
    tensors, listed = pack_seen(type(seen)(seen.indices, seen.scores, seen.states, failed))
    assert unpack_seen(tensors, listed).failed == failed
