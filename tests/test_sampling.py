"""Sampling rules against the indices that the papers' own code yields, written out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from lab.errors import LabError
from lab.sampling import RULES, Sampling, parse_sampling

XPOOL = {
    300: [12, 37, 62, 87, 112, 137, 162, 187, 212, 237, 262, 287],
    250: [9, 30, 51, 72, 93, 114, 134, 155, 176, 197, 218, 239],
    100: [3, 11, 20, 28, 36, 45, 53, 61, 70, 78, 86, 95],
    25: [0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 23],
    13: [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11],
    12: [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11],
    899: list(range(36, 862, 75)),
}


@pytest.mark.parametrize(("count", "expected"), XPOOL.items())
def test_midpoints_are_xpools(count, expected):
    assert parse_sampling("midpoints-12").indices(count).tolist() == expected
    assert parse_sampling("xpool-12").indices(count).tolist() == expected


def test_a_short_video_gives_each_frame_once_or_its_last_again():
    assert parse_sampling("midpoints-12").indices(5).tolist() == [0, 1, 2, 3, 4]
    assert parse_sampling("xpool-12").indices(5).tolist() == [0, 1, 2, 3, 4, *[4] * 7]
    assert parse_sampling("midpoints-12").indices(1).tolist() == [0]


@pytest.mark.parametrize(
    ("count", "fps", "expected"),
    [
        (900, 30.0, [0, 60, 150, 210, 300, 390, 450, 540, 630, 690, 780, 870]),
        (300, 30.0, list(range(0, 300, 30))),
        (300, 29.97, list(range(0, 300, 29))),  # truncated, not rounded
        (5, 0.5, [0, 1, 2, 3, 4]),  # theirs divides by zero here
        (5, float("nan"), [0, 1, 2, 3, 4]),
    ],
)
def test_fps1_is_clip4clips(count, fps, expected):
    assert parse_sampling("fps1-12").indices(count, fps).tolist() == expected


def test_uniform_keeps_both_ends_and_repeats_in_a_short_video():
    assert parse_sampling("uniform-4").indices(10).tolist() == [0, 3, 6, 9]
    assert parse_sampling("uniform-4").indices(2).tolist() == [0, 0, 0, 1]


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("count", [1, 2, 7, 11, 12, 13, 64, 65, 997])
@pytest.mark.parametrize("n", [1, 12, 30])
def test_every_rule_gives_ascending_indices_of_frames_that_exist(rule, count, n):
    indices = Sampling(rule, n).indices(count, 24.0)
    assert indices.dtype == np.int64
    assert 1 <= len(indices) <= n
    assert (np.diff(indices) >= 0).all()
    assert indices[0] >= 0
    assert indices[-1] < count


def test_a_name_is_read_and_written_alike():
    assert parse_sampling("midpoints-30") == Sampling("midpoints", 30)
    assert parse_sampling(Sampling("fps1", 64).name) == Sampling("fps1", 64)
    assert parse_sampling("midpoints-30-31s") == Sampling("midpoints", 30, 31)
    assert parse_sampling(Sampling("fps1", 64, 7).name) == Sampling("fps1", 64, 7)
    assert parse_sampling(" uniform-512-1s\n") == Sampling("uniform", 512, 1)


@pytest.mark.parametrize("rule", sorted(RULES))
def test_with_seconds_it_is_the_rule_on_the_frames_within_them(rule):
    """Frame i of 29.97 a second is shown at i / 29.97 s: the last one before 31 s is number 929."""
    assert Sampling(rule, 30, 31).indices(5400, 29.97).tolist() == Sampling(rule, 30).indices(930, 29.97).tolist()
    assert Sampling(rule, 30, 31).indices(500, 29.97).tolist() == Sampling(rule, 30).indices(500, 29.97).tolist()
    assert Sampling(rule, 3, 31).indices(40, float("nan")).tolist() == Sampling(rule, 3).indices(40, 0.0).tolist()


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("midpoint-12", "unknown sampling rule 'midpoint': did you mean 'midpoints'?"),
        ("midpoints", "a sampling rule is RULE-FRAMES or RULE-FRAMES-SECONDSs, as in midpoints-12 or"),
        ("midpoints-12-0s", "a sampling rule's seconds must be at least 1, got 'midpoints-12-0s'"),
        ("midpoints-12-31", "a sampling rule is RULE-FRAMES"),
        ("midpoints-0", "`1 <= frames <= 512` must hold in a sampling rule, got 'midpoints-0'"),
        ("uniform-100000", "`1 <= frames <= 512` must hold"),
        ("", "a sampling rule is RULE-FRAMES"),
    ],
)
def test_what_is_wrong_with_a_name_is_said(name, said):
    with pytest.raises(LabError) as error:
        parse_sampling(name)
    assert str(error.value).startswith(said)


def test_no_frames_is_a_mistake_of_the_caller():
    with pytest.raises(ValueError, match=r"`count >= 1` must hold"):
        Sampling("midpoints", 12).indices(0)
