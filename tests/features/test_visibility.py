from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch
from torch import Tensor

from streamscore.features.visibility import extend_graph, visibility_graph


def by_definition(trace: list[float]) -> Tensor:
    """The definition in exact arithmetic: every sample between two linked ones lies below their line."""
    y = [Fraction(value) for value in trace]
    n = len(y)
    graph = torch.zeros(n, n, dtype=torch.bool)
    for a in range(n):
        for b in range(a + 1, n):
            if all(y[c] < y[b] + (y[a] - y[b]) * Fraction(b - c, b - a) for c in range(a + 1, b)):
                graph[a, b] = graph[b, a] = True
    return graph


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape).astype(np.float32))


def published_trace() -> Tensor:
    return torch.tensor([7919 * i % 1009 for i in range(168)], dtype=torch.float32)


def test_the_graph_of_the_published_check_has_324_edges() -> None:
    """MODELS.md 1.5."""
    graph = visibility_graph(published_trace())
    assert graph.sum() == 2 * 324
    assert torch.equal(graph, by_definition(published_trace().tolist()))


@pytest.mark.parametrize("top", [1, 2, 5, 40])
def test_it_is_the_definition_on_small_integers_which_are_full_of_ties(top: int) -> None:
    rng = np.random.default_rng(top)
    traces = rng.integers(0, top + 1, (40, 14)).astype(np.float32)
    graphs = visibility_graph(torch.from_numpy(traces))
    for trace, graph in zip(traces, graphs, strict=True):
        assert torch.equal(graph, by_definition(trace.tolist()))


def test_a_tie_and_a_sample_one_unit_of_float32_below_it_are_told_apart() -> None:
    """Slopes in float32 take both for ties."""
    tie = torch.tensor([1.0, 3.0, 5.0, 7.0])
    below = tie.clone()
    below[1:3] = torch.nextafter(tie[1:3], torch.tensor(0.0))
    assert not visibility_graph(tie)[0, 3]
    assert visibility_graph(below)[0, 3]


def test_a_rounded_line_which_is_full_of_near_ties() -> None:
    """Slopes in float32 get an edge of it wrong."""
    line = torch.tensor([round(i * 200_000.3) for i in range(40)], dtype=torch.float32)
    assert torch.equal(visibility_graph(line), by_definition(line.tolist()))


def test_neighbours_see_each_other_and_no_sample_sees_itself() -> None:
    graph = visibility_graph(noise(3, 20))
    assert graph.diagonal(offset=1, dim1=-2, dim2=-1).all()
    assert not graph.diagonal(dim1=-2, dim2=-1).any()
    assert torch.equal(graph, graph.mT)


def test_on_a_straight_line_only_neighbours_see_each_other() -> None:
    graph = visibility_graph(torch.arange(9, dtype=torch.float32))
    assert graph.sum() == 2 * 8


@pytest.mark.parametrize(("gain", "offset"), [(0.25, 0.0), (3.0, -500.0), (1.0, 2048.0)])
def test_no_affine_change_of_a_trace_changes_its_graph(gain: float, offset: float) -> None:
    trace = published_trace()
    assert torch.equal(visibility_graph(gain * trace + offset), visibility_graph(trace))


def test_turning_a_trace_upside_down_does() -> None:
    assert not torch.equal(visibility_graph(-published_trace()), visibility_graph(published_trace()))


def test_traces_of_a_batch_do_not_touch_each_other() -> None:
    traces = noise(2, 3, 15)
    graphs = visibility_graph(traces)
    assert graphs.shape == (2, 3, 15, 15)
    assert graphs.dtype == torch.bool
    for i in range(2):
        for j in range(3):
            assert torch.equal(graphs[i, j], visibility_graph(traces[i, j]))


@pytest.mark.parametrize("hop", [1, 2, 5, 12])
def test_a_window_that_slides_has_the_graph_that_it_has_from_scratch(hop: int) -> None:
    n = 12
    stream = noise(2, 60).mul(3).round()
    graph = visibility_graph(stream[:, :n])
    for end in range(n + hop, 61, hop):
        graph = extend_graph(graph[:, hop:, hop:], stream[:, end - n : end])
        assert torch.equal(graph, visibility_graph(stream[:, end - n : end]))


def test_a_graph_grows_without_being_modified() -> None:
    trace = noise(10)
    short = visibility_graph(trace[:6])
    kept = short.clone()
    assert torch.equal(extend_graph(short, trace), visibility_graph(trace))
    assert torch.equal(extend_graph(short, trace[:6]), short)
    assert torch.equal(short, kept)
