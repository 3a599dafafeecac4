"""What the host keeps of the device: read once, and again after whatever changed it."""

import copy

import pytest
import torch
from torch import Tensor

from tokcli.quantizers.base import Flag, HostMirror, in_float32


class Counting:
    """Reads a number and counts how often."""

    def __init__(self) -> None:
        self.reads = 0

    def __call__(self, tensor: Tensor) -> int:
        self.reads += 1
        return int(tensor)


def test_a_number_is_read_once_while_nothing_changes_it() -> None:
    read, number = Counting(), torch.tensor(3)
    mirror = HostMirror(read)
    assert [mirror.read(number) for _ in range(3)] == [3, 3, 3]
    assert read.reads == 1


def test_a_change_in_place_and_another_tensor_are_noticed() -> None:
    mirror, number = HostMirror(int), torch.tensor(3)
    assert mirror.read(number) == 3
    number.fill_(4)
    assert mirror.held(number) is None
    assert mirror.read(number) == 4
    assert mirror.held(torch.tensor(4)) is None


def test_what_is_kept_is_believed_until_the_tensor_changes_again() -> None:
    read, number = Counting(), torch.tensor(3)
    mirror = HostMirror(read)
    number.fill_(5)
    assert mirror.keep(5, number) == mirror.read(number) == 5
    assert read.reads == 0


def test_a_falsy_value_is_kept_too() -> None:
    read, number = Counting(), torch.tensor(0)
    mirror = HostMirror(read)
    assert mirror.read(number) == mirror.read(number) == 0
    assert read.reads == 1


def test_tensors_made_in_inference_mode_are_read_every_time() -> None:
    read = Counting()
    mirror = HostMirror(read)
    with torch.inference_mode():
        number = torch.tensor(3)
        mirror.read(number)
        number.fill_(4)
        assert mirror.read(number) == 4
    assert read.reads == 2


def test_a_copy_begins_empty() -> None:
    number = torch.tensor(3)
    mirror = HostMirror(int)
    mirror.read(number)
    assert copy.deepcopy(mirror).held(number) is None


def test_a_flag_follows_what_is_loaded_and_its_copies_go_their_own_way() -> None:
    flag, other = Flag(), Flag()
    flag.set()
    assert flag.is_set
    assert list(flag.state_dict()) == ["state"]
    other.load_state_dict(flag.state_dict())
    assert other.is_set
    duplicate = copy.deepcopy(flag)
    flag.set(False)
    assert not flag.is_set
    assert duplicate.is_set


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_a_method_in_float32_sees_float32_and_no_autocast(dtype: torch.dtype) -> None:
    class Product:
        @in_float32
        def square(self, latents: Tensor) -> Tensor:
            return latents @ latents.T

    with torch.autocast("cpu", torch.bfloat16):
        assert Product().square(torch.ones(2, 2, dtype=dtype)).dtype == torch.float32
