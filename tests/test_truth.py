"""Ground truth: from a data set's rows to the store's table, and heads held against it."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from synthetic import World
from torch import Tensor, nn

from lab import cli, truth
from lab.convert.hdf5_in import import_exported
from lab.convert.hdf5_out import export_store
from lab.convert.pack import pack_store
from lab.datasets import Caption, Collection, Video
from lab.datasets.assemble import assemble
from lab.embeddings import Texts, Videos
from lab.errors import LabError
from lab.evaluate import main as evaluate
from lab.heads import build_head
from lab.heads.pooling import MeanPooling
from lab.metrics import ranks
from lab.store import Store, open_store
from lab.store.compare import compare
from lab.store.create import create_store
from lab.store.verify import problems
from lab.store.writer import FrameRow, StoreWriter
from lab.truth import against_truth, own_frame_weights, told_frames, truth_table

#: start_s, end_s and needs_sound of the first captions; the rest know nothing.
TOLD: dict[int, tuple[tuple[float, float] | None, bool | None]] = {
    0: ((0.0, 1.25), True),
    1: ((0.3, 0.7), False),
    2: (None, True),
    3: ((2.5, 3.0), None),
}
NOTHING = {"start_s": None, "end_s": None, "needs_sound": None}


def knowing(world: World) -> World:
    """The synthetic world, with some ground truth."""
    captions = list(world.collection.captions)
    for row, (seconds, needs_sound) in TOLD.items():
        captions[row] = replace(captions[row], seconds=seconds, needs_sound=needs_sound)
    return replace(world, collection=replace(world.collection, captions=tuple(captions)))


@pytest.fixture(scope="module")
def told(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The full store again, of a data set that knows some truth; read only."""
    path = tmp_path_factory.mktemp("told") / "toy.zarr"
    made = knowing(world)
    made.fill(made.create(path))
    return path


def truth_of(row: dict[str, Any]) -> dict[str, Any]:
    return {name: row[name] for name in NOTHING}


# -- from rows to the table --------------------------------------------------------------------------------------------


def test_rows_with_and_without_truth_become_captions() -> None:
    splits = {"p": "test"}
    collection = assemble(
        "small", Path("/r"), videos={"a": splits}, files={}, protocols=("p",), expected={},
        captions={"a": [("one", splits), ("two", splits, (0.5, 2.0), True), (" ", splits, (1, 2), None)]},
    )  # fmt: skip
    assert collection.captions == (Caption(0, "one", splits), Caption(0, "two", splits, (0.5, 2.0), True))
    assert [caption.has_truth for caption in collection.captions] == [False, True]


@pytest.mark.parametrize("seconds", [(1.0, 1.0), (2.0, 1.0), (-0.5, 1.0), (float("nan"), 1.0), (0.0, float("inf"))])
def test_a_stretch_that_is_none_is_an_error(seconds: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match=r"0 <= start < end must hold of a caption's seconds, got .*: 'a dog'"):
        Caption(0, "a dog", {}, seconds)


def test_the_version_covers_truth_only_where_there_is_some() -> None:
    """The first number is what this collection had before captions could hold any truth: stores of then go on."""
    splits = {"p": "train"}
    captions = (Caption(0, "a dog barks", splits), Caption(0, "a dog", splits))
    bare = Collection("n", Path("/r"), (Video("a", None, splits),), captions, ("p",), ())
    assert bare.version == "8f1d134dd8af48e8d38b4e7a14b0ad0e13def3b1d95d2c6be5b3ac98cc1af921"
    changes = [
        (0, {"seconds": (0.0, 1.0)}),
        (1, {"seconds": (0.0, 1.0)}),
        (0, {"seconds": (0.0, 2.0)}),
        (0, {"needs_sound": False}),
        (0, {"needs_sound": True}),
    ]
    told = [
        replace(bare, captions=tuple(replace(c, **more) if i == row else c for i, c in enumerate(captions)))
        for row, more in changes
    ]
    assert len({bare.version, *(collection.version for collection in told)}) == 6


def test_the_table_has_truth_and_null_where_it_is_unknown(told: Path) -> None:
    store = open_store(told)
    rows = [truth_of(row) for row in store.captions[:5]]
    assert rows == [
        {"start_s": 0.0, "end_s": 1.25, "needs_sound": True},
        {"start_s": 0.3, "end_s": 0.7, "needs_sound": False},
        {"start_s": None, "end_s": None, "needs_sound": True},
        {"start_s": 2.5, "end_s": 3.0, "needs_sound": None},
        NOTHING,
    ]
    table = store.table("captions")
    assert table.columns == ["video", "text", "splits", "start_s", "end_s", "needs_sound"]
    assert [truth_of(row) for row in table.head(5).to_dicts()] == rows
    assert table["needs_sound"].null_count() == len(table) - 3


def test_a_store_that_knows_nothing_has_the_columns_too(full: Path) -> None:
    store = open_store(full)
    assert "start_s" not in (full / "tables" / "captions.ndjson").read_text(encoding="utf-8")  # as in stores of before
    assert all(truth_of(row) == NOTHING for row in store.captions)
    table = store.table("captions")
    assert [str(table.schema[name]) for name in NOTHING] == ["Float64", "Float64", "Boolean"]
    assert all(table[name].null_count() == len(table) for name in NOTHING)


def test_no_captions_at_all(tmp_path: Path) -> None:
    collection = Collection("tiny", tmp_path, (Video("a", None, {"p": "all"}),), (), ("p",), ())
    assert create_store(tmp_path / "t.zarr", collection, {}).table("captions").columns[-3:] == list(NOTHING)


def test_truth_is_in_no_feature(told: Path, full: Path) -> None:
    """Told or not, what a head is given is the same, and so are the passports but for the data set's section."""
    comparison = compare(open_store(told), open_store(full))
    assert comparison.fields == []
    assert comparison.identical == {"frames": True, "audio": True, "text": True}
    for split in ("train", "val", "test"):
        for one, other in zip(open_store(told).load(split), open_store(full).load(split), strict=True):
            assert vars(one).keys() == vars(other).keys()


def test_truth_survives_every_copy(told: Path, tmp_path: Path) -> None:
    store = open_store(told)
    copies = [
        pack_store(store, tmp_path / "packed.zarr", 64),
        import_exported(export_store(store, tmp_path / "a.h5"), tmp_path / "back.zarr")[0],
    ]
    for copy in copies:
        assert copy.captions == store.captions


def test_verify_takes_truth_and_names_what_is_none(told: Path, full: Path, tmp_path: Path) -> None:
    def tables(path: Path) -> list[str]:
        return [line for line in problems(open_store(path)) if line.startswith("captions.ndjson")]

    assert tables(told) == tables(full) == []
    copy = tmp_path / "copy.zarr"
    shutil.copytree(told, copy)
    file = copy / "tables" / "captions.ndjson"
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    rows[1]["end_s"] = 0.1
    del rows[3]["end_s"]
    rows[4]["start_s"], rows[4]["end_s"] = -1, 1
    rows[5]["needs_sound"] = 7
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    wanted = "captions.ndjson: 4 captions break 0 <= start_s < end_s, or needs_sound is neither true nor false"
    assert tables(copy) == [wanted]


# -- heads against it --------------------------------------------------------------------------------------------------

#: Frame times of three videos: four frames, two, and three.
TIMES = ([0, 0.25, 0.5, 0.75], [0.1, 0.7], [0, 1, 2])
#: video, seconds, needs_sound of each caption, and which frames are told.
CAPTIONS: tuple[tuple[int, tuple[float, float] | None, bool | None, list[int]], ...] = (
    (0, (0.25, 0.75), False, [1, 2]),  # a frame at the start is in, one at the end is out
    (0, (0.0, 1.0), True, [0, 1, 2, 3]),
    (0, None, True, []),
    (1, (0.7, 0.9), None, [1]),  # 0.7 is a little less in float32
    (1, (0.05, 0.7), False, [0]),
    (1, (0.2, 0.6), False, []),  # between two frames
    (2, (0.9, 9.0), True, [1, 2]),
)
D = 4


class Looking(nn.Module):
    """Weighs frames by what they hold in dim 0 (at most 1 in all), and scores by the rest."""

    def __init__(self) -> None:
        super().__init__()
        self.dim = D
        self.tiles: list[tuple[int, int]] = []

    def forward(self, texts: Texts, videos: Videos) -> Tensor:
        frames = videos.frames.masked_fill(~videos.frame_mask[..., None], 0.0)  # type: ignore[index]
        return texts.sentences[:, 1:] @ frames.sum(1)[:, 1:].T

    def frame_weights(self, texts: Texts, videos: Videos) -> Tensor:
        assert not self.training
        self.tiles.append((len(texts), len(videos)))
        weights = videos.frames[..., 0].masked_fill(~videos.frame_mask, 0.0)  # type: ignore[operator]
        return weights.expand(len(texts), -1, -1)


WEIGHTS = ([0.125, 0.25, 0.5, 0.125], [0.25, 0.75], [0.5, 0.25, 0.25])


def made(path: Path, **changes: Any) -> Store:
    """A store of three videos and seven captions. A caption's sentence points at its own video, but for two."""
    splits = {"p": "test"}
    videos = tuple(Video(f"v{i}", None, splits) for i in range(3))
    captions = tuple(Caption(video, f"c{i}", splits, *told) for i, (video, *told, _) in enumerate(CAPTIONS))
    captions = tuple(replace(caption, **changes) for caption in captions)
    create_store(path, Collection("made", path.parent, videos, captions, ("p",), ()), {})
    writer = StoreWriter(path)
    writer.add_frames({}, 4, D)
    rows = []
    for video, (times, weights) in enumerate(zip(TIMES, WEIGHTS, strict=True)):
        features = np.zeros((len(times), D), np.float32)
        features[:, 0], features[:, 1 + video] = weights, 1
        rows.append(FrameRow(features, np.array(times, np.float64), (), 3.0))
    writer.write_frames(0, rows)
    writer.add_text({}, D, [1] * len(captions), [0] * len(captions), [0] * len(captions))
    sentences = np.zeros((len(captions), D), np.float32)
    for row, caption in enumerate(captions):
        found = (caption.video + (row in (1, 4))) % 3  # captions 1 and 4 are taken for the next video's
        sentences[row, 1 + found] = 1
    writer.write_text(np.arange(len(captions)), sentences, np.zeros((len(captions), D), np.float32))
    return open_store(path)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return made(tmp_path_factory.mktemp("small") / "made.zarr")


def wanted_mass(weights: Any = WEIGHTS) -> NDArray[np.float64]:
    return np.array([sum(weights[video][f] for f in told) if s else np.nan for video, s, _, told in CAPTIONS])


EQUAL = [[1 / len(times)] * len(times) for times in TIMES]


def test_told_frames_by_hand(small: Store) -> None:
    inside, real = told_frames(small, *small.load("test"))
    assert [np.flatnonzero(row).tolist() for row in inside] == [told for *_, told in CAPTIONS]
    assert real.sum(1).tolist() == [4, 4, 4, 2, 2, 2, 3]


def test_mass_by_hand(small: Store) -> None:
    result = against_truth(Looking(), small, *small.load("test"))
    np.testing.assert_allclose(result.mass, wanted_mass())
    np.testing.assert_allclose(result.uniform, wanted_mass(EQUAL))
    assert result.needs_sound.tolist() == [0, 1, 1, -1, 0, 0, 1]
    assert result.telling.tolist() == [True, False, False, True, True, False, True]
    assert result.rows.tolist() == list(range(7))
    assert result.video.tolist() == [0, 0, 0, 1, 1, 1, 2]
    attention = result.attention()
    assert attention is not None
    assert attention["mass"].value == pytest.approx((0.75 + 0.75 + 0.25 + 0.5) / 4)
    assert attention["uniform"].value == pytest.approx((1 / 2 + 1 / 2 + 1 / 2 + 2 / 3) / 4)
    assert attention["lift"].value == pytest.approx(attention["mass"].value - attention["uniform"].value)
    assert (attention["lift"].queries, attention["lift"].videos) == (4, 3)


def test_recall_by_sound_by_hand(small: Store) -> None:
    """Captions 1 and 4 are lost; 1 needs the sound, as 2 and 6 do, and 4 does not, as 0 and 5 do not."""
    result = against_truth(Looking(), small, *small.load("test"))
    assert (np.flatnonzero(result.rank > 1)).tolist() == [1, 4]
    for needs, videos in ((True, 2), (False, 2)):
        recall = result.recall(needs)
        assert recall is not None
        assert (recall.value, recall.queries, recall.videos) == (pytest.approx(200 / 3), 3, videos)
    other = result.recall(True, "R@5")
    assert other is not None
    assert other.value == 100


def test_ranks_that_are_known_are_not_computed_again(small: Store) -> None:
    rank = np.array([1, 1, 3, 1, 1, 1, 1])
    result = against_truth(Looking(), small, *small.load("test"), rank)
    assert result.rank.tolist() == rank.tolist()
    recall = result.recall(True)
    assert recall is not None
    assert recall.value == pytest.approx(200 / 3)


def test_the_mean_attends_as_chance_does_and_a_head_that_looks_does_better(small: Store) -> None:
    texts, videos = small.load("test")
    mean = against_truth(build_head("mean", D), small, texts, videos)
    np.testing.assert_allclose(mean.mass, mean.uniform, atol=1e-6)
    assert mean.rank.tolist() == ranks(build_head("mean", D)(texts, videos).numpy(), texts.video.numpy()).tolist()  # type: ignore[union-attr]
    inside, _ = told_frames(small, texts, videos)

    class Oracle(Looking):
        def frame_weights(self, texts: Texts, videos: Videos) -> Tensor:
            told = torch.from_numpy(inside[texts.rows.numpy()] + 1e-9).float()  # type: ignore[union-attr]
            real = videos.frame_mask.float()  # type: ignore[union-attr]
            weights = told[:, None, :] * real
            return weights / weights.sum(-1, keepdim=True)

    oracle = against_truth(Oracle(), small, texts, videos)
    assert oracle.mass[oracle.telling] == pytest.approx(np.ones(4), abs=1e-6)


@pytest.mark.parametrize("tile", [1, 2, 3, 64])
def test_tiles_and_the_order_of_captions_do_not_matter(
    tile: int, small: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(truth, "TILE", tile)
    texts, videos = small.load("test")
    order = torch.tensor([6, 2, 4, 0, 5, 1, 3])
    result = against_truth(Looking(), small, texts.select(order), videos)
    np.testing.assert_allclose(result.mass, wanted_mass()[order.numpy()])
    assert result.rows.tolist() == order.tolist()
    head = Looking()
    own_frame_weights(head, texts.select(order), videos)
    assert max(seen for seen, _ in head.tiles) == min(tile, 7)
    assert max(shown for _, shown in head.tiles) <= min(tile, 3)  # its own videos, not the gallery


def test_a_gallery_in_another_order(small: Store) -> None:
    texts, videos = small.load("test")
    assert texts.video is not None
    moved = Texts(texts.sentences, None, None, (texts.video + 1) % 3, texts.rows)
    result = against_truth(Looking(), small, moved, videos.select(torch.tensor([2, 0, 1])))
    np.testing.assert_allclose(result.mass, wanted_mass())
    np.testing.assert_allclose(result.uniform, wanted_mass(EQUAL))


def test_the_head_is_left_as_it_was(small: Store) -> None:
    head = Looking().train()
    against_truth(head, small, *small.load("test"))
    assert head.training


@pytest.mark.parametrize("name", ["topk", "xpool"])
def test_real_heads(name: str, small: Store) -> None:
    texts, videos = small.load("test")
    head = build_head(name, D).eval()
    result = against_truth(head, small, texts, videos)
    inside, _ = told_frames(small, texts, videos)
    with torch.no_grad():
        weights = head.frame_weights(texts, videos)[torch.arange(7), texts.video].numpy()  # type: ignore[operator]
    known = np.isfinite(result.mass)
    np.testing.assert_allclose(result.mass[known], (weights * inside).sum(1)[known], atol=1e-6)


def test_a_head_without_weights_is_held_against_sound_alone(small: Store) -> None:
    class Blind(Looking):
        frame_weights = property()  # type: ignore[assignment]

    result = against_truth(Blind(), small, *small.load("test"))
    assert np.isnan(result.mass).all()
    assert result.attention() is None
    assert result.recall(True) is not None


def test_weights_that_are_none_are_an_error(small: Store) -> None:
    class Loud(Looking):
        def frame_weights(self, texts: Texts, videos: Videos) -> Tensor:
            weights = super().frame_weights(texts, videos)
            return weights * torch.where(torch.arange(len(videos)) == 1, 2.0, 1.0)[:, None]

    class Padded(Looking):
        def frame_weights(self, texts: Texts, videos: Videos) -> Tensor:
            weights = super().frame_weights(texts, videos).clone()
            weights[..., 0] -= 0.1
            weights[..., 3] += 0.1
            return weights

    class Nan(Looking):
        def frame_weights(self, texts: Texts, videos: Videos) -> Tensor:
            return super().frame_weights(texts, videos) * float("nan")

    for head, wrong in ((Loud(), 3), (Padded(), 4), (Nan(), 7)):
        with pytest.raises(LabError, match=rf"must sum to one over real frames, {wrong} of 7 .*see \w+\.frame_weights"):
            against_truth(head, small, *small.load("test"))


def test_a_store_without_truth_is_an_error(tmp_path: Path) -> None:
    store = made(tmp_path / "bare.zarr", seconds=None, needs_sound=None)
    with pytest.raises(LabError, match=r"bare\.zarr knows no truth of these 7 captions: only a made world does"):
        against_truth(Looking(), store, *store.load("test"))


def test_truth_of_sound_alone_and_of_seconds_alone(tmp_path: Path) -> None:
    sound = made(tmp_path / "sound.zarr", seconds=None)
    result = against_truth(Looking(), sound, *sound.load("test"))
    assert result.attention() is None
    assert result.recall(True) is not None
    assert np.isnan(result.uniform).all()
    seconds = made(tmp_path / "seconds.zarr", needs_sound=None)
    result = against_truth(Looking(), seconds, *seconds.load("test"))
    assert result.attention() is not None
    assert result.recall(True) is result.recall(False) is None


def test_features_without_times(tmp_path: Path) -> None:
    """As imported ones are."""
    store = made(tmp_path / "made.zarr")
    times = StoreWriter(store.path).group["frame_times_s"]
    times[:] = np.nan
    result = against_truth(Looking(), store, *store.load("test"))
    assert np.isnan(result.mass).all()
    assert np.isnan(result.uniform).all()
    assert result.recall(False) is not None


def test_the_table(small: Store) -> None:
    lines = truth_table(against_truth(Looking(), small, *small.load("test"))).splitlines()
    assert [line.split("  ")[0] for line in lines[1:]] == [
        "weight on the seconds that a caption tells of",
        "the same, were all frames alike",
        "the difference",
        "R@1, captions that need the sound",
        "R@1, captions that do not",
    ]
    assert [lines[row].split()[-6] for row in (1, 2, 4)] == ["0.562", "0.542", "66.7"]
    assert lines[1].split()[-2:] == ["4", "3"]


def test_an_evaluation_prints_it_where_it_is_known(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    known, unknown = made(tmp_path / "a.zarr"), made(tmp_path / "b.zarr", seconds=None, needs_sound=None)
    where = ["--runs", str(tmp_path)]
    assert cli.run(evaluate, ["mean", "--store", str(known.path), *where]) == 0
    out = capsys.readouterr().out
    assert truth_table(against_truth(build_head("mean", D), known, *known.load("test"))) in out
    assert cli.run(evaluate, ["mean", "--store", str(unknown.path), *where]) == 0
    assert "against the truth" not in capsys.readouterr().out
    monkeypatch.setattr(MeanPooling, "frame_weights", lambda *_: torch.zeros(7, 3, 4))
    assert cli.run(evaluate, ["mean", "--store", str(known.path), *where]) == 0
    out, err = capsys.readouterr()
    assert "t2v" in out
    assert "warning: rows of frame_weights must sum to one" in err
    assert "every query's rank" in err


def test_one_video_has_no_spread_to_tell_of(small: Store) -> None:
    result = against_truth(Looking(), small, *small.load("test"))
    lone = replace(result, video=np.zeros_like(result.video))
    assert lone.attention() is lone.recall(True) is lone.recall(False) is None
    assert truth_table(lone).splitlines()[-1].split()[-4:] == ["-", "-", "-", "-"]


def test_free_queries_are_a_programmers_error(small: Store) -> None:
    texts, videos = small.load("test")
    with pytest.raises(ValueError, match="must be those of a store"):
        against_truth(Looking(), small, Texts(texts.sentences), videos)
