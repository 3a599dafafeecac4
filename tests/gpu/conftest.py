"""Nothing here is collected where there is no CUDA device, unless another device stands in for it.

`TOK_GPU_TESTS=cpu pytest -m gpu tests/gpu` runs all of it on a CPU, so that a mistake in it is found before a GPU is.
"""

import os

import pytest
import torch

STAND_IN = os.environ.get("TOK_GPU_TESTS")

collect_ignore_glob = [] if torch.cuda.is_available() or STAND_IN else ["test_*.py"]


@pytest.fixture
def device() -> str:
    """Where these tests compute."""
    return STAND_IN or "cuda"
