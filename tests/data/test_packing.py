"""Pixels travel as bytes and arrive as they were, to the bit."""

import pathlib

import torch

from tokcli.commands.copying import fill_batch
from tokcli.data.batches import Batch, open_training_loader
from tokcli.data.image.files import ImageFiles
from tokcli.numerics import pack_levels, unpack_levels


def test_levels_of_images_are_packed_and_nothing_else() -> None:
    signals = unpack_levels(torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16))
    packed = pack_levels(signals)
    assert packed.dtype == torch.uint8
    assert torch.equal(unpack_levels(packed), signals)
    for other in (signals + 1e-6, signals * 1.01, signals * torch.nan):
        assert pack_levels(other) is other


def test_a_batch_of_images_crosses_as_bytes(photos: pathlib.Path) -> None:
    source = ImageFiles(str(photos), 16)
    (batch,) = open_training_loader(source, batch_size=2, seed=0, start_step=0, steps=1)
    assert batch.packed.dtype == torch.uint8
    assert torch.equal(batch.move(torch.device("cpu")), batch.signals)
    assert Batch(torch.zeros(1, 1, 4)).signals.dtype == torch.float32


def test_the_last_batch_of_a_gpu_is_filled() -> None:
    signals = torch.arange(6.0).reshape(2, 1, 3)
    assert torch.equal(fill_batch(signals, 4), torch.cat([signals, signals[:1], signals[:1]]))
    assert torch.equal(fill_batch(signals, 2), signals)
