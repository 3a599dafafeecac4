"""What tests of training share: a recipe on disk, and a way to do something at the end of a step."""

import contextlib
import pathlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import pytest

from tokcli.training import loop
from tokcli.training.parts import Training

AfterStep = Callable[[int, Callable[[Training], None]], AbstractContextManager[None]]


@pytest.fixture
def recipe(tiny: str, tmp_path: pathlib.Path) -> str:
    """The path of the tiny recipe."""
    path = tmp_path / "tiny.yaml"
    path.write_text(tiny)
    return str(path)


@pytest.fixture
def after_step(monkeypatch: pytest.MonkeyPatch) -> AfterStep:
    """`with after_step(number, action)`: that step, counted from 1, ends with `action(training)`."""

    @contextlib.contextmanager
    def install(number: int, action: Callable[[Training], None]) -> Iterator[None]:
        take_step = loop.take_step

        def observed(training: Training, *others: object) -> None:
            take_step(training, *others)
            if training.step + 1 == number:
                action(training)

        with monkeypatch.context() as patch:
            patch.setattr(loop, "take_step", observed)
            yield

    return install
