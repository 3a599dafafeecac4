"""What every part of a recipe is, whatever its family."""

from typing import Literal

from tokcli.schema import CheckedArguments

ModalityName = Literal["image", "audio"]


LONGEST_ARGUMENT = 60
"""Characters of an argument that a `repr` shows before it is cut."""


class Part(CheckedArguments):
    """What the `kind` of a recipe's node names: its arguments are checked, and its `repr` shows them."""

    def extra_repr(self) -> str:
        """The arguments that were given, as a call would write them."""
        return ", ".join(f"{name}={_shortened(value)}" for name, value in self.arguments.items())


def _shortened(value: object) -> str:
    text = repr(value)
    return text if len(text) <= LONGEST_ARGUMENT else f"{text[: LONGEST_ARGUMENT - 1]}…"
