"""Shards are done once, whoever dies, and what is damaged is done again."""

import hashlib
import json
import os
import pathlib
import threading
import time

import pytest

from tokcli.errors import MismatchError
from tokcli.locking import BusyError
from tokcli.shards import leases
from tokcli.shards.folder import LocalFolder
from tokcli.shards.leases import Lease, claim
from tokcli.shards.ledger import CLAIMS, Ledger, Record, begin, clear_shards
from tokcli.shards.plan import PLAN, Plan

DEAD = 2**22 + 1
"""A process number that no process has."""


def plan_of(work: int = 1, items: int = 5) -> Plan:
    return Plan({"work": work}, [], items, 2, [str(number) for number in range(-(-items // 2))])


def open_ledger(folder: pathlib.Path, work: int = 1) -> Ledger:
    ledger, _ = begin(LocalFolder(folder), plan_of(work), False, lambda: None)
    return ledger


def do(ledger: Ledger, shard: int) -> None:
    def write(path: pathlib.Path) -> Record:
        content = f"shard {shard}".encode()
        path.write_bytes(content)
        items = len(ledger.plan.span(shard))
        return Record(ledger.plan.digest, shard, items, [], len(content), hashlib.sha256(content).hexdigest())

    ledger.publish(shard, write)


def finish(ledger: Ledger) -> int | None:
    assert isinstance(ledger.folder, LocalFolder)
    whole = ledger.folder.path / "whole"
    return ledger.finish(lambda records: whole.write_text(str(sum(record.items for record in records))), whole.exists)


def write_claim(path: pathlib.Path, pid: int, host: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"pid": pid, "host": host, "started": "then", "command": "tok encode"}))


def test_a_worker_does_all_that_is_not_done(tmp_path: pathlib.Path) -> None:
    ledger = open_ledger(tmp_path)
    do(ledger, 1)
    done = []
    for shard in ledger.pull(range(3), print):
        done.append(shard)
        do(ledger, shard)
    assert done == [0, 2]
    assert finish(ledger) is None
    ledger.tidy()
    assert (tmp_path / "whole").read_text() == "5"
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == [PLAN, *(f"shard-0000{n}.{kind}" for n in range(3) for kind in ("json", "safetensors")), "whole"]


def test_workers_together_do_every_shard_once(tmp_path: pathlib.Path) -> None:
    plan = plan_of(items=40)
    plan.create(LocalFolder(tmp_path))
    done: list[int] = []

    def work() -> None:
        ledger = Ledger(LocalFolder(tmp_path), plan)
        for shard in ledger.pull(range(plan.shards), print):
            time.sleep(0.002)
            do(ledger, shard)
            done.append(shard)

    workers = [threading.Thread(target=work) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert sorted(done) == list(range(20))


def test_a_shard_of_a_dead_worker_is_taken_over_at_once(tmp_path: pathlib.Path) -> None:
    ledger = open_ledger(tmp_path)
    write_claim(tmp_path / CLAIMS / "00000", DEAD, os.uname().nodename)
    notes: list[str] = []
    for shard in ledger.pull(range(3), notes.append):
        do(ledger, shard)
    assert len(notes) == 1
    assert f"shard 0 is taken over from process {DEAD}" in notes[0]


def test_a_silent_worker_of_another_machine_is_believed_alive_for_a_minute(tmp_path: pathlib.Path) -> None:
    path = tmp_path / CLAIMS / "00000"
    write_claim(path, DEAD, "elsewhere")
    assert not isinstance(claim(LocalFolder(tmp_path), f"{CLAIMS}/00000"), Lease)
    os.utime(path, (time.time() - leases.EXPIRY - 1,) * 2)
    lease = claim(LocalFolder(tmp_path), f"{CLAIMS}/00000")
    assert isinstance(lease, Lease)
    assert lease.former is not None
    assert lease.former.host == "elsewhere"
    lease.release()


def test_a_lease_shows_signs_of_life_and_is_let_go_of(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "BEAT", 0.01)
    lease = claim(LocalFolder(tmp_path), "00000")
    assert isinstance(lease, Lease)
    os.utime((tmp_path / "00000"), (0, 0))
    deadline = time.monotonic() + 5
    while (tmp_path / "00000").stat().st_mtime == 0:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    lease.release()
    assert not (tmp_path / "00000").exists()


def test_a_lease_that_another_took_over_stays_the_others(tmp_path: pathlib.Path) -> None:
    lease = claim(LocalFolder(tmp_path), "00000")
    assert isinstance(lease, Lease)
    write_claim((tmp_path / "00000"), 1, "elsewhere")
    lease.release()
    assert (tmp_path / "00000").exists()


@pytest.mark.parametrize("damage", ["record", "other plan", "output"])
def test_a_damaged_shard_is_found_at_the_end_and_done_again(tmp_path: pathlib.Path, damage: str) -> None:
    ledger = open_ledger(tmp_path)
    for shard in ledger.pull(range(3), print):
        do(ledger, shard)
    if damage == "record":
        (tmp_path / ledger.record(1)).write_text("{")
    elif damage == "output":
        (tmp_path / ledger.output(1)).write_text("")
    else:
        (tmp_path / ledger.record(1)).write_text(
            (tmp_path / ledger.record(1)).read_text().replace(ledger.plan.digest, "0" * 64)
        )
    assert finish(ledger) == 1
    assert list(ledger.pull(range(3), print)) == [1]
    do(ledger, 1)
    assert finish(ledger) is None


def test_what_killed_workers_left_goes_at_the_end(tmp_path: pathlib.Path) -> None:
    ledger = open_ledger(tmp_path)
    (tmp_path / ".0123456789abcdef.tmp").write_text("half a shard")
    for shard in ledger.pull(range(3), print):
        do(ledger, shard)
    finish(ledger)
    write_claim(tmp_path / CLAIMS / "finish", DEAD, "here")
    ledger.tidy()
    assert not list(tmp_path.glob(".*"))
    assert not (tmp_path / CLAIMS).exists()


def test_status_tells_the_living_from_the_dead(tmp_path: pathlib.Path) -> None:
    ledger = open_ledger(tmp_path)
    do(ledger, 2)
    write_claim(tmp_path / CLAIMS / "00000", DEAD, os.uname().nodename)
    write_claim(tmp_path / CLAIMS / "00001", DEAD, "elsewhere")
    status = ledger.describe(finished=False)
    assert (status.done, status.claimed, status.expired, status.missing) == (1, 1, 1, 0)
    assert (status.items, status.all_items, status.finished) == (1, 5, False)


@pytest.mark.parametrize("failures", [0, 1, 200])
def test_status_reads_no_facts_and_no_failure_is_too_long_for_it(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, failures: int
) -> None:
    plan = Plan({}, [], 300, 300, ["0"])
    ledger, _ = begin(LocalFolder(tmp_path), plan, False, lambda: None)
    failed = [{"item": f"{number}.png", "reason": 'it says , "facts": {}'} for number in range(failures)]

    def write(path: pathlib.Path) -> Record:
        path.write_bytes(b"tokens")
        return Record(plan.digest, 0, 300 - failures, failed, 6, "", {"histogram": [1] * 100_000})

    ledger.publish(0, write)
    with monkeypatch.context() as patch:
        if failures < 200:
            patch.setattr(LocalFolder, "read", lambda *_: pytest.fail("all of a record was read"))
        status = ledger.describe(finished=False)
    assert (status.done, status.items, status.failed) == (1, 300 - failures, failures)
    (tmp_path / "shard-00000.safetensors").write_bytes(b"half")
    assert ledger.describe(finished=False).done == 0


def test_starting_over_is_refused_while_somebody_works_and_clears_what_was_there(tmp_path: pathlib.Path) -> None:
    ledger = open_ledger(tmp_path)
    do(ledger, 0)
    write_claim(tmp_path / CLAIMS / "00001", 7, "elsewhere")
    with pytest.raises(BusyError, match="is being written by process 7 on elsewhere"):
        begin(LocalFolder(tmp_path), plan_of(2), True, lambda: clear_shards(LocalFolder(tmp_path)))
    assert ledger.is_done(0)
    (tmp_path / CLAIMS / "00001").unlink()
    begin(LocalFolder(tmp_path), plan_of(2), True, lambda: clear_shards(LocalFolder(tmp_path)))
    assert [path.name for path in tmp_path.iterdir()] == [PLAN]


def test_a_worker_of_an_older_plan_writes_nothing_into_a_newer_one(tmp_path: pathlib.Path) -> None:
    ledger = open_ledger(tmp_path)
    begin(LocalFolder(tmp_path), plan_of(2), True, lambda: clear_shards(LocalFolder(tmp_path)))
    with pytest.raises(MismatchError, match="was begun anew by another command"):
        do(ledger, 0)
    assert [path.name for path in tmp_path.iterdir()] == [PLAN]
