"""`tok bench`: how fast a tokenizer is on this machine, and how much of that is the network alone.

encode, decode: what a user gets. The bare forward beside them: the network's own pass over the same batches: of
ours the autoencoder with no padding, no quantizer and nothing copied, of others their library's own call.
"""

import math
import os
import pathlib
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from tokcli.contracts import Codec, Pass
from tokcli.errors import UsageError
from tokcli.models import open_model, pick_batch_size, pick_device
from tokcli.progress import SILENT, Reporter

IMAGE_SIZE, AUDIO_SECONDS = 256, 4
"""Of signals where the recipe judges each item at its own size."""

SINGLES = 20
"""Items whose latency is taken one by one, at least; p95 of fewer would be the slowest one."""


@dataclass(frozen=True)
class Speed:
    """One direction with one number of threads.

    Attributes:
        direction: encode or decode.
        threads: Of arithmetic.
        items_per_second: In batches.
        tokens_per_second: In batches.
        real_time_factor: Seconds of audio in a second; None for images.
        bare_items_per_second: Of the autoencoder's forward alone, in the same batches.
        latency_median: Seconds for one item by itself.
        latency_p95: Seconds that one item of twenty takes longer than.
        peak_memory_mib: Of the whole process on a CPU, of the tensors on a GPU; None where nobody counts.
    """

    direction: str
    threads: int
    items_per_second: float
    tokens_per_second: float
    real_time_factor: float | None
    bare_items_per_second: float
    latency_median: float
    latency_p95: float
    peak_memory_mib: float | None


@dataclass(frozen=True)
class Bench:
    """Speeds of a tokenizer, with what they depend on.

    Attributes:
        model: Its file, or its shipped name.
        device: It ran on.
        machine: The name of the GPU, or of the processor and its cores.
        items: Signals timed in batches.
        batch_size: Items at a time.
        size: Samples along each axis of a signal.
        tokens_per_item: Of one signal.
        speeds: Of each direction with each number of threads.
    """

    model: str
    device: str
    machine: str
    items: int
    batch_size: int
    size: tuple[int, ...]
    tokens_per_item: int
    speeds: Sequence[Speed]

    def to_json(self) -> dict[str, Any]:
        """The object that `--json` prints."""
        plain = asdict(self) | {"size": list(self.size), "torch": torch.__version__}
        return plain | {"speeds": [asdict(speed) for speed in self.speeds]}


def bench(
    model: str | None = None,
    *,
    items: int = 64,
    size: int | None = None,
    batch_size: int | None = None,
    threads: Sequence[int] = (),
    codebook: int | None = None,
    device: str = "auto",
    reporter: Reporter = SILENT,
) -> Bench:
    """Time encode and decode on synthetic signals.

    Args:
        model: An artifact or a run folder; None is the last run.
        items: Signals timed in batches.
        size: Samples along each axis; None takes the size that the recipe evaluates at.
        batch_size: Items at a time; None is chosen by the device.
        threads: Of arithmetic, one measurement for each; empty takes what torch has.
        codebook: Which of the built ones, by its size.
        device: auto, cpu, cuda or mps.
        reporter: Is told how far it has come.

    Raises:
        TokError: There is no model, or it has no codebook yet.
    """
    if any(count < 1 for count in threads):
        raise UsageError(f"--threads: expected numbers from 1 on, got {', '.join(map(str, threads))}")
    where = pick_device(device)
    opened = open_model(model, where, reporter, codebook)
    codec = opened.codec
    shape = choose_signal_shape(codec, size or opened.trained_size)
    batch = min(batch_size or pick_batch_size(where), items)
    signals = make_signals(items, shape, where)
    return Bench(
        model=opened.name,
        device=str(where),
        machine=torch.cuda.get_device_name(where) if where.type == "cuda" else _describe_processor(),
        items=items,
        batch_size=batch,
        size=shape[1:],
        tokens_per_item=codec.encode(signals[:1]).numel(),
        speeds=_speeds(codec, signals, batch, threads, reporter),
    )


def _speeds(codec: Codec, signals: Tensor, batch: int, threads: Sequence[int], reporter: Reporter) -> list[Speed]:
    """Encode and decode timed with each number of threads; as many as there were are set again afterwards."""
    before = torch.get_num_threads()
    speeds: list[Speed] = []
    counts = list(threads) or [before]
    with reporter.task("timing", 2 * len(counts), "measurements") as task:
        try:
            for count in counts:
                torch.set_num_threads(count)
                for work in (_plan_encoding(codec, signals), _plan_decoding(codec, signals, batch)):
                    speeds.append(_speed(work, codec, signals.shape[1:], batch, count))
                    task.advance()
        finally:
            torch.set_num_threads(before)
    return speeds


def choose_signal_shape(codec: Codec, size: int | None) -> tuple[int, ...]:
    """(channels, *size) of the signals to time: square images, or a stretch of audio."""
    if codec.sample_rate is not None:
        return (codec.channels, size or AUDIO_SECONDS * codec.sample_rate)
    return (codec.channels, size or IMAGE_SIZE, size or IMAGE_SIZE)


def make_signals(items: int, shape: Sequence[int], device: torch.device) -> Tensor:
    """(items, *shape) in [-1, 1], smooth and seeded: a tree of codes is searched longer where latents are wild."""
    generator = torch.Generator().manual_seed(0)
    channels, *size = shape
    coarse = torch.rand((items, channels, *(max(2, length // 16) for length in size)), generator=generator) * 2 - 1
    mode = "linear" if len(size) == 1 else "bilinear"
    return torch.nn.functional.interpolate(coarse, size=tuple(size), mode=mode).to(device)


@dataclass(frozen=True)
class _Work:
    """Something to time, beside the network's own share of it. Inputs are (items, ...), taken in batches."""

    direction: str
    run: Callable[[Tensor], Tensor]
    inputs: Tensor
    bare: Pass


def _plan_encoding(codec: Codec, signals: Tensor) -> _Work:
    return _Work("encode", codec.encode, signals, codec.bare_encoding(signals))


def _plan_decoding(codec: Codec, signals: Tensor, batch: int) -> _Work:
    size = signals.shape[2:]
    tokens = torch.cat([codec.encode(part) for part in signals.split(batch)])
    return _Work("decode", lambda part: codec.decode(part, size), tokens, codec.bare_decoding(tokens))


@torch.no_grad()
def _speed(work: _Work, codec: Codec, shape: Sequence[int], batch: int, threads: int) -> Speed:
    device = codec.device
    batches = list(zip(work.inputs.split(batch), work.bare.inputs.split(batch), strict=True))
    seconds(work.run, batches[0][0])  # the first calls choose kernels and grow the allocator
    seconds(work.bare.run, batches[0][1])
    # In turns, so that whatever else the machine does slows both.
    timed = [(seconds(work.run, part), seconds(work.bare.run, bare)) for part, bare in batches]
    total, bare_total = (sum(times) for times in zip(*timed, strict=True))
    singles = [work.inputs[index % len(work.inputs)][None] for index in range(max(SINGLES, len(work.inputs)))]
    seconds(work.run, singles[0])
    latencies = [seconds(work.run, single) for single in singles]
    items = len(work.inputs)
    rate = codec.sample_rate
    tokens = math.prod(codec.grid(shape[1:])) * codec.groups
    return Speed(
        direction=work.direction,
        threads=threads,
        items_per_second=items / total,
        tokens_per_second=items * tokens / total,
        real_time_factor=None if rate is None else items * shape[-1] / rate / total,
        bare_items_per_second=items / bare_total,
        latency_median=statistics.median(latencies),
        latency_p95=statistics.quantiles(latencies, n=20)[-1],
        peak_memory_mib=peak_memory(lambda: work.run(batches[0][0]), device),
    )


def seconds(call: Callable[[Tensor], Tensor], part: Tensor) -> float:
    """How long a call takes, waited for to its end."""
    _finish(part.device)
    started = time.perf_counter()
    call(part)
    _finish(part.device)
    return time.perf_counter() - started


def peak_memory(call: Callable[[], object], device: torch.device) -> float | None:
    """MiB at the highest point of a call: of tensors on CUDA, of the process on a CPU; None where nobody counts.

    Linux keeps the highest point of a process, and forgets it when asked to.
    """
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        call()
        return torch.cuda.max_memory_allocated(device) / 2**20
    try:
        pathlib.Path("/proc/self/clear_refs").write_text("5")
        call()
        status = pathlib.Path("/proc/self/status").read_text()
    except OSError:
        return None
    highest = next((line for line in status.splitlines() if line.startswith("VmHWM:")), None)
    return int(highest.split()[1]) / 1024 if highest else None


def _finish(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def _describe_processor() -> str:
    return f"{platform.machine()}, {os.cpu_count()} cores"
