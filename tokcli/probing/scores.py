"""The figures of a probe, and how they are written down."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from tokcli.errors import MismatchError
from tokcli.schema import find_argument_problems
from tokcli.untrusted import check_plain

FORMAT = "tok-probe/1"


@dataclass(frozen=True)
class ProbeScores:
    """How well the tokens of one tokenizer can be predicted.

    Attributes:
        name: of its row and its folder.
        tokens: the file that was learnt from.
        val: the file that was evaluated on; None: items of the first one that were held out.
        protocol: the network and its training.
        seed: of the weights and of the order.
        identity: a sum over all that the figures depend on.
        parameters: of the network.
        codebook_size: values of a token.
        groups: tokens of a position.
        classes: that sequences are conditioned on; 0: none.
        train_items, train_tokens: what was learnt from.
        val_items, val_tokens: what was evaluated on.
        cut: whether items were cut to fit the context.
        packed_bits: log2 K, per token, as are the next three.
        zeroth_order_bits: of a model that knows how frequent each code is.
        first_order_bits: of one that also knows the code before.
        bits: of the probe.
        unit: of the rate: bits_per_pixel or kbps.
        rates: the same four, per pixel or per second, by the names `packed`, `zeroth_order`, `first_order`, `probe`.
        usage: share of the codes that occur in the validation set; also `perplexity` and `cvu` of it.
        perplexity: exp(entropy) of its codes.
        cvu: perplexity / K.
        curve: `step`, `train_bits` (since the last point) and `val_bits` (of some sequences), in order.
        reconstruction: figures of the tokenizer by metric, where they are known.
        samples: where they are and how they were drawn; None: none were.
        failed: items left out, and why.
    """

    name: str
    tokens: str
    val: str | None
    protocol: dict[str, Any]
    seed: int
    identity: str
    parameters: int
    codebook_size: int
    groups: int
    classes: int
    train_items: int
    train_tokens: int
    val_items: int
    val_tokens: int
    cut: bool
    packed_bits: float
    zeroth_order_bits: float
    first_order_bits: float
    bits: float
    unit: str
    rates: dict[str, float]
    usage: float
    perplexity: float
    cvu: float
    curve: list[dict[str, Any]]
    reconstruction: dict[str, Any] = field(default_factory=dict)
    samples: dict[str, Any] | None = None
    failed: list[Any] = field(default_factory=list)

    @property
    def gains(self) -> dict[str, float]:
        """Bits per token that the probe saves, over each simpler model."""
        return {
            "packed": self.packed_bits - self.bits,
            "zeroth_order": self.zeroth_order_bits - self.bits,
            "first_order": self.first_order_bits - self.bits,
        }

    @property
    def rise(self) -> float:
        """By how many bits the curve ends above its lowest point: the probe has begun to learn items by heart."""
        points = [point["val_bits"] for point in self.curve]
        return points[-1] - min(points)

    def to_json(self) -> dict[str, Any]:
        """Plain values, with the format's version first."""
        return {"format": FORMAT, **asdict(self), "gains": self.gains}

    @classmethod
    def from_json(cls, values: Any, where: str) -> "ProbeScores":
        """The scores that `to_json` wrote. Raises MismatchError where they are none."""
        if not isinstance(values, Mapping) or values.get("format") != FORMAT:
            raise MismatchError(f"{where} does not hold the figures of a probe; remove its folder, or name another")
        arguments = {name: value for name, value in values.items() if name not in ("format", "gains")}
        problems = find_argument_problems(cls, arguments, "", "a probe")
        if problems:
            raise MismatchError(f"{where} is damaged: {'; '.join(problems)}; start over with --force")
        check_plain(arguments)
        return cls(**arguments)


def make_table(rows: Sequence[ProbeScores]) -> tuple[list[str], list[list[Any]]]:
    """Headings and cells of a table: bits per token, the rate that a language model would pay, and reconstruction."""
    units = list(dict.fromkeys(row.unit for row in rows))
    metrics = list(dict.fromkeys(name for row in rows for name in row.reconstruction))
    fids = any(row.samples is not None and row.samples.get("fid") is not None for row in rows)
    headings = [
        "tokens",
        "K",
        "log2 K",
        "zeroth order",
        "first order",
        "probe, bits per token",
        "gain over first order",
    ]
    headings += [f"probe, {unit.replace('_', ' ')}" for unit in units] + ["cvu", *metrics, *(["fid of samples"] * fids)]
    cells = []
    for row in rows:
        rates = [row.rates["probe"] if row.unit == unit else None for unit in units]
        figures = [row.packed_bits, row.zeroth_order_bits, row.first_order_bits, row.bits, row.gains["first_order"]]
        scores = [row.reconstruction.get(name) for name in metrics]
        fid = [(row.samples or {}).get("fid")] if fids else []
        cells.append([row.name, row.codebook_size, *figures, *rates, row.cvu, *scores, *fid])
    return headings, cells
