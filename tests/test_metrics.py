"""Ranks against hand-made matrices and against a count by hand."""

from __future__ import annotations

import ast
import inspect
from typing import Any

import numpy as np
import pytest

from lab import metrics
from lab.metrics import ranks, retrieval_metrics, summarise

NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("similarity", "target", "wanted"),
    [
        ([[0.9]], [0], [1]),
        ([[3, 2, 1]], [0], [1]),
        ([[3, 2, 1]], [1], [2]),
        ([[3, 2, 1]], [2], [3]),
        ([[0.1, 0.9, 0.3, 0.3], [0.5, 0.8, 0.5, 0.2]], [1, 0], [1, 2.5]),  # the docstring's
        ([[1, 1]], [0], [1.5]),
        ([[1, 1, 1, 1, 1]], [3], [3]),  # a constant row: the mean of 1..5
        ([[2, 1, 1, 1, 0]], [2], [3]),  # the mean of 2, 3, 4
        ([[2, 2, 1]], [2], [3]),  # a tie above does not matter
        ([[1, 0, 0]], [0], [1]),  # nor one below
        ([[-1, -2], [-2, -1], [-1, -2]], [0, 0, 1], [1, 2, 2]),  # more texts than videos
        (np.zeros((0, 3)), np.zeros(0, int), []),
    ],
)
def test_ranks_by_hand(similarity: Any, target: Any, wanted: list[float]) -> None:
    assert ranks(similarity, target).tolist() == wanted


def test_a_constant_matrix_scores_as_chance_does() -> None:
    found = retrieval_metrics(np.zeros((7, 101)), np.arange(7))
    assert (found["R@1"], found["R@50"], found["MdR"], found["MnR"]) == (0, 0, 51, 51)
    assert found["R@100"] == 100


def test_metrics_by_hand() -> None:
    """Ranks 1, 2, 6, 11 of four texts: a row has as many better columns as its rank asks for."""
    similarity = np.zeros((4, 13))
    for text, rank in enumerate((1, 2, 6, 11)):
        similarity[text, :rank] = 2
        similarity[text, rank - 1] = 1
    found = retrieval_metrics(similarity, [0, 1, 5, 10])
    assert found == pytest.approx(
        {
            "R@1": 25, "R@5": 50, "R@10": 75, "R@50": 100, "R@100": 100, "MdR": 4, "MnR": 5,
            "MRR": (1 + 1 / 2 + 1 / 6 + 1 / 11) / 4,
            "nDCG@10": (1 + 1 / np.log2(3) + 1 / np.log2(7)) / 4,
        }
    )  # fmt: skip


def test_the_docstring_is_true() -> None:
    found = retrieval_metrics([[0.1, 0.9, 0.3, 0.3], [0.5, 0.8, 0.5, 0.2]], [1, 0])
    assert [found[name] for name in ("R@1", "R@5", "MdR", "MnR")] == [50, 100, 1.75, 1.75]
    assert "R@1 = 50, R@5 = 100, MdR = 1.75, MnR = 1.75" in (metrics.__doc__ or "")


@pytest.mark.parametrize("value", [NAN, INF, -INF])
def test_what_is_not_finite_is_an_error(value: float) -> None:
    similarity = np.zeros((3, 5))
    similarity[1, 2:4] = value
    with pytest.raises(ValueError, match=r"similarities must be finite, 2 are not"):
        ranks(similarity, [0, 1, 2])


@pytest.mark.parametrize(
    ("shape", "target", "said"),
    [
        ((2, 3), [0, 3], r"targets must be columns 0\.\.2, got 0\.\.3"),
        ((2, 3), [-1, 2], r"targets must be columns 0\.\.2, got -1\.\.2"),
        ((2, 0), [0, 0], r"targets must be columns 0\.\.-1, got 0\.\.0"),
        ((2, 3), [0], r"got \(2, 3\) and \(1,\)"),
        ((2, 3), [[0], [1]], r"got \(2, 3\) and \(2, 1\)"),
        ((6,), [0] * 6, r"got \(6,\) and \(6,\)"),
        ((2, 3), [0.0, 1.0], "target .* whole numbers"),
        ((2, 3), [True, False], "target .* whole numbers"),
    ],
)
def test_what_does_not_fit_is_an_error(shape: tuple[int, ...], target: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        ranks(np.zeros(shape), target)


def test_no_query_is_an_error() -> None:
    with pytest.raises(ValueError, match="at least one query to summarise, got none"):
        summarise(np.zeros(0))


def by_hand(row: list[float], target: int) -> float:
    """Sort, and take the mean of the places at which the target's score stands."""
    places = [place for place, score in enumerate(sorted(row, reverse=True), 1) if score == row[target]]
    return sum(places) / len(places)


@pytest.mark.parametrize("kind", ["float32", "float16", "int64", "int8"])
def test_against_a_count_by_hand(kind: str) -> None:
    rng = np.random.default_rng(0)
    for _ in range(100):
        T, V = rng.integers(1, 14, 2)
        levels = rng.integers(1, 9)  # few levels, so that ties abound
        similarity = rng.integers(-levels, levels + 1, (T, V)).astype(kind)
        target = rng.integers(0, V, T)
        wanted = [by_hand(row.tolist(), t) for row, t in zip(similarity, target, strict=True)]
        assert ranks(similarity, target).tolist() == wanted
        found = retrieval_metrics(similarity, target)
        for cutoff in (1, 5, 10):
            assert found[f"R@{cutoff}"] == pytest.approx(100 * sum(r <= cutoff for r in wanted) / T)


def test_the_order_of_videos_does_not_matter() -> None:
    rng = np.random.default_rng(1)
    similarity, target = rng.integers(0, 5, (17, 11)), rng.integers(0, 11, 17)
    order = rng.permutation(11)
    assert np.array_equal(ranks(similarity[:, order], np.argsort(order)[target]), ranks(similarity, target))


def test_it_imports_numpy_and_nothing_of_ours() -> None:
    tree = ast.parse(inspect.getsource(metrics))
    named = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    named |= {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    assert named == {"__future__", "numpy", "numpy.typing"}
