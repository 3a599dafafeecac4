"""Drawing tokens from a probe, one after another, with a temperature and among the most probable ones."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from tokcli.progress import Reporter

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@torch.no_grad()
def draw_tokens(
    network: "PreTrainedModel",
    starts: Sequence[int],
    positions: int,
    groups: int,
    codebook_size: int,
    *,
    temperature: float,
    top_k: int | None,
    seed: int,
    reporter: Reporter,
) -> Tensor:
    """New sequences.

    Args:
        network: of a probe.
        starts: the id that each begins with.
        positions: of each.
        groups: tokens of a position.
        codebook_size: values of a token.
        temperature: by which logits are divided.
        top_k: only so many of the most probable codes; None: all.
        seed: of the draws.
        reporter: is told how far it is.

    Returns:
        (count, positions, groups) int64, below codebook_size.
    """
    network.eval()
    device = network.device
    generator = torch.Generator().manual_seed(seed)
    ids = torch.tensor(list(starts), device=device)[:, None]
    drawn, past = [], None
    with reporter.task("sampling", positions * groups, "tokens") as task:
        for number in range(positions * groups):
            output = network(input_ids=ids, past_key_values=past, use_cache=True)
            past = output.past_key_values
            first = number % groups * codebook_size
            logits = output.logits[:, -1, first : first + codebook_size].float().cpu() / temperature
            if top_k is not None and top_k < codebook_size:
                least = logits.topk(top_k, dim=1).values[:, -1:]
                logits = logits.masked_fill(logits < least, -torch.inf)
            code = torch.multinomial(logits.softmax(1), 1, generator=generator)
            drawn.append(code)
            ids = (code + first).to(device)
            task.advance()
    return torch.cat(drawn, dim=1).reshape(len(starts), positions, groups)
