"""Tiny networks of other libraries, saved once."""

import pathlib
from collections.abc import Callable
from typing import Any

import pytest
import torch
from published_networks import BUILDERS


@pytest.fixture(scope="session")
def networks(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[pathlib.Path, Any]]:
    """By a name of the table above: the folder that it was saved in, and the network itself."""
    made: dict[str, tuple[pathlib.Path, Any]] = {}

    def find(name: str) -> tuple[pathlib.Path, Any]:
        if name not in made:
            folder = tmp_path_factory.mktemp("published") / name
            with torch.random.fork_rng():
                torch.manual_seed(0)
                model = BUILDERS[name]().eval()
            model.save_pretrained(folder)
            made[name] = (folder, model)
        return made[name]

    return find
