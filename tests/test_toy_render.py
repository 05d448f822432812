"""Toy clips as files: decoded, they are what the world says; a render that was killed goes on."""

from __future__ import annotations

import contextlib
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from numbered import numbered, read_number

from lab import cli
from lab.datasets import get_dataset
from lab.errors import LabError
from lab.media import parse_sampling, read_clip
from lab.preprocess import ImageSpec
from lab.toy.film import pictures, render, waveform
from lab.toy.grammar import captions
from lab.toy.render import main, read_world, render_world
from lab.toy.world import world

SPEC = ImageSpec(size=128)
SIZES = {"train": 5, "val": 2, "test": 3}


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("worlds") / "toy-7"
    render_world(path, 7, SIZES, workers=1)
    return path


def test_a_file_shows_what_was_drawn_and_sounds_as_it_was_made(root):
    for clip in world(7, SIZES):
        read = read_clip(root / f"{clip.id}.mp4", parse_sampling("uniform-8"), SPEC)
        assert read.duration_s == pytest.approx(clip.seconds, abs=0.01)
        drawn = np.stack(list(pictures(clip)))
        shown = drawn[np.round(np.asarray(read.times_s) * 8).astype(int)]
        assert np.abs(read.pictures.astype(int) - shown).mean() < 8
        assert read.audio_status == {"sound": "ok", "silent": "silent", "absent": "no_audio"}[clip.audio]
        if clip.audio == "sound":
            made = waveform(clip)
            heard = np.asarray(read.audio)[: len(made)]
            loud = [float(np.sqrt((part**2).mean())) for part in np.array_split(made, 10)]
            np.testing.assert_allclose(
                [float(np.sqrt((part**2).mean())) for part in np.array_split(heard, 10)], loud, atol=0.05
            )


def test_the_same_clip_gives_the_same_bytes(root, tmp_path):
    clip = next(world(7, SIZES))
    assert render(clip, tmp_path / "again.mp4").read_bytes() == (root / f"{clip.id}.mp4").read_bytes()


def test_a_smaller_world_is_the_beginning_of_the_full_one():
    full = {clip.id: clip for clip in world(7)}
    assert all(full[clip.id] == clip for clip in world(7, SIZES))


def test_the_data_set_has_the_captions_their_truth_and_what_is_missing(root, tmp_path):
    copied = Path(shutil.copytree(root, tmp_path / "copy"))
    (copied / "val0001.mp4").unlink()
    collection = get_dataset("toy").read(copied)
    assert collection.splits("toy") == {"train": (5, 100), "val": (2, 10), "test": (3, 15)}
    assert collection.missing == ("val0001",)
    told = [line for clip in world(7, SIZES) for line in captions(clip)]
    assert [caption.text for caption in collection.captions] == [line.text for line in told]
    assert [caption.seconds for caption in collection.captions] == [(line.start_s, line.end_s) for line in told]
    assert [caption.needs_sound for caption in collection.captions] == [line.needs_sound for line in told]
    with pytest.raises(LabError, match="--split is for --dataset folder"):
        get_dataset("toy").read(copied, split="70/10/20")


def test_a_relative_root_stays_so(root, monkeypatch):
    """A store names it, and a checkout may move with its ``data/toy``."""
    monkeypatch.chdir(root.parent)
    assert get_dataset("toy").read(Path(root.name)).root == Path(root.name)


def test_only_what_is_missing_is_rendered(root, tmp_path):
    copied = Path(shutil.copytree(root, tmp_path / "copy"))
    (copied / "test0002.mp4").unlink()
    (copied / "test0002.99.part.mp4").write_bytes(b"half a clip")
    before = {path.name: path.stat().st_mtime_ns for path in copied.glob("*.mp4")}
    assert render_world(copied, workers=1) == 1
    assert render_world(copied, workers=1) == 0
    after = {path.name: path.stat().st_mtime_ns for path in copied.glob("*.mp4")}
    assert before.keys() - after.keys() == {"test0002.99.part.mp4"}
    assert {name: after[name] for name in before.keys() & after.keys()} == {
        name: before[name] for name in before.keys() & after.keys()
    }
    assert (copied / "test0002.mp4").read_bytes() == (root / "test0002.mp4").read_bytes()


def living(group):
    """The processes of a group that run still."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it ended meanwhile
            state, _, pgrp = stat.read_text().rsplit(")", 1)[1].split()[:3]
            found += [stat.parent.name] if int(pgrp) == group and state != "Z" else []
    return found


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_a_render_that_is_killed_leaves_no_half_clip_and_goes_on(root, tmp_path):
    into = tmp_path / "toy-7"
    sizes = [word for split, count in SIZES.items() for word in (f"--{split}", str(count))]
    command = [sys.executable, "-m", "lab.toy.render", "--world", "7", "--root", str(into), "--workers", "1", *sizes]
    running = subprocess.Popen(command, stderr=subprocess.DEVNULL, start_new_session=True)
    while not any(into.glob("train*.mp4")) and running.poll() is None:
        time.sleep(0.02)
    running.send_signal(signal.SIGKILL)
    running.wait()
    end = time.monotonic() + 120
    while others := living(running.pid):  # its worker ends with it
        assert time.monotonic() < end, others
        time.sleep(0.02)
    subprocess.run(command, check=True, capture_output=True)
    files = sorted(path.name for path in into.glob("*.mp4"))
    assert files == sorted(path.name for path in root.glob("*.mp4"))
    assert all((into / name).read_bytes() == (root / name).read_bytes() for name in files)


def test_a_folder_holds_one_world(root, tmp_path, capsys):
    assert read_world(root) == (7, SIZES)
    assert cli.run(main, ["--world", "8", "--root", str(root)]) == 2
    assert "holds world 7" in capsys.readouterr().err
    assert cli.run(main, ["--train", "0", "--root", str(tmp_path)]) == 2
    assert "1 <= --train <= 600 must hold, got 0" in capsys.readouterr().err
    assert cli.run(main, ["--world", "100", "--root", str(tmp_path)]) == 2
    assert "0 <= world <= 99 must hold, got 100" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["", "[]", '{"version": 1}', '{"version": 1, "world": "x", "sizes": {}}'])
def test_a_spoilt_world_file_is_one_line(tmp_path, text):
    (tmp_path / "world.json").write_text(text)
    with pytest.raises(LabError, match="does not tell which world it is"):
        read_world(tmp_path)


def test_another_version_is_refused(tmp_path):
    (tmp_path / "world.json").write_text('{"version": 99, "world": 0, "sizes": {"train": 1, "val": 1, "test": 1}}')
    with pytest.raises(LabError, match="holds version 99 of the toy world"):
        read_world(tmp_path)


def test_without_the_drawings_it_is_one_line(monkeypatch):
    from lab.toy.sprites import sprite

    sprite.cache_clear()
    monkeypatch.setitem(sys.modules, "resvg_py", None)
    with pytest.raises(LabError, match=r"drawing the toy world needs the package resvg_py: .*retrieval-lab\[toy\]"):
        sprite("dog")


@pytest.mark.parametrize("size", [32, 63, 64, 67, 224])
def test_a_numbered_picture_tells_its_number_and_a_spoilt_one_that_it_cannot(size):
    assert [read_number(numbered(i, size)) for i in (0, 1, 500, 1023)] == [0, 1, 500, 1023]
    assert read_number(np.zeros((size, size, 3), np.uint8)) == -1
    assert read_number(np.fliplr(numbered(5, size))) == -1
    assert read_number(np.rot90(numbered(5, size))) == -1
