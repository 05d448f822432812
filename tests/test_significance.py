"""The bootstrap against every resample there is, and against worlds whose truth is known."""

from __future__ import annotations

import itertools
from collections import Counter
from typing import Any

import numpy as np
import pytest

from lab import significance
from lab.metrics import geometric_mean, ranks, summarise, v2t_ranks
from lab.significance import GEOMETRIC_MEAN, bootstrap_interval, holm, mean_interval, paired_test

#: Five videos with 1 to 4 captions each, and the ranks that two heads give these.
VIDEO = np.array([7, 3, 3, 9, 9, 9, 4, 4, 4, 4, 5, 5])
FIRST = np.array([1, 2, 1, 6, 1.5, 1, 12, 3, 1, 2, 60, 1])
SECOND = np.array([2, 2, 1, 9, 30, 4, 11, 3, 2, 7, 60, 1])
METRICS = ["R@1", "R@5", "MdR", "MnR", "MRR", "nDCG@10", GEOMETRIC_MEAN]


def value(rank: Any, metric: str) -> float:
    found = summarise(np.asarray(rank, float))
    return geometric_mean(found) if metric == GEOMETRIC_MEAN else found[metric]


def every(rank: Any, metric: str) -> np.ndarray[Any, Any]:
    """The metric of all 5^5 resamples of the videos; each kind of them is written out query by query."""
    own = [rank[np.equal(VIDEO, video)] for video in np.unique(VIDEO)]
    kinds = Counter(tuple(sorted(drawn)) for drawn in itertools.product(range(5), repeat=5))
    values = [value(np.concatenate([own[video] for video in kind]), metric) for kind in kinds]
    return np.repeat(values, list(kinds.values()))


@pytest.mark.parametrize("metric", METRICS)
def test_against_every_resample(metric: str) -> None:
    all_first, all_second = every(FIRST, metric), every(SECOND, metric)
    found = bootstrap_interval(FIRST, VIDEO, metric, level=0.8, resamples=20_000)
    assert found.value == pytest.approx(value(FIRST, metric))
    assert (found.queries, found.videos) == (12, 5)
    for share, bound in ((0.1, found.low), (0.9, found.high)):  # that very share lies below it, up to chance
        assert (all_first < bound - 1e-9).mean() - 0.01 <= share <= (all_first <= bound + 1e-9).mean() + 0.01
    test = paired_test(FIRST, SECOND, VIDEO, metric, level=0.8, resamples=20_000)
    difference, differences = value(FIRST, metric) - value(SECOND, metric), all_first - all_second
    assert test.difference == pytest.approx(difference)
    assert (test.first, test.second) == pytest.approx((value(FIRST, metric), value(SECOND, metric)))
    away = np.abs(differences - difference)
    assert test.p_value == pytest.approx((away >= abs(difference) - 1e-9).mean(), abs=0.01)
    assert (differences < test.lower_bound - 1e-9).mean() - 0.01 <= 0.2
    assert (differences <= test.lower_bound + 1e-9).mean() + 0.01 >= 0.2
    assert (away <= test.high - difference + 1e-9).mean() + 0.01 >= 0.8
    assert test.high - test.difference == pytest.approx(test.difference - test.low)


def test_two_videos_by_hand() -> None:
    """One found, one not. Drawn with replacement: both found ¼, one of them ½, none ¼."""
    found = bootstrap_interval([1, 5], [0, 1])
    assert (found.value, found.low, found.high) == (50, 0, 100)
    test = paired_test([1, 5], [2, 5], [0, 1])
    assert (test.first, test.second, test.difference, test.lower_bound) == (50, 0, 50, 0)
    assert (test.low, test.high) == (0, 100)
    assert test.p_value == pytest.approx(0.5, abs=0.02)


def test_the_mean_of_anything() -> None:
    hits = np.where(FIRST <= 1, 100.0, 0.0)
    recall, mean = bootstrap_interval(FIRST, VIDEO), mean_interval(hits, VIDEO)
    assert (mean.value, mean.low, mean.high) == (recall.value, recall.low, recall.high)
    shifted = mean_interval(-0.5 - hits, VIDEO, where=np.array(VIDEO != 4))  # below zero, where a rank cannot be
    assert shifted.value == pytest.approx(-0.5 - hits[VIDEO != 4].mean())
    assert shifted.videos == 4
    with pytest.raises(ValueError, match="values must be finite, 1 are not"):
        mean_interval([float("nan"), 1], [0, 1])


def test_any_cutoff() -> None:
    assert bootstrap_interval([1, 7, 8, 9], [0, 1, 2, 3], "R@7").value == 50


def test_a_head_does_not_differ_from_itself() -> None:
    test = paired_test(FIRST, FIRST, VIDEO)
    assert (test.difference, test.low, test.high, test.lower_bound, test.p_value) == (0, 0, 0, 0, 1)


def test_the_order_of_heads_is_the_sign() -> None:
    one, other = paired_test(FIRST, SECOND, VIDEO, "MRR"), paired_test(SECOND, FIRST, VIDEO, "MRR")
    assert one.p_value == other.p_value
    assert (one.difference, one.low, one.high) == pytest.approx((-other.difference, -other.high, -other.low))


def test_the_same_seed_gives_the_same_and_another_does_not() -> None:
    rng = np.random.default_rng(0)
    rank, video = rng.integers(1, 50, 400), rng.integers(0, 80, 400)
    one, same, other = (bootstrap_interval(rank, video, "MnR", resamples=500, seed=seed) for seed in (0, 0, 1))
    assert one == same != other
    assert (one.low, one.high) == pytest.approx((other.low, other.high), abs=1)


def test_the_order_and_names_of_videos_and_queries_do_not_matter() -> None:
    order = np.random.default_rng(1).permutation(12)
    one = paired_test(FIRST, SECOND, VIDEO, resamples=500)
    assert paired_test(FIRST[order], SECOND[order], VIDEO[order], resamples=500) == one
    assert paired_test(FIRST, SECOND, VIDEO * 1000 - 5, resamples=500) == one


def test_blocks_are_only_for_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """The numbers that are drawn in many blocks are not those of one, but tell the same."""
    rng = np.random.default_rng(2)
    rank, video = rng.integers(1, 50, 90), rng.integers(0, 30, 90)
    for metric in ("R@5", "MdR"):
        whole = bootstrap_interval(rank, video, metric, resamples=3000)
        monkeypatch.setattr(significance, "BLOCK", 90 * 7)
        blocks = bootstrap_interval(rank, video, metric, resamples=3000)
        monkeypatch.undo()
        assert (blocks.low, blocks.high) == pytest.approx((whole.low, whole.high), abs=3)


def test_a_subset_is_what_is_left_when_the_rest_is_cut_off() -> None:
    where = np.array([0, 1, 1, 1, 0, 1, 0, 0, 0, 0, 1, 1], bool)
    found = paired_test(FIRST, SECOND, VIDEO, "MnR", where=where, resamples=500)
    assert found == paired_test(FIRST[where], SECOND[where], VIDEO[where], "MnR", resamples=500)
    assert (found.queries, found.videos) == (6, 3)  # two videos have no such query, and are not drawn


def test_seeds_are_averaged() -> None:
    runs = np.stack([FIRST, SECOND])
    for metric in METRICS:
        wanted = (value(FIRST, metric) + value(SECOND, metric)) / 2
        assert bootstrap_interval(runs, VIDEO, metric, resamples=100).value == pytest.approx(wanted)
        twice = bootstrap_interval([FIRST, FIRST], VIDEO, metric, resamples=100)
        once = bootstrap_interval(FIRST, VIDEO, metric, resamples=100)
        assert (twice.value, twice.low, twice.high) == pytest.approx((once.value, once.low, once.high))
    test = paired_test(runs, SECOND, VIDEO, "MRR", resamples=100)
    assert test.difference == pytest.approx((value(FIRST, "MRR") - value(SECOND, "MRR")) / 2)


def test_zero_is_left_out_where_p_says_so() -> None:
    rng = np.random.default_rng(3)
    seen = set()
    for lift in np.linspace(0, 0.3, 40):
        one, other = rng.integers(1, 4, 120), rng.integers(1, 4, 120)
        one = np.where(rng.random(120) < lift, 1, one)
        test = paired_test(one, other, np.arange(120) // 2, resamples=399)
        assert (test.p_value < 0.05) == (not test.low <= 0 <= test.high)
        seen.add(test.p_value < 0.05)
    assert seen == {True, False}


@pytest.mark.parametrize("resamples", [20, 30, 39, 41])
def test_of_few_resamples_too_zero_is_left_out_where_p_says_so(resamples: int) -> None:
    """Where one resample more or less decides. Recalls of 32 queries are exact in binary, so ties are ties."""
    rng = np.random.default_rng(9)
    seen = set()
    for i in range(150):
        one, other = rng.integers(1, 3, (2, 32))
        other = np.where(rng.random(32) < 0.5, other, one)
        test = paired_test(np.where(rng.random(32) < 0.2, 1, one), other, np.arange(32), resamples=resamples, seed=i)
        assert (test.p_value < 0.05) == (not test.low <= 0 <= test.high)
        seen.add(round(test.p_value * (1 + resamples)))
    assert {1, 2, 3} <= seen


def test_as_many_resamples_are_drawn_as_were_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """All of them lie as far off as a difference of zero does; a last block that were too large would make p > 1."""
    for block in (1, 12 * 7, 12 * 50, 12 * 1000):
        monkeypatch.setattr(significance, "BLOCK", block)
        assert paired_test(FIRST, FIRST, VIDEO, resamples=100).p_value == 1


def test_pairing_sees_what_two_intervals_do_not() -> None:
    """The second head loses 8 of the first one's 100 hits and wins nothing: clear, though the intervals overlap."""
    rng = np.random.default_rng(4)
    first = rng.permutation(np.repeat([1, 3], 100))
    second = first.copy()
    second[np.flatnonzero(first == 1)[:8]] = 2
    one, other = (bootstrap_interval(rank, np.arange(200)) for rank in (first, second))
    assert other.high > one.low
    test = paired_test(first, second, np.arange(200))
    assert test.difference == 4
    assert test.p_value < 0.01
    assert 0 < test.low < test.lower_bound < 4


def test_ranks_of_both_directions_go_in_as_they_come() -> None:
    rng = np.random.default_rng(5)
    similarity, target = rng.standard_normal((60, 20)), np.repeat(np.arange(20), 3)
    assert bootstrap_interval(ranks(similarity, target), target, resamples=100).videos == 20
    found = bootstrap_interval(v2t_ranks(similarity, target), np.unique(target), resamples=100)
    assert (found.queries, found.videos) == (20, 20)


# -- worlds whose truth is known ---------------------------------------------------------------------------------------


def world(rng: np.random.Generator, videos: int, captions: int = 5) -> tuple[np.ndarray[Any, Any], ...]:
    """Ranks of two equally good heads: whether a caption is found depends on its video, and half are found."""
    easy = rng.beta(0.5, 0.5, videos)
    hits = rng.random((2, videos, captions)) < easy[:, None]
    one, other = np.where(hits, 1, 2).reshape(2, -1)
    return one, other, np.repeat(np.arange(videos), captions)


def test_intervals_cover_the_truth_as_often_as_they_say() -> None:
    """Resampling captions instead, as if they were independent, covers far too seldom: the reason for all this."""
    rng = np.random.default_rng(6)
    by_video, by_caption = [], []
    for i in range(250):
        one, _, video = world(rng, 50)
        found = bootstrap_interval(one, video, resamples=300, seed=i)
        by_video.append(found.low <= 50 <= found.high)
        if i < 60:
            found = bootstrap_interval(one, np.arange(len(video)), resamples=300, seed=i)
            by_caption.append(found.low <= 50 <= found.high)
    assert 0.91 <= np.mean(by_video) <= 0.98
    assert np.mean(by_caption) < 0.8


def test_the_paired_test_errs_as_often_as_it_says() -> None:
    """Two heads alike are told apart in 5 % of worlds at p < 0.05; their lower bound lies above zero in 5 %, too."""
    rng = np.random.default_rng(7)
    tests = []
    for i in range(250):
        one, other, video = world(rng, 50)
        tests.append(paired_test(one, other, video, resamples=300, seed=i))
    assert 0.02 <= np.mean([test.p_value < 0.05 for test in tests]) <= 0.08
    assert 0.02 <= np.mean([test.lower_bound > 0 for test in tests]) <= 0.08


def test_the_paired_test_finds_what_is_there() -> None:
    rng = np.random.default_rng(8)
    found = 0
    for i in range(40):
        one, other, video = world(rng, 150)
        better = np.where(rng.random(len(one)) < 0.2, 1, one)  # ten points of R@1
        found += paired_test(better, other, video, resamples=400, seed=i).p_value < 0.05
    assert found >= 36


# -- many comparisons --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("p_values", "adjusted"),
    [
        ([], []),
        ([0.03], [0.03]),
        ([0.01, 0.04, 0.03, 0.005], [0.03, 0.06, 0.06, 0.02]),  # 4 · 0.005, 3 · 0.01, 2 · 0.03, and no less than that
        ([0.02, 0.02, 0.02], [0.06, 0.06, 0.06]),
        ([0.4, 0.6, 0.01], [0.8, 0.8, 0.03]),
        ([0.9, 0.7], [1.0, 1.0]),
    ],
)
def test_holm_by_hand(p_values: list[float], adjusted: list[float]) -> None:
    assert holm(p_values) == pytest.approx(adjusted)


def test_holm_finds_no_more_than_one_by_itself_and_no_less_than_bonferroni() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        p = rng.random(int(rng.integers(1, 9))) ** 3
        adjusted = np.array(holm(p.tolist()))
        assert (adjusted >= p).all()
        assert (adjusted <= np.minimum(1, len(p) * p) + 1e-12).all()
        assert (np.diff(adjusted[p.argsort()]) >= 0).all()


def test_holm_keeps_false_finds_rare_where_nothing_is_to_be_found() -> None:
    """Of 400 families of nine p-values without an effect; by themselves a third would have one below 0.05."""
    families = np.random.default_rng(1).random((400, 9))
    assert (families.min(1) < 0.05).mean() > 0.3
    assert np.mean([min(holm(family.tolist())) < 0.05 for family in families]) < 0.08


# -- bad input ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rank", "video", "more", "said"),
    [
        ([1, 2], [0], {}, r"video \(T,\), got \(2,\) and \(1,\)"),
        ([[[1]]], [0], {}, r"\(R, T\)"),
        ([0, 1], [0, 1], {}, "count from 1"),
        ([float("nan"), 1], [0, 1], {}, "finite"),
        ([float("inf"), 1], [0, 1], {}, "finite"),
        ([1, 2], [5, 5], {}, "at least two videos, got 1"),
        ([], [], {}, "at least two videos, got 0"),
        (np.zeros((0, 2)), [0, 1], {}, "resampling needs queries"),  # of no seed
        ([1, 2], [0, 1], {"where": [True, False]}, "at least two videos, got 1"),
        ([1, 2], [0, 1], {"where": [0, 1]}, "where must be bool of shape"),
        ([1, 2], [0, 1], {"where": [True]}, "where must be bool of shape"),
        ([1, 2], [0, 1], {"metric": "recall"}, "R@k, MnR, MRR or nDCG@10, got 'recall'"),
        ([1, 2], [0, 1], {"level": 1.0}, "0 < level < 1 .* got level=1.0"),
        ([1, 2], [0, 1], {"resamples": 19}, r"resamples >= 1 / \(1 - level\) .* resamples=19"),
    ],
)
def test_what_does_not_fit_is_an_error(rank: Any, video: Any, more: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        bootstrap_interval(rank, video, **more)
    with pytest.raises(ValueError, match=said):
        paired_test(rank, rank, video, **more)


def test_two_heads_must_have_the_same_queries() -> None:
    with pytest.raises(ValueError, match=r"got \(3,\) and \(2,\)"):
        paired_test([1, 2], [1, 2, 3], [0, 1])
