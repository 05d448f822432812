"""The folder that the demo renders: the same bytes from the same seed, readable, and as its captions say."""

from __future__ import annotations

import csv
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from lab.errors import LabError
from lab.media import parse_sampling, read_clip
from lab.preprocess import ImageSpec
from lab.toy.clips import COLOURS, numbered, read_number, render_sample

SPEC = ImageSpec(size=128)


@pytest.fixture(scope="module")
def sample(tmp_path_factory) -> Path:
    return render_sample(tmp_path_factory.mktemp("sample"), n=24, seed=3).parent


def rows(root: Path) -> list[dict[str, str]]:
    with (root / "captions.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_the_same_seed_gives_the_same_bytes(sample, tmp_path):
    again = render_sample(tmp_path / "again", n=4, seed=3).parent
    for path in again.glob("*.mp4"):
        assert path.read_bytes() == (sample / path.name).read_bytes()
    other = render_sample(tmp_path / "other", n=4, seed=4).parent
    assert (other / "clip0000.mp4").read_bytes() != (again / "clip0000.mp4").read_bytes()


def test_captions_name_every_clip_twice_and_split_them(sample):
    table = rows(sample)
    assert list(table[0]) == ["video", "caption", "split"]
    assert Counter(row["video"] for row in table) == {p.name: 2 for p in sample.glob("*.mp4")}
    splits = {row["video"]: row["split"] for row in table}
    assert Counter(splits.values()) == {"train": 15, "val": 3, "test": 6}
    assert len({row["caption"] for row in table}) == len(table)


def test_clips_show_and_sound_as_their_captions_say(sample):
    for row in rows(sample)[::2]:
        clip = read_clip(sample / row["video"], parse_sampling("uniform-3"), SPEC)
        assert clip.duration_s == pytest.approx(3.0)
        words = row["caption"].split()
        colour = np.array(COLOURS[words[1]])
        near = np.abs(clip.pictures[1].astype(int) - colour).max(axis=-1) < 60
        assert near.mean() > 0.02
        if "moves" in words:
            centres = [np.abs(p.astype(int) - colour).max(axis=-1) < 60 for p in clip.pictures]
            xs = [float(np.argwhere(c)[:, 1].mean()) for c in (centres[0], centres[2]) if c.any()]
            assert len(xs) < 2 or (xs[1] > xs[0]) == ("right" in words)
        if "without a sound" in row["caption"]:
            assert clip.audio_status == "silent"
        else:
            assert clip.audio_status == ("ok" if "tone" in words else "no_audio")
        if "tone" in words:
            spectrum = np.abs(np.fft.rfft(clip.audio[16000:48000]))
            assert int(spectrum.argmax()) == {"low": 220, "middle": 660, "high": 1980}[words[-3]]


def test_the_command(tmp_path):
    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, "-m", "lab.toy.clips", *words], capture_output=True, text=True)

    done = run("--root", str(tmp_path / "a"), "--n", "2")
    assert (done.returncode, done.stderr) == (0, "")
    assert len(list((tmp_path / "a").glob("*.mp4"))) == 2
    bad = run("--root", str(tmp_path / "b"), "--n", "0")
    assert (bad.returncode, bad.stderr) == (2, "`1 <= n <= 700` clips must hold, got n=0\n")


def test_the_number_of_clips_is_checked(tmp_path):
    with pytest.raises(LabError, match=r"`1 <= n <= 700` clips must hold, got n=701"):
        render_sample(tmp_path, n=701)


@pytest.mark.parametrize("size", [32, 63, 64, 67, 224])
def test_a_numbered_picture_tells_its_number_and_a_spoilt_one_that_it_cannot(size):
    assert [read_number(numbered(i, size)) for i in (0, 1, 500, 1023)] == [0, 1, 500, 1023]
    assert read_number(np.zeros((size, size, 3), np.uint8)) == -1
    assert read_number(np.fliplr(numbered(5, size))) == -1
    assert read_number(np.rot90(numbered(5, size))) == -1
