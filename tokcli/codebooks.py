"""Building codebooks from data, after training: a uniform sample of latents, then one codebook for each size asked for.

source --encode--> latents --uniform sample--> build_codebook(256), build_codebook(1024), ...
"""

from collections.abc import Iterator, Sequence

import numpy
import torch
from torch import Tensor

from tokcli.contracts import BuildsCodebook, CodebookReport, Item, Source, Stream
from tokcli.data.items import Failure, group_in_blocks, list_blocks, make_failure, read_items
from tokcli.distributed import gather_objects, rank, world_size
from tokcli.errors import InputError, UsageError
from tokcli.progress import SILENT, FailureNotes, Reporter, Task
from tokcli.tokenizer import Tokenizer


class LatentSample:
    """A uniform sample, without replacement, of all latents offered, in bounded memory.

    Every latent draws a key that depends on the seed and its item alone; the smallest keys stay. So the sample does
    not depend on batches or processes, and samples of several processes merge by keeping the smallest of all.
    """

    def __init__(self, capacity: int, seed: int) -> None:
        self._capacity = capacity
        self._seed = seed
        self._latents: list[Tensor] = []
        self._keys: list[Tensor] = []
        self._held = 0

    def offer(self, latents: Tensor, item: int, turn: int = 0, behind: int = 0) -> None:
        """latents: (count, dim) of item number `item`, seen for the `turn`-th time, `behind` so many others of it."""
        generator = numpy.random.Generator(numpy.random.PCG64([self._seed, turn, item]).advance(behind))
        keys = generator.random(latents.shape[0])
        self._latents.append(latents)
        self._keys.append(torch.from_numpy(keys).to(latents.device))
        self._held += latents.shape[0]
        if self._held > 2 * self._capacity + 2**16:
            self._shrink()

    def start_another(self) -> "LatentSample":
        """An empty sample of the same kind, which this one can absorb."""
        return LatentSample(self._capacity, self._seed)

    def absorb(self, other: "LatentSample") -> None:
        """Take in what another sample of other latents holds."""
        self._latents += other._latents
        self._keys += other._keys
        self._held += other._held
        if self._held > 2 * self._capacity + 2**16:
            self._shrink()

    def _shrink(self) -> None:
        latents, keys = torch.cat(self._latents), torch.cat(self._keys)
        # Ties in float64 keys do not happen in practice; sorting makes the order independent of arrival.
        kept = keys.argsort()[: self._capacity]
        self._latents, self._keys, self._held = [latents[kept]], [keys[kept]], len(kept)

    def keyed(self) -> tuple[Tensor, Tensor]:
        """The sample and its keys, (count, dim) float32 and (count,) float64, on the CPU, for other processes."""
        if not self._held:
            return torch.zeros(0, 0), torch.zeros(0, dtype=torch.float64)
        self._shrink()
        return self._latents[0].float().cpu(), self._keys[0].cpu()

    def take(self, latents: Tensor, keys: Tensor) -> None:
        """Take in the sample of another process, as its `keyed` gave it."""
        if len(keys):
            self._latents.append(latents)
            self._keys.append(keys)
            self._held += len(keys)
            self._shrink()

    @property
    def latents(self) -> Tensor:
        """The sample, (count, dim) float32, in the order of the keys. Raises InputError while it is empty."""
        if not self._held:
            raise InputError("there is not one latent to build a codebook from: no item could be read")
        self._shrink()
        return self._latents[0]


def sample_latents(
    tokenizer: Tokenizer,
    source: Source,
    samples: int,
    *,
    passes: int = 1,
    items: int | None = None,
    seed: int = 0,
    batch_size: int = 8,
    workers: int | None = None,
    reporter: Reporter = SILENT,
) -> Tensor:
    """Latents (count, input_dim) of `source`, a uniform sample of at most `samples`.

    Where several processes share a run, each encodes its part of the items, and all get the sample that one process
    would take.

    passes: over the source, each under another draw of its random crops. items: read so many, evenly spaced.
    """
    spacing = max(1, len(source) // items) if items is not None else 1
    indices = range(0, len(source), spacing)[:items]
    own = list_blocks(len(indices), batch_size, rank(), world_size())
    sample = LatentSample(samples, seed)
    notes = FailureNotes(reporter, "the others are left out as well")
    with reporter.task("encoding", passes * len(own), "items") as task:
        for turn in range(passes):
            for failure in offer_items(tokenizer, sample, source, indices, own, turn, batch_size, workers, task):
                notes.add(f"cannot read {failure.item}, left out: {failure.reason}")
    if world_size() == 1:
        return sample.latents
    whole = LatentSample(samples, seed)
    for part in gather_objects(sample.keyed()):
        whole.take(*part)
    return whole.latents.to(tokenizer.device)


def offer_items(
    tokenizer: Tokenizer,
    sample: LatentSample,
    source: Source,
    indices: Sequence[int],
    places: Sequence[int],
    turn: int,
    batch_size: int,
    workers: int | None,
    task: Task,
) -> Iterator[Failure]:
    """Encode some items of a source into a sample; what could not be read.

    Args:
        tokenizer: that encodes them.
        sample: takes their latents.
        source: of the items.
        indices: of all items that are sampled, whoever encodes them.
        places: among these, the ones to encode now. Batches follow from the places, so that no latent depends, in its
            last bits, on who encodes it.
        turn: the pass over the source that this is.
        batch_size: items at a time.
        workers: processes that read; None chooses.
        task: is told how far it is.
    """
    numbers = [indices[place] for place in places]
    readings = read_items(source, workers, indices=numbers, draw=turn, streams=tokenizer.streams)
    for where, group in group_in_blocks(readings, places, batch_size):
        failure = _offer_group(tokenizer, sample, group, (indices[place] for place in where), turn)
        if failure is not None:
            yield failure
        task.advance(len(where))


def _offer_group(
    tokenizer: Tokenizer,
    sample: LatentSample,
    group: list[Item] | Stream | Failure,
    numbers: Iterator[int],
    turn: int,
) -> Failure | None:
    """Encode items, whose numbers come next, into the sample; or what went wrong with the one that `group` is."""
    if isinstance(group, list):
        latents = tokenizer.latents(torch.stack([item.signal for item in group]).to(tokenizer.device))
        for rows in latents.flatten(1, -2):
            sample.offer(rows, next(numbers), turn)
        return None
    number = next(numbers)
    if isinstance(group, Failure):
        return group
    # Apart until it has been read to its end: an item is taken as a whole or not at all.
    own, count = sample.start_another(), 0
    try:
        for latents in tokenizer.latents_stream(group.blocks()):
            own.offer(latents, number, turn, count)
            count += len(latents)
    except InputError as error:
        return make_failure(group.name, error)
    sample.absorb(own)
    return None


def build_codebooks(
    tokenizer: Tokenizer,
    latents: Tensor,
    sizes: Sequence[int] | None,
    *,
    evenness: float = 0.0,
    seed: int = 0,
    reporter: Reporter = SILENT,
) -> list[CodebookReport]:
    """Build a codebook of each size (None: the quantizer's own) from latents (count, input_dim).

    Afterwards the quantizer uses the size it was trained for where that is among them, else the largest.
    Raises UsageError where the quantizer builds no codebook.
    """
    quantizer = require_builder(tokenizer)
    nominal = tokenizer.quantizer.codebook_size
    reports = [
        quantizer.build_codebook(latents, size, evenness=evenness, seed=seed, reporter=reporter)
        for size in sizes or [None]
    ]
    built = [report.size for report in reports]
    quantizer.use_codebook(nominal if nominal in built else max(built))
    return reports


def require_builder(tokenizer: Tokenizer) -> BuildsCodebook:
    """The tokenizer's quantizer as one that builds codebooks. Raises UsageError where it does not."""
    quantizer = tokenizer.quantizer
    if not isinstance(quantizer, BuildsCodebook) or not quantizer.builds:
        raise UsageError(
            f"this quantizer's codebook of {quantizer.codebook_size} codes comes from training; there is nothing to "
            "build: go on with tok encode"
        )
    return quantizer
