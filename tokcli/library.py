"""The library's front door: a trained tokenizer as one object that takes what people have and says what it cannot take.

    anything --> signals in [-1, 1] --> Tokenizer.encode --> tokens        what goes in as one comes out as one,
    anything <-- signals in [-1, 1] <-- Tokenizer.decode <-- tokens        a batch as a batch, a list as a list

`tokcli/__init__.py` offers what stands here under short names.
"""

import os
import pathlib
import warnings
from collections.abc import Sequence
from numbers import Integral
from typing import Any, overload

import numpy
import torch
from PIL import Image
from torch import Tensor

from tokcli.artifacts import Artifact, load_artifact
from tokcli.artifacts.artifact import codebook_ready
from tokcli.contracts import ModalityName, Stream
from tokcli.data.image.decoding import to_signal, to_upright_rgb
from tokcli.data.modality import MODALITIES
from tokcli.errors import InputError, MismatchError, UsageError
from tokcli.models import find_model, name_model, pick_device, require_trained
from tokcli.tokenizer import Tokenizer
from tokcli.tokens import TokenItem, TokenReader, open_tokens

Path = str | os.PathLike[str]
Signal = Image.Image | numpy.ndarray | Tensor | Path
"""One signal, or an array that holds a batch of them."""
Tokens = Tensor | numpy.ndarray | TokenItem

BEYOND = 1e-3
"""How far values may exceed [-1, 1]: interpolation and the rounding of half precision overshoot a little."""

AXES: dict[ModalityName, tuple[str, ...]] = {"image": ("height", "width"), "audio": ("samples",)}
"""The axes of one signal of each modality behind its channels."""


def load(path: Path, codebook: int | None = None, device: str = "cpu") -> "LoadedTokenizer":
    """Open a trained tokenizer.

    Args:
        path: A run folder, the artifact in it (`tokenizer.safetensors`), or the name of a tokenizer that comes with
            tok: `photo` or `speech` for the newest of that name, `photo@1` for that very one; or a repository of a
            hub, `hf:USER/NAME` or `hf:USER/NAME@REVISION`.
        codebook: Which of the codebooks built after training, by its size; None takes the one last in use.
        device: Where it computes: `cpu`, `cuda`, `mps`, or `auto` for the best of these.

    Example:
        >>> import tokcli
        >>> tokenizer = tokcli.load("runs/quickstart")
        >>> tokenizer.codebook_size
        1000

    Raises:
        InputError: There is no artifact.
        MismatchError: The file is no artifact, or it is damaged.
        UsageError: It has no such codebook, or this machine no such device.
    """
    found = require_trained(find_model(os.fspath(path)))
    artifact = load_artifact(found, codebook)
    artifact.tokenizer.to(pick_device(device))
    return LoadedTokenizer(artifact, found)


def load_tokens(path: Path) -> TokenReader:
    """Open what `tok encode` wrote, in any of its formats; the tokens themselves are read when they are asked for.

    Args:
        path: The token file, or its folder.

    Example:
        >>> import tokcli
        >>> tokens = tokcli.load_tokens("tokens.npy")
        >>> tokens[0].name
        '000.png'
        >>> tokens.array().shape        # (items, *grid, groups)
        (3, 16, 16, 1)

    Raises:
        InputError: There is nothing to read.
        MismatchError: It was not written by `tok encode`, or it is damaged.
    """
    return open_tokens(pathlib.Path(path))


class LoadedTokenizer:
    """A trained tokenizer: signals to tokens and back.

    Args:
        artifact: The weights and the recipe.
        path: The file that they came from.

    Attributes:
        artifact: All that the file says of itself: `artifact.recipe`, `artifact.training`, `artifact.codebooks`.
        module: The network, for those who train on through it.
    """

    artifact: Artifact
    module: Tokenizer

    def __init__(self, artifact: Artifact, path: pathlib.Path) -> None:
        self.artifact = artifact
        self.module = artifact.tokenizer
        self.path = path

    @property
    def modality(self) -> ModalityName:
        """What it tokenizes, `image` or `audio`."""
        return self.module.modality

    @property
    def codebook_size(self) -> int:
        """Values that a token can take: 0 to `codebook_size - 1`."""
        return self.module.quantizer.codebook_size

    @property
    def groups(self) -> int:
        """Tokens at each position; where there is more than one, they are the last axis of all tokens."""
        return self.module.quantizer.groups

    @property
    def stride(self) -> int:
        """Pixels or samples that one position stands for, along each axis."""
        return self.module.autoencoder.stride

    @property
    def sample_rate(self) -> int | None:
        """Of audio, in Hz, which arrays must have; files are resampled to it. None for images."""
        return self.module.autoencoder.sample_rate

    def __repr__(self) -> str:
        name, kind = name_model(self.path), self.artifact.recipe.quantizer["kind"]
        return f"<{self.modality} tokenizer {name}: {kind}, {self.codebook_size} codes, stride {self.stride}>"

    @overload
    def encode(self, signal: Signal) -> Tensor: ...
    @overload
    def encode(self, signal: Sequence[Signal]) -> list[Tensor]: ...
    def encode(self, signal: Signal | Sequence[Signal]) -> Tensor | list[Tensor]:
        """Turn a signal, a batch of them, or a list of anything of this kind, into tokens.

        Everything is taken at its own size; one that the stride does not divide is padded with its edge.

        Args:
            signal: A picture as a PIL image (any mode), as a NumPy array with channels last, (height, width, 3), or
                as a torch tensor with channels first, (3, height, width); a sound as (samples,), or with an axis of
                one channel in the same place, at `sample_rate`; with one axis more in front, a batch. Values are uint8
                (pictures) or floats in [-1, 1]. Or the path of a file. Or a list of these.

        Returns:
            int64 on the tokenizer's device: (*grid), (batch, *grid), or a list; a last axis of groups where there is
            more than one.

        Example:
            >>> import numpy, tokcli
            >>> tokenizer = tokcli.load("runs/quickstart")
            >>> tokenizer.encode("photos/000.png").shape
            torch.Size([16, 16])
            >>> tokenizer.encode(numpy.zeros((5, 64, 48, 3), numpy.uint8)).shape
            torch.Size([5, 16, 12])

        Raises:
            InputError: Values, channels or axes that it cannot mean, or a file that cannot be read.
            UsageError: Its codebook is still to be built.
            TypeError: It is nothing of the above.
        """
        self._require_codebook()
        if isinstance(signal, list | tuple):
            return [self._encode_one(each) for each in signal]
        return self._encode_one(signal)

    @overload
    def decode(self, tokens: Tokens, size: Sequence[int] | None = None) -> Tensor: ...
    @overload
    def decode(self, tokens: Sequence[Tokens], size: Sequence[int] | None = None) -> list[Tensor]: ...
    def decode(self, tokens: Tokens | Sequence[Any], size: Sequence[int] | None = None) -> Tensor | list[Tensor]:
        """Turn tokens into signals.

        Args:
            tokens: Of any integer type, (*grid) or (batch, *grid), with a last axis of groups where there is more than
                one (a last axis of length 1 counts as one of groups; of a residual quantizer the first groups may stand
                alone, for a coarser signal); an item of `load_tokens`; or a list of these, or nested lists of numbers.
            size: Crop to so many pixels (height, width) or samples; None: as many as the grid covers, or the size of
                the item of `load_tokens`.

        Returns:
            float32 in about [-1, 1] on the tokenizer's device: (channels, *size), (batch, channels, *size), or a list.

        Example:
            >>> import tokcli
            >>> tokenizer = tokcli.load("runs/quickstart")
            >>> tokenizer.decode(tokenizer.encode("photos/000.png")).shape
            torch.Size([3, 64, 64])

        Raises:
            MismatchError: A token that the codebook does not have, or a shape or a size that does not fit.
            UsageError: Its codebook is still to be built.
            TypeError: They are no integers.
        """
        self._require_codebook()
        if isinstance(tokens, list | tuple) and tokens and not isinstance(tokens[0], Integral | list | tuple):
            return [self._decode_one(each, size) for each in tokens]
        return self._decode_one(tokens, size)

    def save(self, signal: Tensor, path: Path) -> None:
        """Write one decoded signal to a file: a picture as .png, a sound as .wav or .flac.

        Args:
            signal: (channels, *size), as `decode` gives it.
            path: Where to; its suffix is the format.

        Example:
            >>> import tokcli
            >>> tokenizer = tokcli.load("runs/quickstart")
            >>> tokenizer.save(tokenizer.decode(tokenizer.encode("photos/000.png")), "reconstruction.png")

        Raises:
            UsageError: It is not written in that format.
        """
        modality, target = MODALITIES[self.modality], pathlib.Path(path)
        modality.choose_suffix(target.suffix[1:])
        modality.save(target, [signal], self.sample_rate)

    def _require_codebook(self) -> None:
        if not codebook_ready(self.module):
            raise UsageError(f"the tokenizer {self.path} has no codebook yet; run: tok build-codebook {self.path}")

    def _encode_one(self, signal: Any) -> Tensor:
        if isinstance(signal, str | os.PathLike):
            return self._encode_file(os.fspath(signal))
        if isinstance(signal, Image.Image):
            if self.modality != "image":
                raise InputError(f"this tokenizer takes {self.modality}, got a picture")
            return self._encode_batch(_image_to_signal(signal)[None])[0]
        batch, single = self._as_batch(signal)
        tokens = self._encode_batch(batch)
        return tokens[0] if single else tokens

    def _encode_file(self, path: str) -> Tensor:
        """The file as `tok encode --size native` reads it."""
        modality = MODALITIES[self.modality]
        if not pathlib.Path(path).is_file() or not path.lower().endswith(modality.suffixes):
            kinds = ", ".join(modality.suffixes)
            raise InputError(f"{path}: expected one file ({kinds}); for folders there is: tok encode FOLDER -o OUT")
        item = modality.open_source([path], None, self.sample_rate).load_or_stream(0)
        if isinstance(item, Stream):
            return self._without_groups(self.module.encode_stream(item.blocks()))
        return self._encode_batch(item.signal[None])[0]

    def _encode_batch(self, signals: Tensor) -> Tensor:
        """signals: (batch, channels, *size) float in [-1, 1] -> tokens as users see them."""
        return self._without_groups(self.module.encode(signals.to(self.module.device, torch.float32)))

    def _without_groups(self, tokens: Tensor) -> Tensor:
        return tokens.squeeze(-1) if self.groups == 1 else tokens

    def _as_batch(self, signal: Any) -> tuple[Tensor, bool]:
        """An array as (batch, channels, *size) float in [-1, 1], and whether it was one signal without a batch.

        Raises InputError with what is wrong and how to mend it, TypeError where it is no array.
        """
        if not isinstance(signal, Tensor | numpy.ndarray):
            raise TypeError(f"expected a PIL image, an array, a path, or a list of these; got {type(signal).__name__}")
        axes, channels = AXES[self.modality], self.module.autoencoder.channels
        if self.modality == "audio" and signal.ndim == 1:
            signal = signal[None] if isinstance(signal, Tensor) else signal[:, None]
        last = isinstance(signal, numpy.ndarray)
        order = (*axes, "channels") if last else ("channels", *axes)
        position = -1 if last else -1 - len(axes)
        if signal.ndim not in (len(order), len(order) + 1) or signal.shape[position] != channels:
            library = "NumPy arrays" if last else "torch tensors"
            expected = ", ".join(str(channels) if axis == "channels" else axis for axis in order)
            raise InputError(
                f"shape {tuple(signal.shape)}: {library} are ({expected}) here, with one more axis in front for a batch"
            )
        if 0 in signal.shape:
            raise InputError(f"shape {tuple(signal.shape)}: there is nothing to encode")
        values = self._checked_values(_to_tensor(signal))
        values = values.movedim(-1, -1 - len(axes)) if last else values
        return (values, False) if signal.ndim > len(order) else (values[None], True)

    def _checked_values(self, values: Tensor) -> Tensor:
        """uint8 scaled as files are, floats as they stand. Raises InputError for values of any other range or type."""
        if values.dtype == torch.uint8 and self.modality == "image":
            return values.float().mul_(1 / 127.5).sub_(1.0)
        if not values.is_floating_point():
            kinds = "uint8 or floats in [-1, 1]" if self.modality == "image" else "floats in [-1, 1]"
            raise InputError(f"values of type {values.dtype}: expected {kinds}; scale them first")
        lowest, highest = values.min().item(), values.max().item()
        # Written so that NaN, which is neither, does not pass.
        if not (lowest >= -1 - BEYOND and highest <= 1 + BEYOND):
            raise InputError(f"values from {lowest:g} to {highest:g}: floats must lie in [-1, 1]; scale them first")
        if self.modality == "image" and lowest >= 0 and highest > lowest:
            warnings.warn(
                "no value of these pictures is below 0, the middle grey; floats in [0, 1] are scaled by 2 * x - 1",
                stacklevel=5,
            )
        return values

    def _decode_one(self, tokens: Any, size: Sequence[int] | None) -> Tensor:
        if isinstance(tokens, TokenItem):
            tokens, size = tokens.tokens, size or tokens.signal_size
        batch, single = self._as_token_batch(tokens)
        grid = batch.shape[1:-1]
        covered = tuple(length * self.stride for length in grid)
        wanted = covered if size is None else tuple(size)
        if len(wanted) != len(grid) or self.module.grid(wanted) != tuple(grid):
            raise MismatchError(f"the size {wanted} does not fit a grid of {tuple(grid)}, which covers {covered}")
        signals = self.module.decode(batch.to(self.module.device), wanted)
        return signals[0] if single else signals

    def _as_token_batch(self, tokens: Any) -> tuple[Tensor, bool]:
        """Tokens as (batch, *grid, groups) int64, and whether they were of one signal. Raises as `decode` does."""
        values = _to_integers(tokens)
        axes = len(AXES[self.modality])
        if self.groups == 1 and not (values.ndim > axes and values.shape[-1] == 1):
            values = values.unsqueeze(-1)
        if (
            values.ndim not in (axes + 1, axes + 2)
            or values.shape[-1] not in self.module.prefixes
            or not values.numel()
        ):
            grid = ", ".join(["height", "width"] if axes == 2 else ["positions"])
            expected = f"({grid}, {self.groups})" if self.groups > 1 else f"({grid})"
            raise MismatchError(f"tokens of shape {tuple(values.shape)}: expected {expected}, or a batch of these")
        lowest, highest = int(values.min()), int(values.max())
        if lowest < 0 or highest >= self.codebook_size:
            wrong = lowest if lowest < 0 else highest
            raise MismatchError(
                f"the token {wrong} is not one of the {self.codebook_size} codes (0 to {self.codebook_size - 1})"
            )
        return (values, False) if values.ndim == axes + 2 else (values[None], True)


def _image_to_signal(image: Image.Image) -> Tensor:
    """(3, height, width) in [-1, 1]. Raises InputError where the picture is damaged: Pillow reads it only now."""
    try:
        image.load()
    except OSError as error:
        raise InputError(f"the picture cannot be read: {error}") from error
    return to_signal(to_upright_rgb(image))


def _to_tensor(values: Tensor | numpy.ndarray) -> Tensor:
    """An array as a tensor. Raises InputError for a type of number that torch does not have."""
    if isinstance(values, Tensor):
        return values.detach()
    try:
        # A copy where the array is read backwards or may not be written, neither of which torch has.
        return torch.from_numpy(numpy.array(values, order="C"))
    except TypeError as error:
        raise InputError(f"values of type {values.dtype}: expected uint8 or floats in [-1, 1]") from error


def _to_integers(tokens: Any) -> Tensor:
    """Integers of any type and in any container as int64. Raises TypeError where they are none."""
    if isinstance(tokens, Tensor):
        whole = not (tokens.is_floating_point() or tokens.is_complex() or tokens.dtype == torch.bool)
        if not whole:
            raise TypeError(f"tokens are integers, got {tokens.dtype}")
        return tokens.detach().to(torch.int64)
    array = numpy.asarray(tokens)
    if array.dtype.kind not in "iu":
        raise TypeError(f"tokens are integers, got {array.dtype if array.dtype != object else type(tokens).__name__}")
    if array.dtype == numpy.uint64 and array.size and array.max() > numpy.iinfo(numpy.int64).max:
        raise MismatchError(f"the token {array.max()} is not one that a codebook can have")
    return torch.from_numpy(array.astype(numpy.int64))
