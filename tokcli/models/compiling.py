"""`--compile` for a model that was opened, with what it does to its tokens."""

import torch

from tokcli.autoencoders.compiling import compile_autoencoder
from tokcli.contracts import Item, Source
from tokcli.data.items import read_items
from tokcli.errors import UsageError
from tokcli.models.model import Model, TrainedModel
from tokcli.progress import Reporter

COMPARED = 4
"""Items whose tokens are compared with and without."""

LONGEST = 2**18
"""Samples of a sound that are compared."""


def compile_model(model: Model) -> None:
    """Compile a model's network. Raises UsageError for one of another library, and where there is no compiler."""
    if not isinstance(model, TrainedModel):
        raise UsageError(f"--compile is for tokenizers of tok, and {model.name} is another library's; leave it out")
    compile_autoencoder(model.tokenizer.autoencoder, model.device)


def compile_and_compare(model: Model, source: Source, reporter: Reporter) -> None:
    """Compile a model's network, and say how many tokens of the first items are others by it than without.

    Raises:
        UsageError: as `compile_model` does.
    """
    readings = read_items(source, 0, indices=range(min(COMPARED, len(source))))
    items = [reading.signal[None] for reading in readings if isinstance(reading, Item)]
    signals = [(signal[..., :LONGEST] if signal.dim() == 3 else signal).to(model.device) for signal in items]
    before = [model.codec.encode(signal) for signal in signals]
    compile_model(model)
    differing = all_tokens = 0
    for signal, tokens in zip(signals, before, strict=True):
        differing += int((model.codec.encode(signal) != tokens).sum())
        all_tokens += tokens.numel()
    found = "none" if not differing else f"{differing} ({differing / all_tokens:.2%})"
    reporter.note(
        f"compiled by torch {torch.__version__}: of {all_tokens} tokens of the first {len(signals)} items, {found} are "
        "others than without --compile"
    )
