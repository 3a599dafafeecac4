"""Weights that other programs trained, as tokenizers of ours: a file of theirs in, an artifact's content out.

To add one of the same network: how it names its tensors, as a line of the table in `naming.py`.
"""

from tokcli.foreign_weights.conversion import UNKNOWN, Foreign, convert
from tokcli.foreign_weights.naming import NAMINGS, find_naming
from tokcli.foreign_weights.reading import read_weights

__all__ = ["NAMINGS", "UNKNOWN", "Foreign", "convert", "find_naming", "read_weights"]
