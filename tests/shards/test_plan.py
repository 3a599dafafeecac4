"""A plan is settled once; what changes it is refused with its cause."""

import os
import pathlib
from typing import Any

import pytest
from PIL import Image

from tokcli.data.image.files import ImageFiles
from tokcli.errors import InputError, MismatchError, UsageError
from tokcli.shards.folder import LocalFolder
from tokcli.shards.plan import PLAN, Plan, make_plan, read_plan, require_same
from tokcli.shards.share import EVERY, Share, read_share


def plan_of(**changes: Any) -> Plan:
    values: dict[str, Any] = {
        "work": {"codebook_fingerprint": "ab", "size": 64},
        "inputs": ["photos"],
        "items": 5,
        "shard_items": 2,
        "marks": ["a", "b", "c"],
    }
    return Plan(**values | changes)


def test_shards_share_all_items_out() -> None:
    assert [list(plan_of().span(shard)) for shard in range(3)] == [[0, 1], [2, 3], [4]]


def test_a_plan_is_made_by_the_first_and_read_by_all(tmp_path: pathlib.Path) -> None:
    assert plan_of().create(LocalFolder(tmp_path / "tokens"))
    assert not plan_of(items=4).create(LocalFolder(tmp_path / "tokens"))
    assert read_plan(LocalFolder(tmp_path / "tokens")) == plan_of()
    assert [path.name for path in (tmp_path / "tokens").iterdir()] == [PLAN]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"work": {"codebook_fingerprint": "cd", "size": 64}}, "was begun with another tokenizer"),
        ({"work": {"codebook_fingerprint": "ab", "size": 32}}, "with other settings: size was 64 and is 32"),
        ({"items": 6}, r"of other items \(5 then, 6 now\)"),
        ({"marks": ["a", "x", "c"]}, r"the inputs have changed .* 1 of 3 shards \(the first is 1\)"),
        ({"tok": "0.0.1"}, "by version .* of tok, and this is 0.0.1"),
    ],
)
def test_another_plan_is_refused_with_the_cause(tmp_path: pathlib.Path, changes: dict[str, Any], words: str) -> None:
    require_same(LocalFolder(tmp_path), plan_of(), plan_of(inputs=["./photos/"]))  # typed in another way
    with pytest.raises(MismatchError, match=words):
        require_same(LocalFolder(tmp_path), plan_of(), plan_of(**changes))


@pytest.mark.parametrize("text", ["", "{}", '{"format": "tok-plan/9"}', '{"format": "tok-plan/1", "marks": 3}'])
def test_a_damaged_plan_is_refused(tmp_path: pathlib.Path, text: str) -> None:
    (tmp_path / PLAN).write_text(text)
    with pytest.raises(MismatchError, match=PLAN):
        read_plan(LocalFolder(tmp_path))


def test_a_folder_without_a_plan_says_so(tmp_path: pathlib.Path) -> None:
    with pytest.raises(InputError, match=r"has no plan.json"):
        read_plan(LocalFolder(tmp_path))


def test_a_file_that_changes_changes_the_mark_of_its_shard_alone(tmp_path: pathlib.Path) -> None:
    for index in range(4):
        Image.new("RGB", (8, 8)).save(tmp_path / f"{index}.png")
    before = make_plan({}, [], ImageFiles(str(tmp_path)), shard_items=2)
    assert before == make_plan({}, [], ImageFiles(str(tmp_path)), shard_items=2)
    os.utime(tmp_path / "2.png", (0, 0))
    after = make_plan({}, [], ImageFiles(str(tmp_path)), shard_items=2)
    assert [one == other for one, other in zip(before.marks, after.marks, strict=True)] == [True, False]


@pytest.mark.parametrize(("items", "each"), [(5, 50), (20_000, 100), (3_000_000, 10_000)])
def test_small_sets_have_small_shards(items: int, each: int) -> None:
    class Listing(ImageFiles):
        def __init__(self) -> None:
            self.names = range(items)  # pyright: ignore[reportAttributeAccessIssue]

        def mark(self, items: range) -> str:
            return str(items)

    assert make_plan({}, [], Listing()).shard_items == each


def test_a_worker_takes_every_nth_shard() -> None:
    assert list(read_share("1/3").of(8)) == [1, 4, 7]
    assert read_share(None) is EVERY


@pytest.mark.parametrize(
    ("environment", "share"),
    [
        ({"SLURM_ARRAY_TASK_ID": "3", "SLURM_ARRAY_TASK_COUNT": "4", "SLURM_ARRAY_TASK_MIN": "1"}, Share(2, 4)),
        ({"RANK": "1", "WORLD_SIZE": "2"}, Share(1, 2)),
        ({"JOB_COMPLETION_INDEX": "5", "JOB_COMPLETIONS": "8"}, Share(5, 8)),
        ({"JOB_COMPLETION_INDEX": "5"}, EVERY),
    ],
)
def test_auto_is_what_the_scheduler_says(environment: dict[str, str], share: Share) -> None:
    assert read_share("auto", environment) == share


@pytest.mark.parametrize("text", ["3", "3/3", "-1/3", "a/b", "1/0", "auto"])
def test_a_share_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--shard"):
        read_share(text, {})
