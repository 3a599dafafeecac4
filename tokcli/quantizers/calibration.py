"""How large a perturbation must be to be as long as the quantization error that it stands for."""

import torch
from torch import Tensor

from tokcli.quantizers.kmeans import kmeans
from tokcli.quantizers.metropolis import Surroundings, perturb
from tokcli.search import CodeIndex, live_index

HELD_OUT_SHARE = 1 / 16
MOST_HELD_OUT = 4096
SAMPLES_PER_CODE = 32
PASSES = 30
ROUNDS = 4
"""Each round divides the remaining mismatch by about ten, and ends in the noise of the held-out latents."""


def calibrated_eta(latents: Tensor, neighbours_per_code: int, density_neighbours: int, seed: int) -> float:
    """The η at which the mean length of *accepted* perturbations equals the mean error of k-means on `latents`.

    latents: (count, dim), count / neighbours_per_code codes. Rejected proposals do not count as zero: at η near 1
    they would bring the mean displacement to about half the error, and a larger η is rejected more often.
    Steps are measured on latents held out from the neighbourhoods. Leaves the global generator as it was, so that the
    same latents and seed give the same η on every rank.
    """
    with torch.random.fork_rng(devices=[latents.device] if latents.device.type == "cuda" else []):
        torch.manual_seed(seed)
        latents = latents[torch.randperm(len(latents), device=latents.device)]
        held_out = min(MOST_HELD_OUT, int(HELD_OUT_SHARE * len(latents)))
        test, rest = latents[:held_out], latents[held_out:]
        size = len(latents) // neighbours_per_code
        error = _mean_error(test, rest[: SAMPLES_PER_CODE * size], size, seed)
        index = live_index(rest)
        ranks = (density_neighbours, max(density_neighbours, round(neighbours_per_code * len(rest) / len(latents))))

        def surroundings(points: Tensor) -> Surroundings:
            return Surroundings(*index.kth_distances(points, ranks).unbind(1))

        eta = 1.0
        for _ in range(ROUNDS):
            torch.manual_seed(seed)
            moved = perturb(test, surroundings, eta)
            length = float(moved.displacement / moved.accepted.clamp_min(1 / held_out))
            if length == 0 or error == 0:  # the latents coincide: there is nothing to match
                return 1.0
            eta *= error / length
    return eta


def _mean_error(test: Tensor, latents: Tensor, size: int, seed: int) -> float:
    """The mean distance to the nearest of `size` centres that fit the distribution of `latents` and `test`.

    Centres fitted to a few dozen samples each are too near to those, and too far from others by as much.
    """
    index = CodeIndex(kmeans(latents, size, seed=seed, max_iterations=PASSES).centres)
    errors = [index.query(each, 1).squared_distances.sqrt().mean() for each in (test, latents)]
    return float(sum(errors) / 2)
