"""What `tok eval` says about a codebook that is little used: what the figure means, and what helps this quantizer."""

import pytest

from tokcli.evaluation.run import Judgement
from tokcli.evaluation.scores import remarks_on_use


def judgement(cvu: float, undersampled: bool = False) -> Judgement:
    protocol = {"metrics": {"cvu": {"codebook_size": 1024, "undersampled": undersampled}}}
    return Judgement(metrics={"cvu": cvu}, items=1, failed=[], unscored={}, protocol=protocol, examples=[])


def test_a_low_cvu_is_said_in_codes() -> None:
    (remark,) = remarks_on_use(judgement(0.0408), "image", {"kind": "vq"}, 1500)
    assert remark.startswith("cvu, perplexity as a share of the codes, is 0.0408: used evenly, 42 of the 1024 codes")
    assert remark.endswith("train with quantizer.ema=true quantizer.restart_below=0.5")


@pytest.mark.parametrize(
    ("quantizer", "words"),
    [
        ({"kind": "vq", "ema": True}, "train with quantizer.restart_below=0.5"),
        ({"kind": "vq", "ema": True, "restart_below": 0.5}, "a smaller codebook, or with VP-VAE"),
        ({"kind": "fsp", "levels": [4]}, "a smaller codebook, or with VP-VAE"),
        ({"kind": "simvq"}, "a smaller codebook, or with VP-VAE"),
        ({"kind": "vpvae"}, "build a smaller codebook: tok build-codebook --size"),
    ],
)
def test_no_quantizer_is_advised_to_be_what_it_is(quantizer: dict[str, object], words: str) -> None:
    (remark,) = remarks_on_use(judgement(0.1), "image", quantizer, None)
    assert remark.endswith(words) or f"{words} (kind: vpvae)" in remark
    assert "fsp" not in remark


@pytest.mark.parametrize(
    ("cvu", "modality", "undersampled", "steps"),
    [(0.3, "image", False, 1500), (0.1, "audio", False, 1500), (0.1, "image", True, 1500), (0.1, "image", False, 199)],
)
def test_a_good_figure_a_small_sample_and_a_trial_get_no_advice(
    cvu: float, modality: str, undersampled: bool, steps: int
) -> None:
    assert remarks_on_use(judgement(cvu, undersampled), modality, {"kind": "vq"}, steps) == []
