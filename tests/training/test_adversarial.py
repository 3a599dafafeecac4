"""Training against a discriminator: who learns from what, exact resume, and what is left in the run."""

import json
import math
import os
import pathlib
import signal
import subprocess
import sys

import pytest
import torch

from tokcli.artifacts.tensors import read_tensors
from tokcli.commands.train import train
from tokcli.contracts import Verdict
from tokcli.errors import DivergedError, InterruptedRunError, RecipeError
from tokcli.recipe.recipe import from_text
from tokcli.training import loop
from tokcli.training.parts import Training, make_accelerator, prepare

ADVERSARY = "adversary={discriminator: {kind: patchgan, width: 8, layers: 2, norm: spectral}, lecam_weight: 0.01}"


@pytest.fixture
def started(tiny: str):
    """Build the tiny recipe with an adversary and these overrides, ready for its first step."""

    def start(*overrides: str) -> Training:
        return prepare(from_text(tiny, "tiny.yaml", [ADVERSARY, *overrides]), make_accelerator("cpu"))

    return start


def signals(count: int = 4, seed: int = 0) -> torch.Tensor:
    return torch.rand(count, 3, 16, 16, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def lines_of(run: pathlib.Path) -> list[dict]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def gradients(module: torch.nn.Module) -> list[torch.Tensor]:
    return [value.grad for value in module.parameters()]


def test_the_tokenizers_backward_pass_leaves_no_gradient_in_the_discriminator(started) -> None:
    training = started()
    output = training.model(signals())
    adversarial = training.adversary.tokenizer_loss(signals(), output.reconstructions, torch.zeros(()))
    adversarial.loss.backward()
    assert all(value is None for value in gradients(training.adversary.discriminator))
    assert any(value is not None and value.abs().sum() > 0 for value in gradients(training.tokenizer.autoencoder))


def test_the_discriminators_backward_pass_leaves_no_gradient_in_the_tokenizer(started) -> None:
    training = started()
    output = training.model(signals())
    training.adversary.backward(signals(), output.reconstructions, share=1.0)
    assert all(value is None for value in gradients(training.tokenizer))
    assert all(value is not None for value in gradients(training.adversary.discriminator))


def test_the_discriminator_sees_every_reconstruction(started) -> None:
    training = started(
        "quantizer={kind: vaevq, dim: 3, codebook_size: 16}",
        "autoencoder.latent_dim=6",
        "autoencoder.decoder_dim=3",
        "adversary.discriminator.norm=group",
    )
    output = training.model(signals())
    assert len(output.reconstructions) == 2
    adversary = training.adversary
    alone = [adversary.tokenizer_loss(signals(), [branch], torch.zeros(())).loss for branch in output.reconstructions]
    assert adversary.tokenizer_loss(signals(), output.reconstructions, torch.zeros(())).loss.item() == pytest.approx(
        sum(alone).item() / 2
    )


def test_features_that_differ_cost_the_tokenizer_their_distance(started) -> None:
    norm = "adversary.discriminator.norm=group"  # the spectral one moves a little with every pass
    plain, matching = (started(norm, f"adversary.feature_weight={weight}") for weight in (0.0, 3.0))
    output = matching.model(signals())
    without = plain.adversary.tokenizer_loss(signals(), output.reconstructions, torch.zeros(()))
    assert "feature_distance" not in without.figures
    with_features = matching.adversary.tokenizer_loss(signals(), output.reconstructions, torch.zeros(()))
    distance = with_features.figures["feature_distance"]
    with torch.no_grad():
        here, there = (
            matching.adversary.discriminator.discriminate(x).features for x in (signals(), *output.reconstructions)
        )
    expected = sum((one - other).abs().mean() for one, other in zip(here, there, strict=True)) / len(here)
    assert distance.item() == pytest.approx(float(expected), rel=1e-4)
    assert (with_features.loss - without.loss).item() == pytest.approx(3 * distance.item(), rel=1e-4)
    with_features.loss.backward()
    assert all(value is None for value in gradients(matching.adversary.discriminator))
    same = matching.adversary.tokenizer_loss(signals(), [signals(), signals()], torch.zeros(()))
    assert same.figures["feature_distance"].item() < 1e-6


class TwoScales(torch.nn.Module):
    """One logit a signal at the first scale and a hundred at the second, each its scale's own parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.logits = torch.nn.ParameterList([torch.full((1, 1, 1), 2.0), torch.zeros(1, 1, 100)])

    def discriminate(self, batch: torch.Tensor) -> Verdict:
        return Verdict(self(batch), ())

    def forward(self, batch: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return tuple(scale.repeat(len(batch), 1, 1) for scale in self.logits)


def test_scales_of_a_discriminator_weigh_the_same_whatever_their_logits(started) -> None:
    adversary = started("adversary.weight=1.0", "adversary.generator_loss=hinge").adversary
    adversary.discriminator = adversary.model = TwoScales()
    assert adversary.tokenizer_loss(signals(), [signals()], torch.zeros(())).loss.item() == pytest.approx(-(2 + 0) / 2)
    figures = adversary.backward(signals(), [signals()], share=1.0)
    # originals miss the margin by 0 and 1, reconstructions by 3 and 1
    assert figures["discriminator_loss"].item() == pytest.approx(((0 + 3) / 2 + (1 + 1) / 2) / 2)
    assert figures["logits_original"].item() == pytest.approx(1)
    # LeCam’s running means are 0 when the penalty is taken
    assert figures["lecam"].item() == pytest.approx((2**2 + 0) / 2)


def test_an_adaptive_weight_makes_both_gradients_equal_at_the_last_layer(started) -> None:
    training = started("adversary.adaptive=true", "adversary.weight=1.0")
    seen = signals()
    output = training.model(seen)
    distance = loop.compute_losses(training.losses, output, seen)["l1"]
    adversarial = training.adversary.tokenizer_loss(signals(), output.reconstructions, distance)
    last = training.tokenizer.autoencoder.last_layer
    norms = [
        torch.autograd.grad(loss, last, retain_graph=True)[0].norm().item() for loss in (distance, adversarial.loss)
    ]
    raw = norms[1] / adversarial.figures["adversarial_weight"].item()
    # VQGAN adds 1e-4 to the denominator.
    assert norms[1] == pytest.approx(norms[0] * raw / (raw + 1e-4), rel=1e-4)


def test_micro_batches_add_up_to_the_whole_batch(started) -> None:
    whole, parts = started("adversary.discriminator.norm=group"), started("adversary.discriminator.norm=group")
    reconstructed = signals(seed=1)
    whole.adversary.backward(signals(), [reconstructed], share=1.0)
    for half in (slice(0, 2), slice(2, 4)):
        # LeCam's running means move between micro-batches; they are put back so that only the sum is compared.
        parts.adversary.backward(signals()[half], [reconstructed[half]], share=0.5)
        parts.adversary.logit_means.load_state_dict({"original": torch.zeros(()), "reconstructed": torch.zeros(())})
    pairs = zip(gradients(whole.adversary.discriminator), gradients(parts.adversary.discriminator), strict=True)
    for one, other in pairs:
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-7)


def test_before_its_first_step_the_adversary_changes_nothing(recipe: str, tmp_path: pathlib.Path) -> None:
    options = [ADVERSARY, "adversary.start_step=5", "training.log_every=1", "training.decay=constant"]
    late = train(recipe, options, out=str(tmp_path / "late")).run
    none = train(recipe, options[2:], out=str(tmp_path / "none")).run
    late_lines, none_lines = ([line for line in lines_of(run) if "loss" in line] for run in (late, none))
    assert [line["loss"] for line in late_lines[:5]] == [line["loss"] for line in none_lines[:5]]
    assert ["discriminator_loss" in line for line in late_lines] == [False] * 5 + [True]
    assert late_lines[5]["loss"] > none_lines[5]["loss"]
    assert late_lines[5]["l1"] == none_lines[5]["l1"]


def test_a_discriminator_with_a_lead_learns_unheard(recipe: str, tmp_path: pathlib.Path) -> None:
    options = [ADVERSARY, "adversary.start_step=5", "training.log_every=1", "training.decay=constant"]
    led = train(recipe, [*options, "adversary.lead_steps=3"], out=str(tmp_path / "led")).run
    none = train(recipe, options[2:], out=str(tmp_path / "none")).run
    led_lines, none_lines = ([line for line in lines_of(run) if "loss" in line] for run in (led, none))
    assert ["discriminator_loss" in line for line in led_lines] == [False] * 2 + [True] * 4
    assert ["adversarial_loss" in line for line in led_lines] == [False] * 5 + [True]
    assert [line["loss"] for line in led_lines[:5]] == [line["loss"] for line in none_lines[:5]]


def test_an_adaptive_weight_stays_under_its_cap(started) -> None:
    training = started("adversary.adaptive=true", "adversary.weight=1.0", "adversary.largest_ratio=0.001")
    output = training.model(signals())
    distance = loop.compute_losses(training.losses, output, signals())["l1"]
    adversarial = training.adversary.tokenizer_loss(signals(), output.reconstructions, distance)
    assert adversarial.figures["adversarial_weight"].item() == pytest.approx(0.001)


def test_a_run_logs_the_game_and_exports_the_tokenizer_alone(recipe: str, tmp_path: pathlib.Path) -> None:
    result = train(recipe, [ADVERSARY, "adversary.adaptive=true"], out=str(tmp_path / "run"))
    figures = {
        "adversarial_loss",
        "adversarial_weight",
        "discriminator_loss",
        "logits_original",
        "logits_reconstructed",
        "lecam",
    }
    for line in lines_of(result.run):
        assert "evaluation" in line or figures <= line.keys()
    exported = read_tensors(result.artifact).tensors
    plain = read_tensors(train(recipe, out=str(tmp_path / "plain")).artifact).tensors
    assert exported.keys() == plain.keys()
    checkpoint = read_tensors(result.run / "checkpoints" / "step-00000006.safetensors").tensors
    rooms = {name.partition("/")[0] for name in checkpoint}
    assert {"discriminator", "discriminator.optimizer", "logit_means"} <= rooms
    assert not any("discriminator" in name for name in checkpoint if name.startswith("averages/"))


@pytest.mark.parametrize(
    "options",
    [
        [ADVERSARY],
        [ADVERSARY, "adversary.adaptive=true", "training.accumulate=2", "training.precision=bf16"],
        [
            "adversary={discriminator: {kind: patchgan, width: 8, layers: 1}, start_step: 2}",
            "adversary.discriminator_loss=logistic",
        ],
    ],
)
def test_an_interrupted_game_ends_like_an_uninterrupted_one(
    recipe: str, tmp_path: pathlib.Path, after_step, options: list[str]
) -> None:
    whole = train(recipe, options, out=str(tmp_path / "whole")).run

    def interrupt(training: Training) -> None:
        os.kill(os.getpid(), signal.SIGINT)

    with after_step(4, interrupt), pytest.raises(InterruptedRunError, match="stopped after step 4 of 6"):
        train(recipe, options, out=str(tmp_path / "parts"))
    parts = train(recipe, options, out=str(tmp_path / "parts")).run
    name = "checkpoints/step-00000006.safetensors"
    first, second = read_tensors(whole / name).tensors, read_tensors(parts / name).tensors
    assert first.keys() == second.keys()
    assert any(key.startswith("discriminator/") for key in first)
    for key, tensor in first.items():
        assert torch.equal(tensor, second[key]), key


def test_a_run_without_an_adversary_can_go_on_with_one(recipe: str, tmp_path: pathlib.Path) -> None:
    train(recipe, out=str(tmp_path / "first"))
    checkpoint = str(tmp_path / "first" / "checkpoints" / "step-00000003.safetensors")
    result = train(recipe, [ADVERSARY], out=str(tmp_path / "second"), resume=checkpoint)
    assert [line["step"] for line in lines_of(result.run) if "discriminator_loss" in line] == [4, 6]


def test_a_discriminator_that_diverges_stops_the_run(
    recipe: str, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = loop.backward

    def wild(training: Training, batch: torch.Tensor) -> dict[str, torch.Tensor]:
        figures = original(training, batch)
        if training.step == 4:
            figures["discriminator_loss"] = torch.tensor(math.nan)
        return figures

    monkeypatch.setattr(loop, "backward", wild)
    options = ["adversary={discriminator: {kind: patchgan, width: 8, layers: 1}}"]
    with pytest.raises(DivergedError, match=r"the discriminator's loss is not finite .*adversary\.learning_rate=5e-05"):
        train(recipe, options, out=str(tmp_path / "run"))


def test_broken_discriminator_weights_are_never_saved(recipe: str, tmp_path: pathlib.Path, after_step) -> None:
    def destroy(training: Training) -> None:
        with torch.no_grad():
            next(training.adversary.discriminator.parameters()).fill_(math.nan)

    words = r"--resume \S*step-00000003\.safetensors"
    with after_step(6, destroy), pytest.raises(DivergedError, match=words):
        train(recipe, [ADVERSARY], out=str(tmp_path / "run"))
    assert not (tmp_path / "run" / "checkpoints" / "step-00000006.safetensors").exists()


def test_the_discriminators_rate_follows_the_schedule_from_its_own_start(started) -> None:
    training = started(
        "adversary.start_step=100", "adversary.learning_rate=4e-4", "training.steps=300", "training.warmup_steps=10"
    )
    rate = training.adversary.learning_rate
    assert rate(100) == pytest.approx(4e-5)
    assert rate(109) == pytest.approx(4e-4)
    assert rate(110 + 95) == pytest.approx(2e-4)
    assert rate(299) < 1e-6


def test_every_mistake_in_an_adversary_is_reported_with_its_path(tiny: str) -> None:
    override = "adversary={discriminator: {kind: patchgan, widht: 8}, wieght: 1, generator_loss: wgan, start_step: 6}"
    with pytest.raises(RecipeError) as caught:
        from_text(tiny, "r.yaml", [override])
    assert str(caught.value).splitlines() == [
        "adversary.generator_loss: input should be 'non-saturating', 'hinge' or 'least-squares', got 'wgan'",
        "adversary.wieght: adversary takes no such argument; did you mean 'weight'?",
        "adversary.discriminator.widht: 'patchgan' takes no such argument; did you mean 'width'?",
        "adversary.start_step: 6 never comes, for training.steps is 6",
    ]


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("adversary.discriminator={kind: patchgn}", "there is no discriminator 'patchgn'; did you mean 'patchgan'?"),
        ("adversary.weight=-1", "adversary.weight: expected more than 0, got -1"),
        ("adversary.betas=[0.5]", "adversary.betas: expected at least 2 of them, got [0.5]"),
        ("adversary.lead_steps=3", "adversary.lead_steps: expected at most start_step (0), got 3"),
        ("adversary.start_step=-1", "adversary.start_step: expected 0 or more, got -1"),
        ("adversary=3", "adversary: expected settings, got 3"),
    ],
)
def test_a_value_that_an_adversary_refuses_carries_its_path(tiny: str, override: str, words: str) -> None:
    with pytest.raises(RecipeError) as caught:
        from_text(tiny, "r.yaml", [override])
    assert words in str(caught.value)


def test_an_adversary_is_read_back_and_can_be_taken_out(tiny: str) -> None:
    recipe = from_text(tiny, "r.yaml", ["adversary.weight=0.2"])
    assert recipe.adversary.discriminator == {"kind": "patchgan", "width": 64, "layers": 3, "norm": "batch"}
    assert from_text(recipe.to_yaml(), "again.yaml") == recipe
    assert from_text(recipe.to_yaml(), "again.yaml", ["adversary=null"]) == from_text(tiny, "r.yaml")


def test_a_discriminator_that_the_autoencoder_cannot_serve_is_refused(started, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("tokcli.discriminators.patchgan.PatchDiscriminator.modality", "audio")
        with pytest.raises(RecipeError, match=r"adversary\.discriminator: 'patchgan' judges audio, the recipe trains"):
            started()
    with pytest.raises(RecipeError, match=r"'multi-period' judges audio, .* image; expected one of: patchgan$"):
        started("adversary.discriminator={kind: multi-period}")
    monkeypatch.delattr("tokcli.autoencoders.vqgan.VQGANAutoencoder.last_layer")
    with pytest.raises(RecipeError, match=r"adversary\.adaptive: .*last layer, which 'vqgan' does not name"):
        started("adversary.adaptive=true")


@pytest.mark.slow
def test_two_processes_play_the_game_of_one(recipe: str, tmp_path: pathlib.Path) -> None:
    options = [ADVERSARY, "quantizer={kind: fsq, levels: [4, 3, 3]}", "adversary.adaptive=true"]
    options += ["adversary.learning_rate=1e-3", "training.decay=constant"]
    environment = os.environ | {"PYTHONPATH": str(pathlib.Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"}
    found = []
    for name, more in (("one", []), ("two", ["--processes", "2"]), ("halves", ["--processes", "2"])):
        accumulate = ["training.accumulate=2"] if name == "halves" else []
        command = [sys.executable, "-m", "tokcli", "train", recipe, *options, *accumulate, "--out", name, *more]
        done = subprocess.run(
            [*command, "--device", "cpu", "--quiet"],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=200,
        )
        assert done.returncode == 0, done.stderr
        found.append(read_tensors(tmp_path / name / "checkpoints" / "step-00000006.safetensors").tensors)
    one, two, halves = found
    for key, tensor in one.items():
        if key.startswith(("discriminator/", "logit_means/", "tokenizer/")):
            torch.testing.assert_close(two[key], tensor, rtol=1e-3, atol=1e-4, msg=key)
    assert one.keys() == halves.keys()
