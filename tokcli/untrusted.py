"""Values from strangers: JSON and YAML that may be of any length, depth and size, read with limits.

What is refused is refused in one sentence, as a `ValueError`; the reader of a format makes its own error of it, which
names the file.
"""

import json
import math
from typing import Any

DEEPEST = 64
"""Lists and maps within each other. What the program writes has fewer than ten."""

LONGEST_JSON = 1 << 30
"""Bytes of a piece of JSON: a token file of some million items."""

LARGEST_INTEGER = 2**63 - 1


def parse_json(text: bytes | str, longest: int = LONGEST_JSON) -> Any:
    """The plain values that a piece of JSON spells.

    Raises:
        ValueError: where it is not JSON, too long, too deep, or has numbers of more digits than Python reads.
    """
    if len(text) > longest:
        raise ValueError(f"{len(text):,} bytes of JSON are more than the {longest:,} that are read")
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("the JSON has too many lists and maps within each other") from None
    except UnicodeDecodeError:
        raise ValueError("the JSON is not UTF-8 text") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON: {error.msg} at character {error.pos}") from None
    except ValueError:
        raise ValueError("the JSON has a number of too many digits") from None


def check_plain(value: Any, finite: bool = False) -> None:
    """Refuse values that no recipe and no header has.

    Args:
        value: lists, maps, words, numbers, truth values and None, within each other.
        finite: also refuse infinity and NaN.

    Raises:
        ValueError: for what is too deep, a number beyond 64 bits, a control character, half a character, a value of
            another type, or a map's key that is no word.
    """
    # A list of what is still to be seen, not recursion, so that depth costs nothing.
    waiting = [(value, 0)]
    while waiting:
        current, depth = waiting.pop()
        if depth > DEEPEST:
            raise ValueError(f"more than {DEEPEST} lists and maps within each other")
        if isinstance(current, dict):
            for key, inner in current.items():
                _check_leaf(key, finite)
                waiting.append((inner, depth + 1))
        elif isinstance(current, list):
            waiting += ((inner, depth + 1) for inner in current)
        else:
            _check_leaf(current, finite)


def _check_leaf(value: Any, finite: bool) -> None:
    if value is None or isinstance(value, bool):
        return
    if isinstance(value, str):
        _check_word(value)
    elif isinstance(value, int):
        if abs(value) > LARGEST_INTEGER:
            raise ValueError(f"a number of {value.bit_length()} bits and a sign, where 64 are enough")
    elif isinstance(value, float):
        if finite and not math.isfinite(value):
            raise ValueError(f"the number {value}, where a finite one is needed")
    else:
        raise ValueError(f"a value of the type {type(value).__name__}, which is no word, number, list or map")


def _check_word(word: str) -> None:
    if word.isprintable():  # the usual case, found in C
        return
    for character in word:
        if (ord(character) < 32 and character not in "\t\n\r") or 127 <= ord(character) < 160:
            raise ValueError(f"the control character {character!a}")
        if "\ud800" <= character <= "\udfff":
            raise ValueError(f"half a character, {character!a}")
