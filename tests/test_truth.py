"""Ground truth: from a data set's rows to the store's table, and heads held against it."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from synthetic import World

from lab.convert.hdf5_in import import_exported
from lab.convert.hdf5_out import export_store
from lab.convert.pack import pack_store
from lab.datasets import Caption, Collection, Video
from lab.datasets.assemble import assemble
from lab.store import open_store
from lab.store.compare import compare
from lab.store.verify import problems
from lab.store.writer import create_store

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
    rows[4]["start_s"], rows[4]["end_s"] = "0", 1
    rows[5]["needs_sound"] = "yes"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    wanted = "captions.ndjson: 4 captions break 0 <= start_s < end_s, or needs_sound is neither true nor false"
    assert tables(copy) == [wanted]
