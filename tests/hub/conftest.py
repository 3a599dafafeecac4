"""The hub on loopback, for every test of this folder."""

import pathlib
from collections.abc import Iterator

import pytest
from loopback_hub import Hub, using_hub


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> Iterator[Hub]:
    """A running hub, empty, with an empty cache."""
    with using_hub(monkeypatch, tmp_path / "hub-cache") as running:
        yield running
