"""Where heads fail: the worst captions beside what was found instead, and R@1 by length."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from pictured import D, jpeg, leaving, make, texts_of

from lab.figures import NoData, failures
from lab.figures.material import Material
from lab.heads import build_head
from lab.store import open_store


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Material:
    store = open_store(make(tmp_path_factory.mktemp("made") / "made.zarr"))
    return Material(store, {"mean": build_head("mean", dim=D), "topk k=1": build_head("topk", dim=D, top_k=1)})


def told(figure: Figure) -> str:
    return "\n".join(text.get_text() for text in texts_of(figure))


def turned(material: Material, similarity: np.ndarray) -> Material:
    """The same split under heads whose similarities are given."""
    other = Material(material.store, {"mean": material.heads["mean"].head})
    other._similarities["mean"] = similarity.astype(np.float32)
    return other


def test_the_worst_captions_stand_beside_what_was_found(material: Material) -> None:
    target = material.target
    similarity = np.zeros((len(target), 10))
    similarity[np.arange(len(target)), target] = 1.0
    similarity[2:6, 7] = 3.0  # captions of two videos that another is found for
    similarity[4, [3, 8]] = 2.0
    figure = failures.misses(turned(material, similarity))
    ids = material.store.table("videos")["id"]
    own, other = (ids[int(material.video_rows[column])] for column in (target[4], 7))
    lines = told(figure).splitlines()
    assert f"its own video, {own}: rank 4" in lines
    assert lines.index(f"its own video, {own}: rank 4") < lines.index(
        f"its own video, {ids[int(material.video_rows[target[2]])]}: rank 2"
    )
    assert lines.count(f"found first: {other}") == 2  # one a video
    assert f"“{material.captions[4]['text']}”" in lines
    assert failures.BARS in " ".join(lines)
    assert len(figure.axes[0].images) == 4 * failures.SHOWN
    assert not leaving(figure, list(texts_of(figure)))


def test_a_split_without_a_miss_says_so(material: Material) -> None:
    perfect = np.eye(10)[material.target]
    with pytest.raises(NoData, match=r"mean finds every video of made\.zarr first"):
        failures.misses(turned(material, perfect))


def test_frames_of_any_shape_are_whole_and_long_captions_stay_on_the_paper() -> None:
    miss = failures.Miss("a word " * 99, "v" * 200, 9.0, [jpeg(1)] * 30, "w" * 200, [])
    figure = failures.missed([miss, miss], "mean")
    assert not leaving(figure, list(texts_of(figure)))
    assert len(figure.axes[0].images) == 2 * failures.SHOWN
    left, right, low, high = figure.axes[0].images[0].get_extent()
    assert (right - left) / (high - low) == pytest.approx(16 / 12)


def test_lengths_in_thirds_keep_what_is_alike_together() -> None:
    found = failures.thirds(np.array([3, 3, 3, 3, 5, 9, 9, np.nan, 12.0]))
    assert {name: where.nonzero()[0].tolist() for name, where in found.items()} == {
        "3": [0, 1, 2, 3],
        "5–9": [4, 5, 6],
        "12": [8],
    }
    assert list(failures.thirds(np.array([1.25, 2.0, 3.0]))) == ["1.2", "2.0", "3.0"]
    assert list(failures.thirds(np.full(4, 7.0))) == ["7"]
    assert failures.thirds(np.full(4, np.nan)) == {}


def test_recall_by_length_is_that_of_the_group(material: Material) -> None:
    figure = failures.by_length(material)
    assert [axes.get_xlabel() for axes in figure.axes] == ["seconds of its video"]  # captions have four words each
    axes = figure.axes[0]
    seconds = material.store.read("duration_s")[material.video_rows][material.target]
    for label in material.heads:
        line = next(line for line in axes.lines if line.get_label() == label)
        groups = [100 * np.mean(material.ranks(label)[seconds == length] == 1) for length in (3.0, 4.0)]
        np.testing.assert_allclose(line.get_ydata(), groups)
    assert "3\n10 captions" in told(figure)


def test_captions_and_videos_of_one_length_are_no_figure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = open_store(make(tmp_path / "made.zarr", pictures=False))
    same = Material(store, {"mean": build_head("mean", dim=D)})
    with pytest.raises(NoData, match="has thumbnails"):
        failures.misses(turned(same, np.tile(np.arange(10.0), (len(same.target), 1))))
    monkeypatch.setattr(type(store), "read", lambda *_: np.full(99, 3.0, np.float32))
    with pytest.raises(NoData, match="all of about one length"):
        failures.by_length(same)
