"""Names, captions and ticks in the room that figures have for them: nothing leaves the paper or covers another."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable

import numpy as np
import pytest
from matplotlib.figure import Figure
from pictured import jpeg, leaving, texts_of

from lab.figures import (
    clips,
    diversity,
    dots,
    failures,
    heads,
    marks,
    published,
    room,
    rows,
    space,
    strips,
    style,
    sweeps,
    trials,
    truth,
    words,
)
from lab.significance import Interval

#: As runs, studies and one's own code give them.
LABELS = (
    "mean",
    "xpool xpool-toy-2026-01-01T00-00-00-s0 some-study-with-a-long-name",
    "xpool xpool-toy-2026-01-01T00-00-00-s1 some-study-with-a-long-name",
    "my_very_long_module_name:MyVeryLongHeadName",
    "package.module.sub_module_name:AttentionOverFramesAndWordsWithGates",
    "cmfi my_very_long_module_name:MyVeryLongHeadName-s1",
)
#: A study's rows: 45 signs, which differ in the last one.
ROWS = tuple(f"mean: a row of a study whose name has 45 sign{number}" for number in range(5))
#: A paragraph, a script that the type lacks, a word without end, one from right to left, and what looks like a formula.
CAPTIONS = (
    "a dog barks in the dark while it rains and " * 9,
    "日本語の字幕" * 40,
    "W" * 700,
    "كلب ينبح في الظلام",
    "cost $x_1^2$ {a} 100 % \\frac_{z $",
)
METRICS = ("R@1", "R@5", "R@10")
RNG = np.random.default_rng(0)
PICTURES = [jpeg(i) for i in range(12)]
TIMES = np.arange(12) / 3


def near(value: float, metric: str = "R@1") -> Interval:
    return Interval(metric, value, value - 8, min(100, value + 8), 0.95, 10, 5)


def every(value: float) -> dict[str, Interval]:
    return {metric: near(value, metric) for metric in METRICS}


def dense(setting: str, values: list[float], log: bool = False) -> trials.Tried:
    return trials.Tried(setting, values, [60 + i % 7 for i in range(len(values))], None, log, "cmfi", len(values) < 9)


PAPER = dict.fromkeys(METRICS, 50.0)
CROWDED: dict[str, Callable[[], Figure]] = {
    "heads": lambda: dots.row_dots([dots.Row(label, label, {"val": every(97)}) for label in LABELS], "source"),
    "ranks": lambda: heads.rank_against_rank(
        np.ones(4), dict.fromkeys(LABELS[1:4], np.array([1, 2, 3, 2])), LABELS[5], 3, "source"
    ),
    "attention": lambda: truth.attention_dots({label: Interval("", 0.97, 0.9, 1, 0.95, 9, 5) for label in LABELS}, 0.4),
    "sound": lambda: truth.sound_dots({label: dict.fromkeys(style.SOUND, near(20)) for label in LABELS}),
    "rows": lambda: dots.row_dots(
        [
            dots.Row(name, "mean", {"test": every(97), "validation": every(40)}, METRICS, ("s-f",), PAPER)
            for name in ROWS
        ],
        parts=rows.PARTS,
    ),
    "published": lambda: published.method_dots(
        [published.Method(f"{name} (a-study)", "frozen features, this lab", every(40), "mean") for name in ROWS]
    ),
    "importance": lambda: trials.importance_bars({"video_keywords.temperature_of_mine": 0.6, "lr": 0.4}, "#000000"),
    "history": lambda: trials.history_dots(
        [trials.Trial(i, "pruned" if i % 9 == 8 else "complete", 60 + i % 13, {}) for i in range(200)],
        "gm(R@1,5,10)", "#000000", flat=(ROWS[0], 59.2, "mean"),
    ),
    "tried": lambda: trials.tried_panels(
        [
            dense("fusion_weight", [0.0125, 0.025, 0.05, 0.1, 0.2, 0.5, 1], log=True),
            dense("lr", [0.00006, 0.00012, 0.0003]),
            dense("a_setting_of_ones_own_with_a_long_name", [25, 64, 128, 256, 512, 1024, 33, 47, 90]),
        ],
        "R@1",
    ),
    "choices": lambda: trials.tried_panels(
        [trials.Tried("kind", ["a_choice_of_many_letters", "segments", "clip"], [1, 2, 3])] * 3, "R@1"
    ),
    "diversity": lambda: diversity.diversity_curves(
        range(11), {name: np.full((11, 2), 50.0 + i) for i, name in enumerate(ROWS)}, dict.fromkeys(ROWS, "topk")
    ),
    "misses": lambda: failures.missed(
        [failures.Miss(text, "v" * 300, 9.0, PICTURES, text, []) for text in CAPTIONS], "mean", "source"
    ),
    "by_length": lambda: dots.grouped(
        {
            name: {f"{n}00.5–{n}99.5\n10,000 captions": dict.fromkeys(LABELS, near(40)) for n in range(3)}
            for name in ("words of the caption", "seconds of its video")
        }
    ),
    "level": lambda: sweeps.recall_curve([1, 2, 4], {"topk": [Interval("R@1", 100, 100, 100, 0.95, 9, 5)] * 3}, "k"),
    "words": lambda: words.word_map(
        CAPTIONS[0].split(), TIMES, RNG.random((90, 12)), np.ones(90) / 90, pictures=PICTURES,
        meaning=f"attention ({LABELS[4]})", caption=CAPTIONS[2],
    ),
    "strips": lambda: strips.strips(
        [strips.Strip(PICTURES, TIMES, [strips.Reading(text, dict.fromkeys(LABELS, TIMES)) for text in CAPTIONS])]
    ),
    "clips": lambda: clips.sheet([clips.Row(PICTURES, [(text, [True] * 12, True) for text in CAPTIONS])]),
    "space": lambda: space.joint_map(
        RNG.normal(size=(9, 2)), RNG.normal(size=(9, 2)), (0.2, 0.1),
        [space.Picked(np.array([0]), np.array([1]), "v", text, PICTURES) for text in CAPTIONS],
    ),
}  # fmt: skip


@pytest.fixture(scope="module", params=CROWDED)
def crowded(request: pytest.FixtureRequest) -> Figure:
    return CROWDED[request.param]()


@pytest.mark.filterwarnings("ignore:Glyph .* missing from font")
def test_long_names_and_captions_stay_on_the_paper_and_apart(crowded: Figure) -> None:
    shown = list(texts_of(crowded))  # a layout that finds no room warns, and a warning is an error here
    assert not leaving(crowded, shown)
    assert crowded.get_size_inches()[1] < 11.7  # A4, the smallest of the papers that people print on
    boxes = [(text.get_text(), text.get_window_extent()) for text in shown]
    for (one, first), (other, second) in itertools.combinations(boxes, 2):
        wide = min(first.x1, second.x1) - max(first.x0, second.x0)
        high = min(first.y1, second.y1) - max(first.y0, second.y0)
        assert wide < 2 or high < 4, f"'{one}' and '{other}'"
    for axes in crowded.axes:
        if axes.axison and axes.get_xlabel():
            assert axes.get_position().width * crowded.get_size_inches()[0] > 0.8, axes.get_xlabel()


def test_no_percentage_is_beyond_a_hundred() -> None:
    axes = CROWDED["level"]().axes[0]
    assert axes.get_ylim()[1] < 101
    assert axes.get_ylim()[0] < 96
    for panel in CROWDED["heads"]().axes:
        assert 100 < panel.get_xlim()[1] < 102
    assert marks.within_percent(30, 60) == (30, 60)
    assert marks.within_percent(-3, 60)[0] == pytest.approx(-2.52)


def test_ranks_of_a_small_gallery_are_written_as_numbers() -> None:
    written = [text.get_text() for text in texts_of(CROWDED["ranks"]())]
    assert {"1", "2", "3"} <= set(written)
    assert not any("mathdefault" in text for text in written)


def test_a_baseline_has_the_colour_of_its_head_whatever_its_row_is_called() -> None:
    done = [trials.Trial(0, "complete", 60.0, {})]
    axes = trials.history_dots(done, "R@1", "#000000", flat=("mgfi, without sound", 50, "mgfi")).axes[0]
    flat = next(line for line in axes.lines if line.get_label().startswith("mgfi, without sound: 50.0"))
    assert flat.get_color() == style.colour("mgfi")


def test_rows_of_one_head_have_lines_that_differ() -> None:
    lines = CROWDED["diversity"]().axes[0].lines
    assert len({line.get_color() for line in lines}) == 1
    assert len({line.get_linestyle() for line in lines}) == len(diversity.LINES) == 4


def test_names_break_where_words_do_and_lose_no_more_than_they_must() -> None:
    assert room.names(["topk k=3", "mine:MyHead"], 1.0) == ["topk k=3", "MyHead"]
    assert room.names(["softmax t=0.01"], strips.BESIDE) == ["softmax t=0.01"]  # in one line
    assert room.names(["mine:MyHead", "other:MyHead"], 2.0) == ["mine:MyHead", "other:MyHead"]
    assert room.names(["mean: all of it"], 2.0) == ["mean: all of it"]
    assert room.broken("video_keywords.temperature", 1.0) == "video_keywords.\ntemperature"
    assert room.broken("MyVeryLongHeadName", 0.8) == "MyVeryLong\nHeadName"
    short = room.names(LABELS, 1.05)
    assert len(set(short)) == len(LABELS)
    assert all(room.inches(line) <= 1.05 for name in short for line in name.split("\n"))
    assert len(set(room.names(ROWS, 1.0, 1))) == len(ROWS)
    twice = [
        f"my_experiments/xpool-with-a-projection/{size}/warm-up-of-a-third-of-all-steps/{turn}"
        for size in ("small", "large")
        for turn in ("first", "second")
    ]
    for width in (1.05, 1.7):
        numbered = room.names(twice, width)
        assert len(set(numbered)) == len(twice)
        assert all(room.inches(line) <= width for name in numbered for line in name.split("\n"))
    assert room.cut("a  b\nc", 9) == "a b c"
    assert room.cut("W" * 9000, 1).endswith("W…")
    assert room.cut("", 1) == ""


def test_legends_have_as_many_columns_as_fit() -> None:
    assert room.columns(["a", "b", "c"], 3.2) == 3
    assert room.columns(ROWS[:3], 3.2) == 1
    assert room.columns(ROWS[:3], 30) == 3
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert room.inches("日") > 0  # the type lacks it, which is no warning
