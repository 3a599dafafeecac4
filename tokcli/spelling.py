"""What an unknown word was meant to be: the nearest known one, by its letters or by what other programs call it."""

import difflib
from collections.abc import Iterable, Mapping, Sequence

ALIASES: Mapping[str, Sequence[str]] = {
    "lr": ("learning_rate",),
    "beta": ("commitment", "betas"),
    "commit": ("commitment",),
    "commitment_cost": ("commitment",),
    "commitment_weight": ("commitment",),
    "k": ("codebook_size",),
    "n_embed": ("codebook_size",),
    "num_embeddings": ("codebook_size",),
    "num_codes": ("codebook_size",),
    "vocab_size": ("codebook_size",),
    "embed_dim": ("dim",),
    "embedding_dim": ("dim",),
    "codebook_dim": ("dim",),
    "latent_dim": ("dim",),
    "z_channels": ("latent_dim",),
    "epochs": ("steps",),
    "iterations": ("steps",),
    "max_steps": ("steps",),
    "batch": ("batch_size",),
    "wd": ("weight_decay",),
    "ema": ("ema_decay",),
    "warmup": ("warmup_steps",),
    "resolution": ("size",),
    "image_size": ("size",),
    "folder": ("path",),
    "root": ("path",),
    "stride": ("strides", "multipliers"),
}
"""What other programs call it, by what it is called here."""


def nearest(word: str, known: Iterable[str]) -> str:
    """The hint that ends a message about an unknown word: the nearest known one, or all of them."""
    known = list(known)
    meant = [other for other in ALIASES.get(word.lower(), ()) if other in known]
    mixed = [other for other in known if sorted(other) == sorted(word)]
    if meant or mixed:
        return f"did you mean '{(mixed or meant)[0]}'?"
    close = difflib.get_close_matches(word[:100], known, n=1, cutoff=0.6)
    if close:
        return f"did you mean '{close[0]}'?"
    return f"expected one of: {', '.join(known)}" if known else "it takes no arguments"
