"""Encoding shared by all processes of a command: each takes its part of the items, and every one gets the sample."""

import torch
from accelerate import Accelerator, PartialState
from accelerate.utils import gather_object

from tokcli.codebooks import sample_latents
from tokcli.contracts import Source
from tokcli.progress import Reporter
from tokcli.tokenizer import Tokenizer


def shared_latents(
    processes: PartialState | Accelerator,
    tokenizer: Tokenizer,
    source: Source,
    samples: int,
    *,
    passes: int,
    items: int | None,
    seed: int,
    batch_size: int,
    workers: int | None,
    reporter: Reporter,
) -> torch.Tensor:
    """`sample_latents` over all processes: the sample is the one that a single process would take."""
    return sample_latents(
        tokenizer,
        source,
        samples,
        passes=passes,
        items=items,
        seed=seed,
        batch_size=batch_size,
        workers=workers,
        shard=(processes.process_index, processes.num_processes),
        gather=_gather if processes.num_processes > 1 else None,
        reporter=reporter,
    )


def _gather(tensor: torch.Tensor) -> list[torch.Tensor]:
    """The tensors of all processes, in every process; their lengths may differ."""
    return [part.to(tensor.device) for part in gather_object([tensor.cpu()])]
