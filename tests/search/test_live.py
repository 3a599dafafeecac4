"""Distances in a queue that changes: equal to float64 brute force at every moment, on both routes."""

import pytest
import torch
from torch import Tensor

from tokcli.search import build_live_index, codes, live
from tokcli.search.live import ProductIndex, TreeIndex


def brute_force(queries: Tensor, members: Tensor, ranks: list[int]) -> Tensor:
    distances = (queries.double().unsqueeze(1) - members.double()).square().sum(-1).sqrt()
    return distances.sort(dim=1).values[:, [rank - 1 for rank in ranks]]


def worst_relative_error(found: Tensor, expected: Tensor) -> float:
    return float(((found.double() - expected) / expected).abs().max())


def overwrite(members: Tensor, index: TreeIndex | ProductIndex, first: int, rows: Tensor) -> int:
    """Write rows at the queue's position and return the next one."""
    slots = (first + torch.arange(len(rows))) % len(members)
    members[slots] = rows
    index.overwritten(slots)
    return (first + len(rows)) % len(members)


@pytest.mark.parametrize("route", [TreeIndex, ProductIndex])
def test_distances_on_a_line(route: type) -> None:
    index = route(torch.tensor([[0.0], [1.0], [3.0], [6.0]]))
    assert index.kth_distances(torch.tensor([[0.0], [2.5]]), [1, 2, 4]).tolist() == [[0, 1, 6], [0.5, 1.5, 3.5]]


@pytest.mark.parametrize("route", [TreeIndex, ProductIndex])
@pytest.mark.parametrize("dim", [1, 3, 5])
def test_exact_while_the_queue_wraps_several_times(route: type, dim: int) -> None:
    """Fewer, as many and more new members than one rebuild allows; 60 rounds overwrite all members 2.4 times."""
    generator = torch.Generator().manual_seed(dim)
    members = torch.randn(2000, dim, generator=generator)
    index, position = route(members), 0
    ranks = [8, 16 * dim]
    for round_number in range(60):
        spread = 1 + round_number / 20
        rows = spread * torch.randn([3, 17, 220][round_number % 3], dim, generator=generator)
        position = overwrite(members, index, position, rows)
        queries = spread * torch.randn(40, dim, generator=generator)
        found = index.kth_distances(queries, ranks)
        assert found.dtype == torch.float32
        assert worst_relative_error(found, brute_force(queries, members, ranks)) < 1e-6


def test_new_members_count_before_the_tree_is_rebuilt(monkeypatch: pytest.MonkeyPatch) -> None:
    """Members that came last are the nearest of all, and those which they replaced had been."""
    monkeypatch.setattr(live, "FRESH_SHARE", 1.0)
    members = torch.cat([torch.zeros(50, 2) + 0.1 * torch.rand(50, 2), torch.full((50, 2), 9.0)])
    index = TreeIndex(members)
    tree = index._old
    overwrite(members, index, 0, torch.linspace(1, 2, 50).unsqueeze(1).expand(50, 2))
    assert index._old is tree
    queries = torch.zeros(1, 2)
    assert worst_relative_error(index.kth_distances(queries, [1, 50]), brute_force(queries, members, [1, 50])) < 1e-6
    overwrite(members, index, 50, torch.full((50, 2), 0.5))
    assert index._old is tree
    assert worst_relative_error(index.kth_distances(queries, [1, 60]), brute_force(queries, members, [1, 60])) < 1e-6


@pytest.mark.parametrize("route", [TreeIndex, ProductIndex])
def test_a_queue_far_from_the_origin_loses_nothing(route: type) -> None:
    generator = torch.Generator().manual_seed(0)
    members = 100 + torch.randn(3000, 4, generator=generator)
    queries = 100 + torch.randn(200, 4, generator=generator)
    found = route(members).kth_distances(queries, [8, 64])
    assert worst_relative_error(found, brute_force(queries, members, [8, 64])) < 1e-6


def test_the_product_route_codess_and_takes_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """10,037 members are 10 × 1003 and a rest of 7, so most are never looked at; nine queries at a time."""
    monkeypatch.setattr(codes, "CPU_SCORES", 9 * 10_037)
    generator = torch.Generator().manual_seed(1)
    members = torch.randn(10_037, 5, generator=generator)
    queries = torch.randn(100, 5, generator=generator)
    found = ProductIndex(members).kth_distances(queries, [8, 80])
    assert worst_relative_error(found, brute_force(queries, members, [8, 80])) < 1e-6


def test_bfloat16_settings_do_not_reach_the_distances() -> None:
    generator = torch.Generator().manual_seed(2)
    members, queries = torch.randn(5000, 5, generator=generator), torch.randn(100, 5, generator=generator)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = ProductIndex(members).kth_distances(queries, [8, 80])
    assert worst_relative_error(found, brute_force(queries, members, [8, 80])) < 1e-6


def test_the_route_follows_the_dimension() -> None:
    assert isinstance(build_live_index(torch.zeros(20, 5)), TreeIndex)
    assert isinstance(build_live_index(torch.zeros(20, live.TREE_DIM + 1)), ProductIndex)


@pytest.mark.parametrize("route", [TreeIndex, ProductIndex])
def test_duplicates_and_broken_queries_give_numbers(route: type) -> None:
    index = route(torch.zeros(100, 3))
    found = index.kth_distances(torch.tensor([[0.0, 0, 0], [float("nan"), 0, 0], [3.0, 0, 4]]), [8, 48])
    assert found.tolist() == [[0, 0], [0, 0], [5, 5]]
    assert index.kth_distances(torch.empty(0, 3), [8, 48]).shape == (0, 2)
