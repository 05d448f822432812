"""Ranks against hand-made matrices and against a count by hand."""

from __future__ import annotations

import ast
import inspect
import itertools
from typing import Any

import ir_measures
import numpy as np
import pytest
from ir_measures import RR, R, Success, nDCG

from lab import metrics
from lab.metrics import (
    best_own_rank,
    dual_softmax,
    geometric_mean,
    query_values,
    rank_of,
    ranks,
    retrieval_metrics,
    summarise,
    v2t_metrics,
    v2t_ranks,
)

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
    assert named == {"__future__", "numpy", "numpy.typing", "typing"}


# -- video to text -----------------------------------------------------------------------------------------------------


def test_v2t_by_hand() -> None:
    """Three videos with 2, 1 and 2 captions, and one with none."""
    similarity = np.array(
        [
            # v0  v1  v2  v3
            [.9, .8, .1, .0],  # captions of video 0
            [.2, .7, .5, .9],
            [.5, .6, .4, .0],  # of video 1
            [.6, .1, .3, .0],  # of video 2
            [.8, .2, .2, .0],
        ]
    )  # fmt: skip
    target = [0, 0, 1, 2, 2]
    # video 0: its .9 is best of all. Video 1: its .6 comes after the group of .8 (.7 is of the same group), and after
    # two captions. Video 2: its .3 comes after the groups of .5 and of .4.
    assert v2t_ranks(similarity, target).tolist() == [1, 2, 3]
    assert v2t_ranks(similarity, target, "captions").tolist() == [1, 3, 3]
    assert v2t_metrics(similarity, target)["MnR"] == 2
    assert v2t_metrics(similarity, target, "captions") == summarise(np.array([1.0, 3, 3]))


@pytest.mark.parametrize(
    ("given", "target", "groups", "captions"),
    [
        ([3, 3, 2], [0, 0, 1], 1, 1),  # a caption that a video has twice does not stand behind itself
        ([3, 3, 2], [0, 1, 1], 1.5, 1.5),
        ([3, 3, 3], [0, 1, 1], 1.5, 2),  # own is 1st, 2nd or 3rd
        ([3, 3, 3], [0, 0, 1], 1.5, 4 / 3),  # other is 1st (own 2nd), 2nd or 3rd
        ([3, 3, 3, 3, 4], [0, 0, 1, 1, 2], 2.5, 1 + 5 / 3),  # above: one; level: (4 + 1) / (2 + 1)
    ],
)
def test_v2t_ties_by_hand(given: list[int], target: list[int], groups: float, captions: float) -> None:
    """Of video 0; the others' columns are of no matter to it."""
    similarity = np.stack([given, *([[0] * len(given)] * max(target))], axis=1)
    assert v2t_ranks(similarity, target)[0] == groups
    assert v2t_ranks(similarity, target, "captions")[0] == pytest.approx(captions)


def first_of_own(row: list[float], own: set[int]) -> float:
    """The mean place of the first of its own over every order that the scores allow: all orders are gone through."""
    every = itertools.permutations(range(len(row)))
    allowed = [order for order in every if all(row[a] >= row[b] for a, b in itertools.pairwise(order))]
    return float(np.mean([min(place for place, text in enumerate(order, 1) if text in own) for order in allowed]))


def test_v2t_against_all_orders() -> None:
    rng = np.random.default_rng(2)
    for _ in range(60):
        T, V = int(rng.integers(1, 7)), int(rng.integers(1, 5))
        similarity, target = rng.integers(0, 3, (T, V)), rng.integers(0, V, T)
        videos = sorted(set(target.tolist()))
        own = [{text for text in range(T) if target[text] == video} for video in videos]
        wanted = [first_of_own(similarity[:, v].tolist(), mine) for v, mine in zip(videos, own, strict=True)]
        assert v2t_ranks(similarity, target, "captions") == pytest.approx(np.array(wanted))
        singly = [best_own_rank(similarity[:, v], target == v) for v in videos]
        assert singly == pytest.approx(wanted)
        assert [rank_of(row, column) for row, column in zip(similarity, target, strict=True)] == pytest.approx(
            ranks(similarity, target)
        )
        best = [[float(max(similarity[list(mine), v])) for mine in own] for v in videos]
        assert v2t_ranks(similarity, target).tolist() == [by_hand(row, place) for place, row in enumerate(best)]


@pytest.mark.parametrize("tile", [1, 100, metrics.TILE])
def test_v2t_protocols_agree_at_one_and_only_there(tile: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "TILE", tile)
    rng = np.random.default_rng(3)
    target = rng.integers(0, 23, 97)
    for levels in (3, 10**6):
        similarity = rng.integers(0, levels, (97, 23))
        similarity[np.arange(97), target] += levels // 3
        groups, captions = v2t_ranks(similarity, target), v2t_ranks(similarity, target, "captions")
        assert np.array_equal(groups == 1, captions == 1)
        if levels > 3:  # without ties
            assert (captions >= groups).all()
        assert groups.mean() != captions.mean()


def test_v2t_of_one_caption_a_video_is_t2v_turned_over() -> None:
    rng = np.random.default_rng(4)
    similarity, target = rng.integers(0, 5, (13, 13)), rng.permutation(13)
    wanted = ranks(similarity.T, np.argsort(target))
    assert np.array_equal(v2t_ranks(similarity, target), wanted)
    assert np.array_equal(v2t_ranks(similarity, target, "captions"), wanted)


@pytest.mark.parametrize("protocol", ["groups", "captions"])
def test_v2t_orders_do_not_matter(protocol: Any) -> None:
    rng = np.random.default_rng(5)
    similarity, target = rng.integers(0, 5, (29, 11)), rng.integers(0, 11, 29)
    wanted = dict(zip(np.unique(target).tolist(), v2t_ranks(similarity, target, protocol), strict=True))
    texts, videos = rng.permutation(29), rng.permutation(11)
    moved = np.argsort(videos)[target[texts]]
    found = dict(zip(np.unique(moved).tolist(), v2t_ranks(similarity[texts][:, videos], moved, protocol), strict=True))
    assert {int(videos[video]): rank for video, rank in found.items()} == wanted


def test_v2t_chance() -> None:
    """Of a constant matrix: the middle of 19 groups, and the first of 5 own captions among 95."""
    target = np.repeat(np.arange(19), 5)
    assert set(v2t_ranks(np.zeros((95, 19)), target)) == {10}
    assert v2t_ranks(np.zeros((95, 19)), target, "captions") == pytest.approx(np.full(19, 96 / 6))


def test_v2t_bad_input() -> None:
    with pytest.raises(ValueError, match="protocol must be one of groups, captions, got 'best'"):
        v2t_ranks(np.zeros((1, 1)), [0], "best")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="similarities must be finite, 1 are not"):
        v2t_ranks([[1, NAN]], [0])
    with pytest.raises(ValueError, match=r"targets must be columns 0\.\.1, got 2\.\.2"):
        v2t_ranks([[1, 2]], [2])
    with pytest.raises(ValueError, match="at least one query"):
        v2t_metrics(np.zeros((0, 3)), np.zeros(0, int), "captions")


# -- against ir_measures (trec_eval), which knows nothing of matrices ------------------------------------------------


def judged(scores: Any, relevant: list[set[int]]) -> tuple[dict[str, dict[str, int]], dict[str, dict[str, float]]]:
    """Queries × documents as TREC's two tables."""
    names = [f"d{column}" for column in range(scores.shape[1])]
    run = {f"q{q}": dict(zip(names, row.tolist(), strict=True)) for q, row in enumerate(scores)}
    return {f"q{q}": {names[column]: 1 for column in right} for q, right in enumerate(relevant)}, run


def test_t2v_against_ir_measures() -> None:
    rng = np.random.default_rng(6)
    T, V = 331, 127
    similarity, target = rng.standard_normal((T, V)), rng.integers(0, V, T)
    similarity[np.arange(T), target] += 1.5
    measures = [*(R @ cutoff for cutoff in metrics.CUTOFFS), RR, nDCG @ 10]
    tables = judged(similarity, [{int(video)} for video in target])
    wanted = {str(measure): value for measure, value in ir_measures.calc_aggregate(measures, *tables).items()}
    found = retrieval_metrics(similarity, target)
    for cutoff in metrics.CUTOFFS:
        assert found[f"R@{cutoff}"] == pytest.approx(100 * wanted[f"R@{cutoff}"])
    assert found["MRR"] == pytest.approx(wanted["RR"])
    assert found["nDCG@10"] == pytest.approx(wanted["nDCG@10"])
    one_by_one = {told.query_id: told.value for told in ir_measures.iter_calc([RR], *tables)}
    assert 1 / ranks(similarity, target) == pytest.approx(np.array([one_by_one[f"q{text}"] for text in range(T)]))


def test_v2t_against_ir_measures() -> None:
    rng = np.random.default_rng(7)
    T, V = 331, 61
    similarity, target = rng.standard_normal((T, V)), np.concatenate([np.arange(V), rng.integers(0, V, T - V)])
    similarity[np.arange(T), target] += 1.5
    own = [set(np.flatnonzero(target == video).tolist()) for video in range(V)]
    best = np.stack([similarity[list(mine)].max(0) for mine in own], axis=1)  # videos × groups
    for protocol, tables in (
        ("captions", judged(similarity.T, own)),
        ("groups", judged(best, [{video} for video in range(V)])),
    ):
        measures = [*(Success @ cutoff for cutoff in metrics.CUTOFFS), RR]
        wanted = {str(measure): value for measure, value in ir_measures.calc_aggregate(measures, *tables).items()}
        found = v2t_metrics(similarity, target, protocol)  # type: ignore[arg-type]
        for cutoff in metrics.CUTOFFS:
            assert found[f"R@{cutoff}"] == pytest.approx(100 * wanted[f"Success@{cutoff}"])
        assert found["MRR"] == pytest.approx(wanted["RR"])


# -- one number, one query, all queries at once -----------------------------------------------------------------------


def test_query_values_add_up_to_the_summary() -> None:
    rank = np.array([1, 2, 2.5, 10, 11, 400])
    found = summarise(rank)
    assert list(found) == ["R@1", "R@5", "R@10", "R@50", "R@100", "MdR", "MnR", "MRR", "nDCG@10"]
    for name in found.keys() - {"MdR"}:
        assert query_values(rank, name).mean() == pytest.approx(found[name])
    assert query_values(rank, "R@7").tolist() == [100, 100, 100, 0, 0, 0]
    assert query_values(rank.reshape(2, 3), "MRR")[1, 0] == 0.1
    for name in ("MdR", "R@", "R@x", "recall"):
        with pytest.raises(ValueError, match=f"R@k, MnR, MRR or nDCG@10, got '{name}'"):
            query_values(rank, name)


def test_geometric_mean_by_hand() -> None:
    assert geometric_mean({"R@1": 12.5, "R@5": 50, "R@10": 80}) == pytest.approx(36.8403149864)  # the cube root of 5e4
    assert geometric_mean({"R@1": 0, "R@5": 50, "R@10": 80}) == 0


def test_dual_softmax_is_the_formula() -> None:
    rng = np.random.default_rng(8)
    similarity = rng.uniform(0, 1, (17, 11))
    weight = np.exp(20 * similarity)
    assert dual_softmax(similarity, 20) == pytest.approx(similarity * weight / weight.sum(0) * 17)
    assert dual_softmax(similarity, 20, "videos") == pytest.approx(dual_softmax(similarity.T, 20).T)


def test_dual_softmax_is_as_sharp_as_clip_and_camoes_default_changes_hardly_a_rank() -> None:
    rng = np.random.default_rng(0)
    similarity = rng.uniform(0.1, 0.2, (60, 60)) + rng.uniform(0, 0.2, 60)  # some videos are near to every text
    target = np.arange(60)
    np.testing.assert_array_equal(dual_softmax(similarity), dual_softmax(similarity, 100.0))
    plain = ranks(similarity, target)
    assert np.abs(ranks(dual_softmax(similarity, 0.1), target) - plain).mean() < 1
    assert np.abs(ranks(dual_softmax(similarity), target) - plain).mean() > 3


def test_dual_softmax_in_tiles_and_single_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    similarity = np.random.default_rng(9).uniform(-1, 1, (13, 29)).astype(np.float32)
    whole = dual_softmax(similarity)
    monkeypatch.setattr(metrics, "TILE", 40)
    for over in ("texts", "videos"):
        tiled = dual_softmax(similarity if over == "texts" else similarity.T, over=over)  # type: ignore[arg-type]
        assert (tiled if over == "texts" else tiled.T) == pytest.approx(whole)


def test_dual_softmax_breaks_what_one_query_cannot() -> None:
    """A video that draws every text loses to the one that is a text's own: the point of it, and why it stays apart."""
    similarity = [[0.9, 0.8], [0.95, 0.1]]
    assert ranks(similarity, [1, 0]).tolist() == [2, 1]
    assert ranks(dual_softmax(similarity), [1, 0]).tolist() == [1, 1]


def test_dual_softmax_keeps_finite_and_keeps_order_below_zero() -> None:
    similarity = np.array([[0.9, -0.9, -0.8], [-0.9, -0.8, -0.9], [-1, 1, -1]])
    found = dual_softmax(similarity, 500)
    assert np.isfinite(found).all()
    # within a column the weight grows with the similarity, so the order must not change, whatever the sign
    assert np.array_equal(np.argsort(found, 0), np.argsort(similarity, 0))


@pytest.mark.parametrize(
    ("similarity", "more", "said"),
    [
        ([[1, NAN]], {}, r"finite, .*\(1, 2\)"),
        ([1, 2], {}, r"must be \(T, V\) .* got \(2,\)"),
        ([[1, 2]], {"scale": 0}, "scale positive .* 0 and"),
        ([[1, 2]], {"over": "frames"}, "over 'texts' or 'videos', .* 'frames'"),
    ],
)
def test_dual_softmax_bad_input(similarity: Any, more: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        dual_softmax(similarity, **more)


def test_dual_softmax_of_nothing() -> None:
    assert dual_softmax(np.zeros((0, 3))).shape == (0, 3)
