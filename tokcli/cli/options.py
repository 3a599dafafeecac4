"""Flags that several verbs share, and how one flag holds several values."""

from collections.abc import Callable, Sequence
from typing import Annotated

import typer

from tokcli.cli.completion import complete_model
from tokcli.cli.workers import count_workers
from tokcli.errors import UsageError
from tokcli.files import parse_size

LONGEST_NUMBER = 12
"""Digits."""


def names(text: str | None) -> list[str] | None:
    """The words between commas: `psnr, ssim` -> ["psnr", "ssim"]. For `typer.Option(callback=names)`."""
    return [word.strip() for word in text.split(",")] if text else None


def read_pairs(flag: str, texts: Sequence[str] | None, expected: str) -> dict[str, str] | None:
    """Several `NAME=FILE`, each flag with one or more between commas; None where there are none.

    Args:
        flag: As it is typed.
        texts: What stands behind it, each time.
        expected: What a user should have typed, for the message that refuses something else.
    """
    parts = [part for text in texts or () for part in names(text) or [text]]
    split = [part.partition("=") for part in parts]
    for part, (name, _, file) in zip(parts, split, strict=True):
        if not (name and file):
            raise UsageError(f"{flag}: expected {expected}; got '{part}'")
    return {name: file for name, _, file in split} or None


def read_samples(parameter: typer.CallbackParam, text: str | None) -> int | str | None:
    """A number of samples, or the word native. For `typer.Option(callback=read_samples)`."""
    if text is None or text == "native":
        return text
    if not (is_number(text) and int(text) > 0):
        raise UsageError(f"--size: expected a number of samples or 'native', got '{text[:40]}'")
    return int(text)


def size_in_bytes(parameter: typer.CallbackParam, text: str | None) -> int | None:
    """A size of a file: `5MB` -> 5,000,000. For `typer.Option(callback=size_in_bytes)`."""
    if text is None:
        return None
    size = parse_size(text)
    if size is None:
        raise UsageError(f"--{parameter.opts[0].lstrip('-')}: expected a size such as 5MB or 800kB; got '{text}'")
    return size


def is_number(text: str) -> bool:
    """Whether it is a whole number; one of thousands of digits is none, and Python refuses to read it."""
    return text.isdecimal() and len(text) <= LONGEST_NUMBER


def numbers(expected: str, least: int = 1, word: str | None = None) -> Callable[..., list[int] | str | None]:
    """Whole numbers between commas: `8, 16` -> [8, 16]. For `typer.Option(callback=numbers(...))`.

    Args:
        expected: What a user should have typed, for the message that refuses something else.
        least: The smallest number that makes sense.
        word: May stand in place of the numbers, and is handed on as it is.
    """

    def parse(parameter: typer.CallbackParam, text: str | None) -> list[int] | str | None:
        if text is None or text == word:
            return text
        parts = names(text) or [text]
        if not all(is_number(part) and int(part) >= least for part in parts):
            raise UsageError(f"--{parameter.opts[0].lstrip('-')}: expected {expected}; got '{text}'")
        return [int(part) for part in parts]

    return parse


def lengths(parameter: typer.CallbackParam, text: str | None) -> list[int] | None:
    """Lengths along each axis: `64` -> [64], `256x192` -> [256, 192]. For `typer.Option(callback=lengths)`."""
    if text is None:
        return None
    parts = text.lower().replace("×", "x").split("x")
    if len(parts) > 2 or not all(is_number(part) and int(part) for part in parts):
        raise UsageError(f"{parameter.opts[0]}: expected HxW, such as 256x192, or one number; got '{text[:40]}'")
    return [int(part) for part in parts]


def choose_model(given: str | None, named: str | None) -> str | None:
    """The model that a verb got as its argument or by `-m`. Raises UsageError where these are two."""
    if given is not None and named is not None and given != named:
        raise UsageError(f"two models: {given}, and {named} by -m; name one")
    return given if given is not None else named


BatchSize = Annotated[int | None, typer.Option("--batch-size", help="Items at a time. [default: by device]", min=1)]
Codebook = Annotated[int | None, typer.Option("--codebook", metavar="K", help="Which built codebook, by its size.")]
Groups = Annotated[
    int | None,
    typer.Option("--groups", help="The first so many tokens of a position. [default: all of them]", min=1),
]
Compiled = Annotated[
    bool, typer.Option("--compile", help="Compile the network first (torch.compile): pays for large sets, on a GPU.")
]
Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda or mps.")]
Force = Annotated[bool, typer.Option("--force", "-f", help="Overwrite what is there.")]
Model = Annotated[
    str | None,
    typer.Option(
        "--model",
        "-m",
        metavar="MODEL",
        help="An artifact, a run, photo, speech, hf:USER/NAME, a folder of save_pretrained. "
        "[default: $TOK_MODEL, the last run, or by the files]",
        autocompletion=complete_model,
    ),
]
OneModel = Annotated[
    str | None,
    typer.Argument(
        metavar="MODEL",
        help="An artifact, a run folder, photo, speech, hf:USER/NAME. [default: the last run]",
        autocompletion=complete_model,
    ),
]
Processes = Annotated[
    str,
    typer.Option(
        "--processes",
        metavar="N|auto",
        callback=count_workers,
        help="Processes on this machine that share the work; auto: one for each GPU, else for each core.",
    ),
]
