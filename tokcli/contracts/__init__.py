"""The contracts of the project: what each family of parts promises, declared in full, and what passes between them.

A family's base class is abstract, and everything that the rest of the program reads of a part stands in it with its
type: whoever follows it to the letter has a part that trains, is evaluated and is saved.

Latents are channel-last outside an autoencoder, `(batch, *positions, dim)`, so one quantizer serves grids and
sequences. Tokens are int64 `(batch, *positions, groups)`. Signals are `(batch, channels, *size)` float in [-1, 1].
"""

from tokcli.contracts.autoencoders import Autoencoder
from tokcli.contracts.candidates import Candidate, Codec, Pass, Rate, compute_rate
from tokcli.contracts.metrics import ItemParts, Metric, RoundTrip
from tokcli.contracts.objectives import Discriminator, Loss, Verdict
from tokcli.contracts.parts import ModalityName, Part
from tokcli.contracts.quantizers import BuildsCodebook, CodebookReport, Quantized, Quantizer
from tokcli.contracts.sources import Item, Source, SourceDescription, SourceFiles, Stream, make_mark

__all__ = [
    "Autoencoder",
    "BuildsCodebook",
    "Candidate",
    "CodebookReport",
    "Codec",
    "Discriminator",
    "Item",
    "ItemParts",
    "Loss",
    "Metric",
    "ModalityName",
    "Part",
    "Pass",
    "Quantized",
    "Quantizer",
    "Rate",
    "RoundTrip",
    "Source",
    "SourceDescription",
    "SourceFiles",
    "Stream",
    "Verdict",
    "compute_rate",
    "make_mark",
]
