"""The real lists, captions and clips, where a checkout has them beside it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from lab.datasets import get_dataset

DATA = Path(__file__).resolve().parents[1].parent / "shared" / "data"
pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason="the shared data is not here")


def test_msvd_holds_what_is_published() -> None:
    collection = get_dataset("msvd").read(DATA / "msvd")
    assert len(collection.version) == 64
    assert collection.splits("msvd") == {"train": (1200, 48774), "val": (100, 4290), "test": (670, 27763)}
    assert len(collection.captions) == 80827
    assert collection.notes == ()
    assert len(collection.missing) == 1965
    assert sorted(video.id for video in collection.videos if video.file) == [
        "3qqEKTPxLNs_1_15",
        "UXs3eq68ZjE_250_255",
        "WTf5EgVY5uU_124_128",
        "j2Dhf-xFUxU_13_20",
        "klteYv1Uv9A_27_33",
    ]
    rows = [0] * len(collection.videos)
    for caption in collection.captions:
        rows[caption.video] += 1
    assert (min(rows), max(rows)) == (18, 81)


def test_an_edited_caption_of_msvd_is_told_though_all_counts_are_right(tmp_path: Path) -> None:
    there = shutil.copytree(DATA / "msvd", tmp_path / "m", ignore=shutil.ignore_patterns("YouTubeClips"))
    file = there / "captions_msvd.json"
    file.chmod(0o644)
    file.write_text(file.read_text(encoding="utf-8").replace("a man", "a woman", 1), encoding="utf-8")
    (note,) = get_dataset("msvd").read(there).notes
    assert note.startswith("captions_msvd.json is not the published file (md5 ")


def test_msvd_is_the_same_elsewhere_and_without_its_clips(tmp_path: Path) -> None:
    there = shutil.copytree(DATA / "msvd", tmp_path / "m", ignore=shutil.ignore_patterns("YouTubeClips"))
    collection = get_dataset("msvd").read(there)
    assert len(collection.missing) == 1970
    assert collection.version == get_dataset("msvd").read(DATA / "msvd").version


def test_msrvtt_lists_without_captions() -> None:
    collection = get_dataset("msrvtt").read(DATA / "msrvtt")
    assert collection.splits("1k-A-9k") == {"train": (8503, 0), "val": (497, 0), "test": (1000, 1000)}
    assert collection.splits("1k-A-7k") == {"train": (6513, 0), "val": (497, 0), "test": (1000, 1000)}
    assert collection.splits("full") == {"train": (6513, 0), "val": (497, 0), "test": (2990, 0)}
    assert len(collection.videos) == 10000
    assert len(collection.missing) == 9999
    assert {video.id for video in collection.videos if video.file} == {"video7500"}
    assert len({caption.text for caption in collection.captions}) == 995
    val = [video.id for video in collection.videos if video.splits.get("1k-A-9k") == "val"]
    assert val == [f"video{number}" for number in range(6513, 7010)]
    assert not any("is not the published file" in note for note in collection.notes)
    assert any("MSRVTT_data.json is not below" in note for note in collection.notes)


def test_msrvtt_lists_hold_what_stands_in_for_them(tmp_path: Path) -> None:
    shutil.copy(DATA / "msrvtt" / "MSRVTT_JSFUSION_test.csv", tmp_path)
    derived = get_dataset("msrvtt").read(tmp_path)
    assert derived.version == get_dataset("msrvtt").read(DATA / "msrvtt").version


def test_a_folder_of_seven_clips() -> None:
    collection = get_dataset("folder").read(DATA / "clips")
    assert collection.splits("all") == {"all": (7, 14)}
    assert collection.missing == ()
    assert collection.notes == ()
    divided = get_dataset("folder").read(DATA / "clips", split="70/10/20")
    assert divided.splits("70/10/20-seed0") == {"train": (5, 10), "val": (1, 2), "test": (1, 2)}
