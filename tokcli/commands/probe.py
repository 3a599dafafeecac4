"""`tok probe`: how well the tokens of one tokenizer or of several can be predicted.

token files -> sequences -> entropies, a transformer -> figures, a table, a curve -> samples
"""

import contextlib
import json
import pathlib
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from accelerate import Accelerator

from tokcli.contracts import compute_rate
from tokcli.errors import MismatchError, UsageError
from tokcli.evaluation.compare import format_number
from tokcli.exchange.about import LabelSource, read_about
from tokcli.files import exists, move_into_place, read_text, try_output, write_text
from tokcli.locking import hold, lock_beside, tell_former
from tokcli.metrics.tokens import Cvu, Perplexity, Usage, count_tokens
from tokcli.models import pick_device
from tokcli.probing.entropies import compute_entropies
from tokcli.probing.loading import ProbeData, ProbeInput, compute_identity, load_data, open_inputs
from tokcli.probing.network import REPORT, build_network, require_transformers, save_network
from tokcli.probing.plots import describe_correlations, draw_trade
from tokcli.probing.protocols import Protocol, choose_protocol
from tokcli.probing.samples import Sampling, save_samples
from tokcli.probing.scores import ProbeScores, make_table
from tokcli.probing.tokenizers import (
    find_reconstruction,
    find_tokenizer,
    list_models,
    read_evaluations,
    require_tokenizer,
)
from tokcli.probing.training import ProbeTraining
from tokcli.progress import SILENT, Reporter
from tokcli.training.curves import draw_panels
from tokcli.training.parts import make_accelerator
from tokcli.untrusted import LONGEST_JSON, parse_json

TABLE, CURVE, TRADE = "table.md", "curve.png", "trade.png"

NOTABLE_RISE = 0.02
"""Bits by which a curve ends above its lowest point from which on a probe is said to overfit."""


@dataclass(frozen=True)
class Probed:
    """Probes of one tokenizer or of several.

    Attributes:
        output: the folder that holds them.
        rows: the figures of each.
        remarks: what a careful reader should know.
    """

    output: pathlib.Path
    rows: Sequence[ProbeScores]
    remarks: Sequence[str]

    def to_json(self) -> dict[str, Any]:
        """The object that `--json` prints."""
        rows = [row.to_json() for row in self.rows]
        return {"output": str(self.output), "probes": rows, "remarks": list(self.remarks)}


@dataclass(frozen=True)
class _Plan:
    """What was asked for, checked."""

    output: pathlib.Path
    inputs: Sequence[ProbeInput]
    protocol: Protocol
    seed: int
    about: Mapping[str, dict[str, Any]]
    labels: LabelSource
    models: Sequence[pathlib.Path]
    evaluations: Sequence[dict[str, Any]]
    sampling: Sampling
    resume: bool
    force: bool


def probe(
    tokens: Sequence[str],
    output: str = "probes",
    *,
    val: Sequence[str] = (),
    protocol: str = "probe-small",
    steps: int | None = None,
    seed: int = 0,
    about: str | None = None,
    labels: LabelSource = "auto",
    models: Sequence[str] = (),
    scores: str | None = None,
    samples: int = 0,
    temperature: float = 1.0,
    top_k: int | None = None,
    resume: bool = False,
    force: bool = False,
    device: str = "auto",
    reporter: Reporter = SILENT,
) -> Probed:
    """Train a small language model on the tokens of each tokenizer and see how well it predicts others.

    Args:
        tokens: token files, one for each tokenizer.
        output: a folder for the probes, the table and the curve.
        val: token files to evaluate on, one for each of `tokens`; none: a tenth of the items is held out.
        protocol: the network and its training, by name.
        steps: instead of the protocol's; the figures then say so.
        seed: of the weights and of the order.
        about: a CSV or JSONL file of labels, joined by item name.
        labels: where labels come from.
        models: the tokenizers; none: the finished runs in ./runs.
        scores: what `tok eval --json` printed, for the figures of reconstruction.
        samples: to draw from each probe.
        temperature: by which logits are divided when sampling.
        top_k: sampling takes one of so many most probable codes; None: of all.
        resume: go on with what was interrupted, and keep what is finished.
        force: overwrite.
        device: auto, cpu, cuda or mps.
        reporter: is told how far it is.

    Raises:
        TokError: where nothing can be done.
    """
    require_transformers()
    plan = _Plan(
        output=pathlib.Path(output),
        inputs=open_inputs(tokens, val),
        protocol=choose_protocol(protocol, steps),
        seed=seed,
        about=read_about(pathlib.Path(about)) if about is not None else {},
        labels=labels,
        models=list_models(models),
        evaluations=read_evaluations(scores),
        sampling=Sampling(samples, temperature, top_k, seed),
        resume=resume,
        force=force,
    )
    accelerator = make_accelerator(pick_device(device).type)
    _check(plan, accelerator)
    accelerator.wait_for_everyone()
    with _lock(plan, accelerator, reporter):
        rows = [_probe_one(plan, given, accelerator, reporter) for given in plan.inputs]
        if accelerator.is_main_process:
            if samples:
                pairs = zip(rows, plan.inputs, strict=True)
                rows = [_sample(plan, row, given, accelerator, reporter) for row, given in pairs]
            _write_summary(plan.output, rows, reporter)
        accelerator.wait_for_everyone()
    return Probed(plan.output, rows, _make_remarks(rows))


def _check(plan: _Plan, accelerator: Accelerator) -> None:
    """Refuse, before the work, what would fail at its end."""
    if plan.sampling.count:
        for given in plan.inputs:
            require_tokenizer(given.header, plan.models, given.name)
    if not plan.sampling.temperature > 0:
        raise UsageError(f"--temperature: expected more than 0, got {plan.sampling.temperature:g}")
    batch = plan.protocol.training.batch_size
    if batch % accelerator.num_processes:
        raise UsageError(
            f"{plan.protocol.name} takes {batch} sequences a step, which {accelerator.num_processes} processes cannot "
            "share evenly; choose another --processes"
        )
    _check_output(plan)


def _sample(
    plan: _Plan, row: ProbeScores, given: ProbeInput, accelerator: Accelerator, reporter: Reporter
) -> ProbeScores:
    """The row with the samples that are drawn from its probe."""
    _, tokenizer = require_tokenizer(given.header, plan.models, row.name)
    return save_samples(plan.output / row.name, row, given, tokenizer, plan.sampling, accelerator.device, reporter)


@contextlib.contextmanager
def _lock(plan: _Plan, accelerator: Accelerator, reporter: Reporter) -> Iterator[None]:
    """One writer of a folder of probes at a time: the first process holds the lock for all."""
    if not accelerator.is_main_process:
        yield
        return
    with hold(lock_beside(plan.output), plan.output) as lock:
        tell_former(lock, reporter)
        plan.output.mkdir(parents=True, exist_ok=True)
        yield


def _check_output(plan: _Plan) -> None:
    """Refuse, before the work, a folder in which something is in the way."""
    try_output(plan.output, folder=True)
    inside = list(plan.output.iterdir()) if plan.output.is_dir() else []
    if inside and not (plan.resume or plan.force):
        raise UsageError(
            f"{plan.output} exists already; go on with --resume, which keeps the probes that are finished, overwrite "
            "them with --force, or name another folder with -o"
        )
    for given in plan.inputs:
        folder = plan.output / given.name
        if exists(folder) and not (folder / REPORT).is_file():
            raise UsageError(f"{folder} is there and is no probe: nothing is overwritten, also not by --force")


def _probe_one(plan: _Plan, given: ProbeInput, accelerator: Accelerator, reporter: Reporter) -> ProbeScores:
    """The figures of one tokenizer: of its finished probe, or of one that is trained now."""
    folder = plan.output / given.name
    identity = compute_identity(given, plan.protocol, plan.seed, [plan.labels, sorted(plan.about.items())])
    if folder.is_dir() and plan.resume:
        row = _read_scores(folder)
        if row.identity != identity:
            raise MismatchError(
                f"{folder} is a probe of other tokens, or by another protocol or seed; overwrite it with --force, or "
                "name another folder with -o"
            )
        return _add_reconstruction(plan, given, row)
    partial = plan.output / f".{given.name}.partial"
    if accelerator.is_main_process and not plan.resume:
        shutil.rmtree(partial, ignore_errors=True)
    accelerator.wait_for_everyone()
    data = load_data(given, plan.protocol, plan.about, plan.labels)
    network = build_network(plan.protocol, data.train.first_start, max(1, data.labels.count), plan.seed)
    _announce(given, data, network.num_parameters(), reporter)
    training = ProbeTraining(network, data.train, data.val, plan.protocol, plan.seed, partial, identity, accelerator)
    step = training.resume() if plan.resume else 0
    if step:
        reporter.note(f"{given.name}: going on behind step {step}")
    curve = training.run(reporter, given.name)
    bits = training.evaluate(reporter=reporter)
    row = _compute_scores(plan, given, data, identity, network.num_parameters(), bits, curve)
    row = _add_reconstruction(plan, given, row)
    if accelerator.is_main_process:
        _publish(network, row, partial, folder)
    accelerator.wait_for_everyone()
    return row


def _publish(network: Any, row: ProbeScores, partial: pathlib.Path, folder: pathlib.Path) -> None:
    """Put the finished probe in its place."""
    whole = partial / "whole"
    shutil.rmtree(whole, ignore_errors=True)
    whole.mkdir(parents=True)
    save_network(network, row.to_json(), whole)
    if folder.is_dir():
        shutil.rmtree(folder)
    move_into_place(whole, folder)
    shutil.rmtree(partial)


def _announce(given: ProbeInput, data: ProbeData, parameters: int, reporter: Reporter) -> None:
    held = "" if given.val is not None else " (a tenth of the items, held out by name; --val FILE names another set)"
    classes = f", {data.labels.count} classes" if data.labels.count else ""
    reporter.note(
        f"{given.name}: {data.train.tokens:,} tokens to learn from, {data.val.tokens:,} to evaluate on{held}{classes}; "
        f"{parameters / 1e6:.2f} M parameters"
    )


def _compute_scores(
    plan: _Plan,
    given: ProbeInput,
    data: ProbeData,
    identity: str,
    parameters: int,
    bits: float,
    curve: list[dict[str, Any]],
) -> ProbeScores:
    entropies = compute_entropies(data.train, data.val)
    counts = sum(
        count_tokens(torch.from_numpy(item.astype("int64")), given.header.codebook_size).to_dense()
        for item in data.val.items
    )
    assert isinstance(counts, torch.Tensor), "there is one item at least"
    per_token = {"packed": entropies.packed, "zeroth_order": entropies.zeroth, "first_order": entropies.first}
    rate = given.header.sample_rate
    rates = {
        name: compute_rate(value * data.val.tokens, data.samples, rate)
        for name, value in (per_token | {"probe": bits}).items()
    }
    return ProbeScores(
        name=given.name,
        tokens=str(given.train.path),
        val=None if given.val is None else str(given.val.path),
        protocol=plan.protocol.to_json(),
        seed=plan.seed,
        identity=identity,
        parameters=parameters,
        codebook_size=given.header.codebook_size,
        groups=given.header.groups,
        classes=data.labels.count,
        train_items=len(data.train.items),
        train_tokens=data.train.tokens,
        val_items=len(data.val.items),
        val_tokens=data.val.tokens,
        cut=len(data.val.pieces) > len(data.val.items),
        packed_bits=entropies.packed,
        zeroth_order_bits=entropies.zeroth,
        first_order_bits=entropies.first,
        bits=bits,
        unit=next(iter(rates.values())).unit,
        rates={name: each.value for name, each in rates.items()},
        usage=Usage().figure(counts),
        perplexity=Perplexity().figure(counts),
        cvu=Cvu().figure(counts),
        curve=curve,
        failed=[asdict(failure) for failure in data.failed],
    )


def _add_reconstruction(plan: _Plan, given: ProbeInput, row: ProbeScores) -> ProbeScores:
    """The same figures beside those of the tokenizer's reconstructions, where they are known."""
    found = find_tokenizer(given.header, plan.models)
    figures = find_reconstruction(given.header, found[0] if found else None, plan.evaluations)
    return replace(row, reconstruction=figures) if figures else row


def _read_scores(folder: pathlib.Path) -> ProbeScores:
    path = folder / REPORT
    try:
        values = parse_json(read_text(path, LONGEST_JSON).encode())
    except ValueError as error:
        raise MismatchError(f"{path} is damaged: {error}; start over with --force") from error
    return ProbeScores.from_json(values, str(path))


def _write_summary(output: pathlib.Path, rows: Sequence[ProbeScores], reporter: Reporter) -> None:
    """The table and the curve of all rows beside their folders."""
    headings, cells = make_table(rows)
    lines = ["| " + " | ".join(headings) + " |", "|" + "---|" * len(headings)]
    lines += ["| " + " | ".join(_format(cell) for cell in row) + " |" for row in cells]
    write_text(output / TABLE, "\n".join([*lines, "", *_make_remarks(rows)]).rstrip() + "\n")
    write_text(output / REPORT, json.dumps([row.to_json() for row in rows], indent=1) + "\n")
    curves = {row.name: [(point["step"], point["val_bits"]) for point in row.curve] for row in rows}
    draw_panels({"validation, bits per token": curves}, output / CURVE, reporter, title=output.name)
    draw_trade(rows, output / TRADE, reporter)


def _format(cell: Any) -> str:
    return format_number(cell) if cell is None or isinstance(cell, float) else str(cell)


def _make_remarks(rows: Sequence[ProbeScores]) -> list[str]:
    """What a careful reader of the table should know."""
    names = list(dict.fromkeys(row.protocol["name"] for row in rows))
    remarks = [f"protocol {', '.join(names)}; entropies and probe learn from one set and are evaluated on the other"]
    for row in rows:
        if row.rise > NOTABLE_RISE:
            remarks.append(
                f"{row.name}: the curve ends {row.rise:.2g} bits above its lowest point; the probe learns its "
                f"{row.train_items} items by heart, and more of them would lower the figure"
            )
        remarks += [f"{row.name}: {each['item']} was left out: {each['reason']}" for each in row.failed[:5]]
    held = [row.name for row in rows if row.val is None]
    if held:
        remarks.append(f"evaluated on a tenth of the items, held out by name: {', '.join(held)}")
    if any(row.cut for row in rows):
        context = rows[0].protocol["context"]
        remarks.append(f"items are longer than {context} tokens and were cut; the probe sees no further")
    return remarks + describe_correlations(rows)
