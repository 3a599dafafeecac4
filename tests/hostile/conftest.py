"""The base that hostile cases start from, made once by each test process."""

import pathlib

import pytest
from hostile_base import make_base


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """Finished runs, pictures, sounds, tokens and interrupted work."""
    return make_base(tmp_path_factory.mktemp("base"))
