"""A device that computes nothing, in the place of a GPU that is not here: what was left elsewhere fails there, and so
does everything that waits for a result (`.item()`, `bool()`, a shape that depends on data).

    with meta_device():
        module = move(module)
        module(torch.empty(2, 3, device="meta")).sum().backward()
"""

import contextlib
from collections.abc import Iterator
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn

from tokcli.quantizers.base import HostMirror

META = torch.device("meta")

_read, _autocast = HostMirror.read, torch.autocast
_known: dict[int, Any] = {}


@contextlib.contextmanager
def meta_device() -> Iterator[None]:
    """Within this context modules work on `meta` as far as a GPU would not be waited for.

    One wait is allowed: what the host keeps of a tensor (`HostMirror`) is read once after the tensor was moved. A
    second look at it, in the next step, is a wait in every step, and fails.
    """

    def autocast(device: str, *arguments: Any, **options: Any) -> Any:
        """As torch's, which knows no `meta`."""
        return contextlib.nullcontext() if device == META.type else _autocast(device, *arguments, **options)

    def read(mirror: HostMirror[Any], *tensors: Tensor) -> Any:
        try:
            return _read(mirror, *tensors)
        except RuntimeError:
            if id(mirror) not in _known:
                raise
            return mirror.keep(_known.pop(id(mirror)), *tensors)

    with mock.patch.object(HostMirror, "read", read), mock.patch.object(torch, "autocast", autocast):
        yield
    _known.clear()


def move(module: nn.Module) -> nn.Module:
    """Move a module to `meta`; what the host knows of its tensors by now, it knows there after one look."""
    copy_knowledge(module, module)
    return module.to(META)


def copy_knowledge(module: nn.Module, example: nn.Module) -> None:
    """Let one look at `module` tell what the host knows of `example`, a module of the same build on the CPU."""
    for own, other in zip(module.modules(), example.modules(), strict=True):
        for name, mirror in vars(own).items():
            if isinstance(mirror, HostMirror):
                _known[id(mirror)] = vars(other)[name]._value


def require_there(tensors: dict[str, Tensor]) -> None:
    """Fail where a tensor lies elsewhere, by its name."""
    assert {name: value.device.type for name, value in tensors.items() if value.device != META} == {}
