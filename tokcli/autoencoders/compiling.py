"""`--compile`: torch.compile for what a tokenizer spends its time in, encoder and decoder."""

import torch

from tokcli.contracts import Autoencoder
from tokcli.errors import UsageError


def compile_autoencoder(autoencoder: Autoencoder, device: torch.device) -> None:
    """Have an autoencoder compile itself when it is first used, for new shapes of signals; its weights stay.

    Raises:
        UsageError: where there is no compiler for the device.
    """
    require_compiler(device)
    autoencoder.encode = torch.compile(autoencoder.encode)
    autoencoder.decode = torch.compile(autoencoder.decode)


def require_compiler(device: torch.device) -> None:
    """Compile a small function. Raises UsageError, with what is missing, where that fails."""
    try:
        torch.compile(_add_squares)(torch.ones(8, device=device))
    except Exception as error:  # of whichever compiler it was; nothing else can go wrong here
        needed = "Triton, and a C compiler" if device.type == "cuda" else "a C++ compiler, such as g++"
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        said = lines[0] if lines else type(error).__name__
        raise UsageError(
            f"--compile: torch.compile does not work here on {device.type} ({said}); it needs {needed}: install that, "
            "or leave the flag out"
        ) from error


def _add_squares(values: torch.Tensor) -> torch.Tensor:
    return values + values.square()
