"""inspect: what it shows, what --verify finds, how two stores differ."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import worlds
import zarr

from lab import cli, open_store
from lab.cache import main as cache
from lab.inspect import main
from lab.store.compare import compare
from lab.store.verify import problems


@pytest.fixture(scope="module")
def features(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Stores of one folder of 9 videos: ``sound``, the same again with another rule (``uniform``)."""
    base = tmp_path_factory.mktemp("inspect")
    worlds.folder(base / "root", 9)
    (base / "root" / "clip003.mp4").write_bytes(b"")
    common = ["--dataset", "folder", "--root", str(base / "root"), *worlds.tiny_networks(base), "--features", str(base)]
    cli.run(cache, [*common, "--name", "sound"])
    cli.run(cache, [*common, "--name", "uniform", "--sampling", "uniform-12"])
    return base


@pytest.fixture
def store(features: Path, tmp_path: Path) -> Path:
    """A copy to spoil."""
    return Path(shutil.copytree(features / "sound.zarr", tmp_path / "store.zarr"))


def test_it_shows_what_there_is(features: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(main, [str(features / "sound.zarr"), "--verify"]) == 0
    out = capsys.readouterr().out
    for part in ("9 videos, 18 captions", "frames.sampling", "midpoints-12", "verified", "RANDOM WEIGHTS"):
        assert part in out
    assert out.count("clip003.mp4") == 1, "a broken file is told once, not once a modality"
    assert "clip003.mp4  frames+audio  empty: the file is empty (0 bytes)" in out
    told = " ".join(out.split())  # of five rows three are train, one val, one test; 003 is one of two of val
    assert "train 6 of 6 12 of 12" in told
    assert "val 1 of 2 2 of 4" in told


def test_a_cut_file_that_no_pass_makes_again(store: Path) -> None:
    """Where words lie is written when room is made for them; features from elsewhere and packed copies have no pass."""

    def said(name: str) -> list[str]:
        file = next(file for file in (store / name / "c").rglob("*") if file.is_file())
        whole = file.read_bytes()
        file.write_bytes(whole + b"x")
        told = list(problems(open_store(store)))
        file.write_bytes(whole)
        begin = f"{file} is damaged, it has {len(whole) + 1:,} bytes of {len(whole):,}: "
        assert all(line.startswith(begin) for line in told)
        return [line.removeprefix(begin) for line in told]

    group = zarr.open_group(store)
    assert said("word_count") == ["put it back from a copy, or make the store again"]
    passport = dict(group.attrs["passport"])  # type: ignore[arg-type]
    group.attrs["passport"] = passport | {"frames": {**passport["frames"], "imported": {}}}
    assert said("frames") == ["put it back from a copy, or make the store again"]
    assert said("audio")[0].startswith("delete it and ")
    group.attrs["packed"] = 64
    assert said("audio") == ["make the packed copy again"]


def add_line(file: Path, row: object) -> None:
    file.write_text(file.read_text() + json.dumps(row) + "\n")


def change(store: Path, name: str, rows: slice, value: float) -> None:
    zarr.open_group(store, mode="r+")[name][rows] = value


SPOILED: dict[str, tuple[Callable[[Path], object], str]] = {
    "a feature that is not finite": (lambda s: change(s, "frames", slice(0, 1), np.inf), "frames must be finite"),
    "a feature where there is none": (lambda s: change(s, "audio", slice(2, 3), 1.0), "audio must be finite"),
    "a count beyond the frames": (
        lambda s: change(s, "frame_count", slice(1, 2), 13),
        "must lie in 0..12",
    ),
    "a count of nothing": (
        lambda s: change(s, "frame_count", slice(1, 2), 0),
        "stored by the ledger, but not",
    ),
    "times that fall": (lambda s: change(s, "frame_times_s", slice(1, 2), -1.0), "frame times must not fall"),
    "presence without sound": (
        lambda s: change(s, "audio_presence", slice(2, 3), 3),
        "presence 3 with 0 segments",
    ),
    "words that are gone": (lambda s: shutil.rmtree(s / "words" / "c"), "its features are not finite"),
    "a place of words outside": (lambda s: change(s, "word_start", slice(0, 1), 10**6), "leave their unit"),
    "a caption not encoded": (lambda s: change(s, "encoded", slice(0, 18), 0), "disagree about"),
    "an array that is gone": (lambda s: shutil.rmtree(s / "sentences"), "'sentences' is gone or damaged"),
    "a chunk cut short": (lambda s: (s / "frames/c/0/0/0").write_bytes(b"short"), "is damaged, it has 5 bytes of "),
    "a ledger torn": (lambda s: (s / "tables/ledger/videos-000000.ndjson").write_text('{"vid'), "damaged"),
    "integers for features": (
        lambda s: (s / "frames/zarr.json").write_text(
            (s / "frames/zarr.json").read_text().replace('"float16"', '"int16"').replace('"NaN"', "0")
        ),
        "3 axes of int16, 3 of kind 'f' are wanted",
    ),
    "a caption that is a number": (
        lambda s: add_line(s / "tables/captions.ndjson", {"video": 0, "text": 7, "splits": {}}),
        "'text' must be a text",
    ),
    "a caption of no video": (
        lambda s: add_line(s / "tables/captions.ndjson", {"video": 99, "text": "", "splits": {}}),
        "one of the 9 rows of videos.ndjson",
    ),
}


@pytest.mark.parametrize("name", SPOILED)
def test_verify_finds(name: str, store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spoil, told = SPOILED[name]
    spoil(store)
    assert any(told in line for line in problems(open_store(store))), list(problems(open_store(store)))
    assert cli.run(main, [str(store), "--verify"]) in (1, 2)
    assert "Traceback" not in capsys.readouterr().err


def test_a_store_is_the_same_as_itself(features: Path, capsys: pytest.CaptureFixture[str]) -> None:
    both = [str(features / "sound.zarr")] * 2
    assert cli.run(main, both) == 0
    assert capsys.readouterr().out.count("identical, bit for bit") == 3


def test_two_rules_differ_by_name_and_by_cosine(features: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = (open_store(features / f"{name}.zarr") for name in ("sound", "uniform"))
    result = compare(first, second)
    assert result.fields == ["frames.sampling: 'midpoints-12' in the store, 'uniform-12' wanted"]
    assert result.identical == {"frames": False, "audio": True, "text": True}
    lowest = dict(zip(result.labels["frames"], result.cosines["frames"], strict=True))
    assert set(lowest) == {video["id"] for video in first.videos} - {"clip003.mp4"}
    # By hand: the first video has 5 frames, which uniform-12 repeats, so seven vectors are in one store only.
    assert lowest["clip000.mp4"] == -1
    row = next(i for i, video in enumerate(first.videos) if video["id"] == "clip006.mp4")
    a, b = (np.asarray(s.array("frames")[row], np.float64) for s in (first, second))
    by_hand = ((a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)).min()
    assert lowest["clip006.mp4"] == pytest.approx(by_hand, abs=1e-9)
    assert cli.run(main, [str(features / "sound.zarr"), str(features / "uniform.zarr")]) == 1
    out = capsys.readouterr().out
    assert "frames.sampling" in out
    assert "clip000.mp4" in out
