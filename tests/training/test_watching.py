"""Training that can be watched: trackers receive the figures, and a finished run has its curves as a picture."""

import importlib.util
import json
import pathlib
import sys

import pytest
from PIL import Image

from tokcli.commands.train import train
from tokcli.errors import InterruptedRunError, UsageError
from tokcli.training.curves import choose_styles, draw_panels, moving_mean, read_curves
from tokcli.training.log import flatten_figures


class Notes:
    """A reporter that remembers its notes."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, message: str) -> None:
        self.notes.append(message)


def test_tensorboard_receives_every_line_once(recipe: str, tmp_path: pathlib.Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    result = train(recipe, ["training.trackers=[tensorboard]"], out=str(tmp_path / "run"))
    (events,) = (result.run / "tensorboard").rglob("events.*")
    seen = EventAccumulator(str(events.parent))
    seen.Reload()
    lines = [json.loads(line) for line in result.run.joinpath("metrics.jsonl").read_text().splitlines()]
    losses = [(line["step"], line["loss"]) for line in lines if "loss" in line]
    judged = [(line["step"], line["evaluation"]["psnr"]) for line in lines if "evaluation" in line]
    assert [step for step, _ in losses] == [2, 4, 6]
    for name, expected in (("training/loss", losses), ("evaluation/psnr", judged)):
        told = [(event.step, event.value) for event in seen.Scalars(name)]
        assert told == [(step, pytest.approx(value, rel=1e-6)) for step, value in expected]


def test_a_tracker_that_is_not_installed_is_named_before_training(
    recipe: str, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(UsageError, match=r"wandb is not installed; run: pip install wandb \(extra: wandb\)$"):
        train(recipe, ["training.trackers=[wandb]"], out=str(tmp_path / "run"))
    assert not (tmp_path / "run").exists()


@pytest.fixture
def fresh_wandb(monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> pytest.MonkeyPatch:
    """W&B as on a machine where nobody has a key; it reads its environment once a process, unless it is torn down."""
    import wandb

    wandb.teardown()
    for name in ("WANDB_MODE", "WANDB_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    return monkeypatch


def test_wandb_receives_the_figures_and_keeps_them_on_disk_when_offline(
    recipe: str, tmp_path: pathlib.Path, fresh_wandb: pytest.MonkeyPatch
) -> None:
    fresh_wandb.setenv("WANDB_MODE", "offline")
    result = train(recipe, ["training.trackers=[wandb]"], out=str(tmp_path / "run"))
    (kept,) = result.run.glob("wandb/offline-run-*/run-*.wandb")
    content = kept.read_bytes()
    assert b"training/loss" in content
    assert b"evaluation/psnr" in content


def test_a_resumed_run_is_one_run_of_wandb_and_a_new_one_another(
    recipe: str, tmp_path: pathlib.Path, fresh_wandb: pytest.MonkeyPatch
) -> None:
    fresh_wandb.setenv("WANDB_MODE", "offline")
    options, out = ["training.trackers=[wandb]"], str(tmp_path / "run")

    def stop(*_: object) -> None:
        raise InterruptedRunError("stopped")

    with fresh_wandb.context() as patch:
        patch.setattr("tokcli.training.loop.agree_to_stop", stop)
        with pytest.raises(InterruptedRunError):
            train(recipe, options, out=out)
    known = (tmp_path / "run" / "wandb-id.txt").read_text().strip()
    train(recipe, options, out=out)
    assert {path.name for path in (tmp_path / "run" / "wandb").rglob("*.wandb")} == {f"run-{known}.wandb"}
    train(recipe, options, out=out, force=True)
    assert (tmp_path / "run" / "wandb-id.txt").read_text().strip() != known


def test_wandb_without_a_key_is_one_sentence(
    recipe: str, tmp_path: pathlib.Path, fresh_wandb: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UsageError, match=r"^W&B did not start: No API key .*; run: wandb login, or set WANDB_MODE"):
        train(recipe, ["training.trackers=[wandb]"], out=str(tmp_path / "run"))


def test_unknown_figures_are_not_told_and_names_carry_their_part() -> None:
    assert flatten_figures({"step": 4, "loss": 0.5, "mse": None}) == {"training/loss": 0.5}
    assert flatten_figures({"step": 4, "evaluation": {"psnr": 20.0, "cvu": None}}) == {"evaluation/psnr": 20.0}


def test_a_finished_run_has_its_curves_as_a_picture(recipe: str, tmp_path: pathlib.Path) -> None:
    result = train(recipe, out=str(tmp_path / "run"))
    picture = Image.open(result.run / "curves.png")
    assert picture.width > 800
    assert len(picture.convert("RGB").getcolors(2**24)) > 50
    training, evaluation = read_curves(result.run / "metrics.jsonl")
    assert [step for step, _ in training["loss"]] == [2, 4, 6]
    assert evaluation["cvu"][-1] == (6, result.metrics["cvu"])
    assert "items_per_second" not in training


def test_without_matplotlib_a_note_says_how_to_get_it(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    reporter = Notes()
    assert not draw_panels({}, tmp_path / "curves.png", reporter, "run")
    assert reporter.notes == []
    assert not draw_panels({"loss": {"a": [(1, 1.0)]}}, tmp_path / "curves.png", reporter, "run")
    assert reporter.notes == ["no curves.png: matplotlib is not installed; run: pip install matplotlib"]
    assert not (tmp_path / "curves.png").exists()


def test_fourteen_curves_look_different() -> None:
    """Seven methods at two sizes were once drawn in ten colours."""
    labels = [f"method {number}" for number in range(14)]
    styles = choose_styles([*labels, labels[0]])
    assert list(styles) == labels
    assert len(set(styles.values())) == 14


def test_a_picture_with_a_legend_has_room_for_it_beside_the_panels(tmp_path: pathlib.Path) -> None:
    pytest.importorskip("matplotlib")
    curve = [(1, 0.5), (2, 0.6)]
    for name, curves in (("one", {"a": curve}), ("two", {"a": curve, "b": curve})):
        assert draw_panels({"cvu": curves}, tmp_path / f"{name}.png", Notes(), "title")
    alone, legend = Image.open(tmp_path / "one.png"), Image.open(tmp_path / "two.png")
    assert legend.width > alone.width


def test_a_line_cut_short_ends_the_curves(tmp_path: pathlib.Path) -> None:
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "loss": 2.0}\n{"step": 2, "loss": null}\n{"step": 3, "lo')
    assert read_curves(tmp_path / "metrics.jsonl") == ({"loss": [(1, 2.0)]}, {})


def test_the_moving_mean_shortens_at_the_ends() -> None:
    assert moving_mean([0.0, 3.0, 6.0, 3.0]) == [1.5, 3.0, 4.0, 4.5]
