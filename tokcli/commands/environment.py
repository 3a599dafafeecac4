"""What this machine offers: versions, devices, extras and weights, as a report of a bug wants them."""

import importlib.metadata
import importlib.util
import os
import platform
from typing import Any

import torch

from tokcli import __version__
from tokcli.backbones.inception import WEIGHT_FILE
from tokcli.backbones.lpips import WEIGHT_FILES
from tokcli.backbones.weights import find_weight_file

LIBRARIES = ("torch", "accelerate", "safetensors", "numpy", "pydantic", "typer", "soundfile", "soxr", "pillow", "lpips")

EXTRAS = {
    "audio": ("pesq", "pystoi"),
    "export": ("pyarrow",),
    "fid": ("torch_fidelity",),
    "probe": ("transformers",),
    "report": ("matplotlib",),
    "tensorboard": ("tensorboard",),
    "wandb": ("wandb",),
    "whisper": ("transformers",),
}
"""Modules by the extra that brings them."""


def describe_environment() -> dict[str, Any]:
    """Versions, devices, extras and weights, plain values."""
    weights = {f"lpips-{name}": file for name, file in WEIGHT_FILES.items()} | {"rfid": WEIGHT_FILE}
    return {
        "tok": __version__,
        "python": platform.python_version(),
        "system": platform.platform(),
        "libraries": {name: _find_version(name) for name in LIBRARIES},
        "devices": _list_devices(),
        "extras": {
            extra: "installed" if all(importlib.util.find_spec(name) for name in names) else "absent"
            for extra, names in EXTRAS.items()
        },
        "weights": {
            name: str(find_weight_file(file)) if find_weight_file(file).is_file() else "absent"
            for name, file in weights.items()
        },
        "variables": {name: value for name, value in sorted(os.environ.items()) if name.startswith("TOK_")},
    }


def _find_version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "absent"


def _list_devices() -> dict[str, str]:
    devices = {"cpu": f"{os.cpu_count()} cores, {torch.get_num_threads()} threads"}
    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        devices[f"cuda:{index}"] = f"{properties.name}, {properties.total_memory / 2**30:.0f} GiB"
    if torch.backends.mps.is_available():
        devices["mps"] = "available"
    return devices
