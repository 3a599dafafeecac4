"""VP-VAE beyond what every quantizer promises: its queue, its gradients, its codebooks and its calibration."""

import copy
import pathlib

import pytest
import torch
from rank_workers import share_queue
from safetensors.torch import load_file
from torch import Tensor, multiprocessing

from tokcli.errors import UsageError
from tokcli.quantizers.kmeans import kmeans
from tokcli.quantizers.vpvae import LatentQueue, VectorPerturbation, calibrate_eta
from tokcli.search import CodeIndex, live, nearest_code


def steps(quantizer: VectorPerturbation, first: int, last: int, scale: float = 2.0) -> list[Tensor]:
    """Training steps seeded as the loop does it; what each made of its latents."""
    quantizer.train()
    made = []
    for step in range(first, last):
        torch.manual_seed(step)
        made.append(quantizer(scale * torch.randn(2, 100, quantizer.dim)).latents)
    return made


def brute_force(points: Tensor, members: Tensor, ranks: tuple[int, ...]) -> Tensor:
    distances = (points.double().unsqueeze(1) - members.double()).square().sum(-1).sqrt()
    return distances.sort(dim=1).values[:, [rank - 1 for rank in ranks]]


def test_the_perturbation_carries_no_gradient_and_the_encoder_gets_the_decoders() -> None:
    torch.manual_seed(0)
    quantizer = VectorPerturbation(3, 16, mean_weight=0.0, variance_weight=0.0)
    latents = torch.randn(2, 50, 3, requires_grad=True)
    output = quantizer(latents)
    assert float(output.loss.detach()) == 0
    assert not torch.equal(output.latents, latents)
    weights = torch.randn(2, 50, 3)
    (gradient,) = torch.autograd.grad((output.latents * weights).sum(), latents)
    assert torch.equal(gradient, weights)


def test_rejected_latents_pass_unchanged_and_accepted_ones_stay_in_their_ball() -> None:
    torch.manual_seed(1)
    quantizer = VectorPerturbation(2, 32, eta=0.7)
    latents = torch.randn(1, 3000, 2)
    radius = quantizer.queue.kth_distances(latents[0], (32,))[:, 0]
    output = quantizer(latents)
    length = (output.latents - latents)[0].norm(dim=1)
    assert float((length == 0).float().mean()) == pytest.approx(1 - float(output.stats["accepted"]), abs=1e-6)
    assert 0.5 < float(output.stats["accepted"]) < 0.9
    assert bool((length <= 0.7 * radius * (1 + 1e-5)).all())
    assert float(output.stats["displacement"]) == pytest.approx(float(length.mean()), rel=1e-4)


def test_always_accepting_leaves_no_latent_where_it_was() -> None:
    torch.manual_seed(2)
    quantizer = VectorPerturbation(2, 32, accept=False)
    latents = torch.randn(1, 500, 2)
    assert bool((quantizer(latents).latents != latents).any(-1).all())


def test_the_normaliser_by_hand() -> None:
    """Latents ±3 around 1: mean 1, variance 9; 0.1·1² + 0.07·(9 − 1)² = 4.58."""
    quantizer = VectorPerturbation(1, 16)
    assert float(quantizer(torch.tensor([[[-2.0], [4.0]]])).loss) == pytest.approx(4.58)


def test_the_queue_writes_in_order_and_wraps() -> None:
    queue = LatentQueue(4, 1)
    start = queue.latents.clone()
    queue.push(torch.tensor([[10.0], [11.0], [12.0]]))
    assert torch.equal(queue.latents[3], start[3])
    assert queue.filled().flatten().tolist() == [10, 11, 12]
    queue.push(torch.tensor([[13.0], [14.0]]))
    assert queue.latents.flatten().tolist() == [14, 11, 12, 13]
    queue.push(torch.arange(20.0, 26.0).unsqueeze(1))
    assert int(queue.entered) == queue.count() == 11
    assert sorted(queue.latents.flatten().tolist()) == [22, 23, 24, 25]
    queue.push(torch.tensor([[30.0]]))
    assert 22 not in queue.latents


def test_both_radii_are_exact_after_the_queue_has_wrapped() -> None:
    """Against float64 brute force, at every step, with trees rebuilt and not."""
    torch.manual_seed(3)
    quantizer = VectorPerturbation(3, 40, queue_fraction=0.2)
    points = torch.randn(200, 3)
    for step in range(60):
        steps(quantizer, step, step + 1, scale=1 + step / 30)
        found = quantizer.queue.kth_distances(points, (8, 48)).double()
        expected = brute_force(points, quantizer.queue.latents, (8, 48))
        assert float(((found - expected) / expected).abs().max()) < 1e-6
    assert quantizer.queue.count() == 60 * 40 > quantizer.queue.size


@pytest.mark.parametrize("how", ["load", "copy", "write"])
def test_the_index_follows_a_queue_that_was_changed_from_outside(how: str) -> None:
    torch.manual_seed(4)
    queue, other = LatentQueue(3000, 2), LatentQueue(3000, 2)
    queue.push(torch.randn(5, 2))
    other.push(torch.randn(8, 2) + 3)
    points = torch.randn(50, 2)
    queue.kth_distances(points, (1, 30))
    if how == "load":
        queue.load_state_dict(other.state_dict())
        assert queue.count() == 8
    elif how == "copy":
        queue = copy.deepcopy(queue)
        queue.push(torch.zeros(20, 2))
    else:
        queue.latents.mul_(2)
    expected = brute_force(points, queue.latents, (1, 30))
    torch.testing.assert_close(queue.kth_distances(points, (1, 30)).double(), expected, rtol=1e-6, atol=1e-7)


def test_a_resumed_run_equals_the_uninterrupted_one_even_between_rebuilds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "FRESH_SHARE", 0.3)
    torch.manual_seed(5)
    straight = VectorPerturbation(3, 20, queue_fraction=0.2)
    resumed = VectorPerturbation(3, 20, queue_fraction=0.2)
    steps(straight, 0, 13)
    resumed.load_state_dict(copy.deepcopy(straight.state_dict()))
    for ours, theirs in zip(steps(straight, 13, 40), steps(resumed, 13, 40), strict=True):
        assert torch.equal(ours, theirs)
    assert torch.equal(straight.queue.latents, resumed.queue.latents)
    assert straight.queue.count() == resumed.queue.count()


def test_a_fixed_share_of_the_batch_enters_whatever_the_order() -> None:
    """The latents are numbered, so that those which entered can be seen: 2 of 100, from anywhere in the batch."""
    quantizer = VectorPerturbation(1, 1000, queue_fraction=0.02)
    batch = 100 + torch.arange(100.0).view(4, 25, 1)
    entered = []
    for seed in range(50):
        torch.manual_seed(seed)
        quantizer(batch)
        entered.append(quantizer.queue.latents[2 * seed : 2 * seed + 2])
    numbers = torch.cat(entered) - 100
    assert quantizer.queue.count() == 100
    assert bool(((numbers >= 0) & (numbers < 100)).all())
    assert float(numbers.mean()) == pytest.approx(49.5, abs=10)
    assert len(numbers.unique()) > 50


def test_the_first_fill_may_be_faster() -> None:
    quantizer = VectorPerturbation(1, 10, queue_fraction=0.1, fill_fraction=0.5)
    counts = []
    for _ in range(4):
        counts.append(float(quantizer(torch.randn(1, 160, 1)).stats["queue_filled"]))
    assert quantizer.queue.count() == 80 + 80 + 16 + 16
    assert counts == [0.5, 1, 1, 1]


def test_evaluation_does_not_perturb_and_does_not_remember() -> None:
    quantizer = VectorPerturbation(2, 8).eval()
    latents = torch.randn(1, 20, 2)
    output = quantizer(latents)
    assert torch.equal(output.latents, latents)
    assert output.tokens is None
    assert quantizer.queue.count() == 0


def test_several_codebooks_live_in_one_quantizer_and_load_into_a_fresh_one() -> None:
    torch.manual_seed(6)
    latents = torch.randn(3000, 3)
    quantizer = VectorPerturbation(3, 32)
    reports = [quantizer.build_codebook(latents, size) for size in (16, 64, 32)]
    assert quantizer.codebooks == (16, 32, 64)
    assert quantizer.codebook_size == 32
    assert reports[0].mse > reports[2].mse > reports[1].mse
    quantizer.use_codebook(64)
    fresh = VectorPerturbation(3, 32)
    fresh.load_state_dict(quantizer.state_dict(), strict=True)
    assert fresh.codebooks == (16, 32, 64)
    for size in (64, 16):
        fresh.use_codebook(size)
        quantizer.use_codebook(size)
        assert fresh.codebook_size == size
        (codes,) = fresh.codebook_tensors().values()
        assert codes.shape == (size, 3)
        tokens = fresh.quantize(latents)
        assert torch.equal(tokens, quantizer.quantize(latents))
        assert torch.equal(tokens.squeeze(-1), nearest_code(latents, codes))
    with pytest.raises(UsageError, match=r"no codebook of 8 codes \(built: 16, 32, 64\)"):
        fresh.use_codebook(8)


def test_the_report_says_how_well_the_codebook_fits() -> None:
    """Four points, one of them thrice: codes on the points, perplexity of shares (3, 1, 1, 1)/6."""
    latents = torch.tensor([[0.0], [0.0], [0.0], [5.0], [9.0], [20.0]])
    report = VectorPerturbation(1, 4).build_codebook(latents)
    assert report.size == 4
    assert report.samples == 6
    assert report.mse == 0
    assert report.perplexity == pytest.approx(2**0.5 * 6**0.5, rel=1e-6)


def test_codebooks_that_cannot_be_built_are_explained() -> None:
    quantizer = VectorPerturbation(2, 8)
    with pytest.raises(UsageError, match="tok build-codebook"):
        quantizer.quantize(torch.zeros(1, 2))
    with pytest.raises(UsageError, match="8 codes cannot be fitted to 5 latents"):
        quantizer.build_codebook(torch.zeros(5, 2))
    with pytest.raises(UsageError, match="at least 2 codes, got --size 1"):
        quantizer.build_codebook(torch.zeros(5, 2), 1)
    with pytest.raises(UsageError, match="not finite"):
        quantizer.build_codebook(torch.full((9, 2), torch.nan))


def test_a_provisional_codebook_leaves_no_trace() -> None:
    torch.manual_seed(7)
    quantizer = VectorPerturbation(2, 16)
    steps(quantizer, 0, 3)
    before = copy.deepcopy(quantizer.state_dict())
    generator = torch.get_rng_state()
    quantizer.eval()
    with quantizer.provisional_codebook():
        assert quantizer.codebook_ready
        assert quantizer.state_dict().keys() == before.keys()
        output = quantizer(torch.randn(1, 50, 2, generator=torch.Generator().manual_seed(0)))
        assert int(output.tokens.max()) < quantizer.codebook_size == 16
    assert torch.equal(torch.get_rng_state(), generator)
    assert not quantizer.codebook_ready
    for name, tensor in quantizer.state_dict().items():
        assert torch.equal(tensor, before[name]), name


def test_the_codebooks_index_is_kept_between_batches_and_renewed_with_the_codes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = []
    original = CodeIndex.__init__

    def counted(self: CodeIndex, codebook: Tensor) -> None:
        made.append(len(codebook))
        original(self, codebook)

    torch.manual_seed(8)
    quantizer = VectorPerturbation(2, 16).eval()
    quantizer.build_codebook(torch.randn(100, 2))
    monkeypatch.setattr(CodeIndex, "__init__", counted)
    for _ in range(3):
        quantizer.quantize(torch.randn(1, 5, 2))
    assert made == [16]
    quantizer.built.size_16.neg_()
    tokens = quantizer.quantize(quantizer.built.size_16)
    assert made == [16, 16]
    assert tokens.flatten().tolist() == list(range(16))


def test_calibrated_steps_are_as_long_as_the_error_of_k_means() -> None:
    """Measured afresh, with other draws and a codebook of 600 samples a code: within 3 %; η = 1 is 15 % too short."""
    torch.manual_seed(9)
    latents = torch.randn(64 * 48, 3)
    eta = calibrate_eta(latents, 48, 8, seed=0)
    assert 1.02 < eta < 1.4
    quantizer = VectorPerturbation(3, 64, eta=eta)
    quantizer.queue.push(latents)
    test = torch.randn(20_000, 3)
    stats = quantizer(test.unsqueeze(0)).stats
    centres = kmeans(torch.randn(64 * 600, 3), 64).centres
    error = (test - centres[nearest_code(test, centres)]).norm(dim=1).mean()
    assert float(stats["displacement"] / stats["accepted"]) == pytest.approx(float(error), rel=0.03)


def test_calibration_happens_when_the_queue_is_full_and_at_each_doubling() -> None:
    torch.manual_seed(10)
    quantizer = VectorPerturbation(2, 10, eta="calibrated", queue_fraction=1.0)
    etas = []
    for step in range(8):
        torch.manual_seed(step)
        quantizer(torch.randn(1, 160, 2) * (1 + step))
        etas.append(float(quantizer.eta_used))
    changes = [step for step in range(1, 8) if etas[step] != etas[step - 1]]
    assert float(etas[0]) == 1.0
    assert changes == [1, 3, 7]


def test_latents_that_coincide_calibrate_to_one() -> None:
    assert calibrate_eta(torch.zeros(320, 2), 32, 8, seed=0) == 1.0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"codebook_size": 1}, "codebook_size: expected 2 or more"),
        ({"neighbours_per_code": 4}, "density_neighbours must be at most neighbours_per_code, got 8 and 4"),
        ({"eta": 0.0}, "eta: expected more than 0, got 0.0, or input should be 'calibrated'"),
        ({"queue_fraction": 0.0}, "queue_fraction: expected more than 0"),
        ({"fill_fraction": 1.5}, "fill_fraction: expected 1 or less"),
        ({"transitions": 0}, "transitions: expected 1 or more"),
        ({"mean_weight": -1.0}, "mean_weight: expected 0 or more"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(arguments: dict[str, float], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        VectorPerturbation(**({"dim": 2, "codebook_size": 8} | arguments))


@pytest.mark.slow
def test_two_ranks_share_one_queue(tmp_path: pathlib.Path) -> None:
    multiprocessing.spawn(share_queue, args=(str(tmp_path),), nprocs=2)
    first, second = (load_file(tmp_path / f"{rank}.safetensors") for rank in range(2))
    for name, tensor in first.items():
        assert torch.equal(tensor, second[name]), name
    assert int(first["queue.entered"]) == 10 * 2 * 20
    assert float((first["queue.latents"][:, 0] > 5).float().mean()) == pytest.approx(0.5, abs=0.05)
    assert float(first["eta_used"]) != 1.0
