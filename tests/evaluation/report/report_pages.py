"""Reports that tests of the page share: small, and full of what could do harm."""

import dataclasses
from types import SimpleNamespace

import torch

from tokcli.contracts import Candidate, RoundTrip
from tokcli.evaluation.report.build import Report, Returned, ShownItem
from tokcli.evaluation.run import Scores, Title

HOSTILE = '<script>alert("x")</script>&\'.png'


class Nothing(Candidate):
    """A candidate that has been evaluated already."""

    codebook_size = 16
    device = torch.device("cpu")

    def __init__(self, modality: str, sample_rate: int | None, competes: bool) -> None:
        self.kind = modality
        self.hertz = sample_rate
        self.competes = competes

    @property
    def modality(self) -> str:
        return self.kind

    @property
    def sample_rate(self) -> int | None:
        return self.hertz

    def round_trip(self, signals: torch.Tensor) -> RoundTrip:
        raise AssertionError("a page shows what was scored before")


def scored(label: str, psnr: float, *, is_model: bool = True) -> Scores:
    generator = torch.Generator().manual_seed(len(label))
    return Scores(
        candidate=Nothing("image", None, is_model),
        source=SimpleNamespace(),
        names=["a", "b"],
        failed=[],
        metrics={"psnr": psnr, "usage": 0.5} if is_model else {"psnr": psnr},
        rates={"bits_per_pixel": 0.25, "bits_per_pixel_empirical": 0.2},
        item_scores={},
        unscored={},
        counts=torch.randint(0, 50, (1, 16), generator=generator) if is_model else None,
        protocol={"data": HOSTILE, "items": 2},
        remarks=[f"{HOSTILE} was left out"],
        title=Title(label, label, "fsq, 16 codes", HOSTILE, "given"),
    )


def returned(signal: torch.Tensor, tokens: torch.Tensor | None, **scores: float | None) -> Returned:
    codes = None if tokens is None else tokens.float().expand(*tokens.shape[:-1], 4) * torch.arange(4)
    return Returned(signal, tokens, codes, scores)


def pictures() -> Report:
    """Two models and a codec over three pictures, everything that can be hostile being hostile.

    The third picture is there for ssim alone, where it comes before the second.
    """
    reference = torch.linspace(-1, 1, 3 * 16 * 24).reshape(3, 16, 24)
    tokens = torch.arange(24).reshape(4, 6, 1) % 16
    made = [
        returned(0.9 * reference, tokens, psnr=20.5, ssim=0.5),
        returned(0.5 * reference, tokens, psnr=18.25, ssim=0.25),
        returned(reference, None, psnr=None, ssim=None),
    ]
    worst = f"worst {HOSTILE}"
    shown = [
        ShownItem(HOSTILE, {"psnr": (0, worst), "ssim": (0, worst)}, reference, made),
        ShownItem("plain.png", {"psnr": (1, "the best"), "ssim": (2, "one of an even spread")}, reference, made),
        ShownItem("third.png", {"ssim": (1, "the best by ssim")}, reference, made),
    ]
    rows = [scored("a", 21.0), scored(HOSTILE, 22.5), scored("jpeg 7", 30.0, is_model=False)]
    return Report(rows, ["psnr", "ssim"], shown)


def sounds() -> Report:
    """One model over one sound of ten seconds."""
    times = torch.arange(80_000) / 8000
    reference = 0.5 * torch.sin(2000 * times)[None]
    tokens = torch.arange(1000).reshape(1000, 1) % 16
    shown = [ShownItem("a.wav", {"pesq": (0, "the worst")}, reference, [returned(0.5 * reference, tokens, pesq=1.25)])]
    only = dataclasses.replace(
        scored("a", 3.0),
        candidate=Nothing("audio", 8000, True),
        metrics={"pesq": 1.25},
        rates={"kbps": 0.4, "kbps_empirical": 0.3},
    )
    return Report([only], ["pesq"], shown)
