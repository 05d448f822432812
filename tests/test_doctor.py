"""What the doctor says of good, bad and odd files."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from huggingface_hub import constants
from numbered import numbered

from lab import cli, doctor
from lab.examine import Finding, examine
from lab.toy.write import tone, write_clip

SHARED = Path(__file__).parent.parent.parent / "shared"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two good clips, one without sound, one cut short, and seven things that are no videos."""
    root = tmp_path_factory.mktemp("videos")
    pictures = [numbered(i) for i in range(50)]
    write_clip(root / "good.mp4", pictures, audio=tone(440, 2.0))
    write_clip(root / "mute.mp4", pictures)
    write_clip(root / "silent.mp4", pictures, audio=np.zeros(64000, np.float32))
    write_clip(root / "whole.mkv", pictures)
    whole = (root / "whole.mkv").read_bytes()
    (root / "cut.mkv").write_bytes(whole[: len(whole) * 2 // 3])
    (root / "whole.mkv").unlink()
    (root / "empty.mp4").touch()
    (root / "noise.mp4").write_bytes(bytes(range(256)) * 40)
    (root / "directory.mp4").mkdir()
    (root / "dangling.mp4").symlink_to(root / "nowhere.mp4")
    os.mkfifo(root / "pipe.mp4")
    return root


def test_each_file_has_its_status(folder: Path) -> None:
    found = {path.name: examine((path.name, str(path))) for path in folder.iterdir()}
    assert {name: finding.status for name, finding in found.items()} == {
        "good.mp4": "ok", "mute.mp4": "ok", "silent.mp4": "ok", "cut.mkv": found["cut.mkv"].status,
        "empty.mp4": "empty", "noise.mp4": "undecodable", "directory.mp4": "not_a_file",
        "dangling.mp4": "missing", "pipe.mp4": "not_a_file",
    }  # fmt: skip
    good = found["good.mp4"]
    assert (good.audio, good.codec, good.width, good.height, good.frames, good.fps) == (
        "present",
        "h264",
        64,
        64,
        50,
        25,
    )
    assert good.duration_s == pytest.approx(2.0)
    assert good.bytes == (folder / "good.mp4").stat().st_size
    assert not good.fails
    assert found["mute.mp4"].audio == "absent"
    assert all(found[name].fails and found[name].reason for name in ("empty.mp4", "noise.mp4", "pipe.mp4"))


def test_a_deep_look_hears_silence_and_misses_frames(folder: Path) -> None:
    assert examine(("s", str(folder / "silent.mp4"))).audio == "present"
    assert examine(("s", str(folder / "silent.mp4")), deep=True).audio == "silent"
    assert examine(("g", str(folder / "good.mp4")), deep=True).audio == "present"
    assert examine(("n", str(folder / "noise.mp4")), deep=True).status == "undecodable"


def test_odd_files_are_remarked_on(tmp_path: Path) -> None:
    file = write_clip(tmp_path / "one.mp4", [numbered(0)])
    remarks = examine(("one", str(file))).remarks
    assert "a single frame" in remarks
    assert "only 0.04 s long" in remarks


def test_the_command_on_files(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = [str(folder / name) for name in ("good.mp4", "mute.mp4", "empty.mp4")]
    rows_file = tmp_path / "rows.json"
    assert cli.run(doctor.main, [*names, str(tmp_path / "absent.mp4"), "--workers", "2", "--json", str(rows_file)]) == 1
    out = capsys.readouterr().out
    assert f"will fail, empty: the file is empty (0 bytes) (1)\n  {names[2]}\n" in out
    assert "audio: present 1, absent 1" in out
    assert "total: 0:00:04 of video, " in out
    assert out.endswith("2 of 4 will fail\n")
    rows = json.loads(rows_file.read_text())
    assert [row["status"] for row in rows] == ["ok", "ok", "empty", "missing"]
    assert [row["fails"] for row in rows] == [False, False, True, True]


def test_a_deep_look_counts_each_sound_and_lists_each_file_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = write_clip(tmp_path / "whole.mkv", [numbered(i) for i in range(50)], audio=tone(440, 2.0)).read_bytes()
    (tmp_path / "cut.mkv").write_bytes(whole[: len(whole) * 2 // 3])
    assert cli.run(doctor.main, [str(tmp_path / "whole.mkv"), str(tmp_path / "cut.mkv"), "--deep"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "will work, but look at them (1):"
    assert lines[1].startswith(f"  {tmp_path / 'cut.mkv'}  truncated: ")
    assert lines[1].endswith("; sound is truncated")
    assert "audio: present 1, truncated 1" in lines


def test_all_good_is_zero(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(doctor.main, [str(folder / "good.mp4")]) == 0
    assert capsys.readouterr().out.endswith("0 of 1 will fail\n")


def test_the_command_on_a_data_set(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_clip(tmp_path / "a.mp4", [numbered(i) for i in range(10)])
    (tmp_path / "captions.csv").write_text("video,caption\na.mp4,a thing\nb.mp4,not here\n")
    assert cli.run(doctor.main, ["--dataset", "folder", "--root", str(tmp_path)]) == 1
    out = capsys.readouterr().out
    assert "will fail, missing: no file of this name below the root (1)\n  b.mp4\n" in out
    assert "the data set:\n" in out
    assert out.endswith("1 of 2 will fail\n")


def test_weights_that_a_pass_would_miss_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "root").mkdir()
    write_clip(tmp_path / "root/a.mp4", [numbered(i) for i in range(10)])
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("RETRIEVAL_LAB_WEIGHTS", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    assert cli.run(doctor.main, ["--dataset", "folder", "--root", str(tmp_path / "root")]) == 0
    assert "a pass here needs weights: the weights of OpenAI CLIP ViT-B/32 (" in capsys.readouterr().err
    (tmp_path / "clip").mkdir()
    (tmp_path / "clip/ViT-B-32-quickgelu-openai.pt").touch()
    assert cli.run(doctor.main, ["--dataset", "folder", "--root", str(tmp_path / "root")]) == 0
    assert "weights" not in capsys.readouterr().err


def test_splits_that_a_study_would_miss_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Before the pass, whose store's rows are fixed."""
    write_clip(tmp_path / "a.mp4", [numbered(i) for i in range(10)])
    for name in "bc":
        shutil.copy(tmp_path / "a.mp4", tmp_path / f"{name}.mp4")

    def told(splits: str, *more: str) -> str:
        rows = [f"{name}.mp4,{name},{split}" for name, split in zip("abc", splits.split(","), strict=True)]
        (tmp_path / "captions.csv").write_text("\n".join(["video,caption,split", *rows]))
        assert cli.run(doctor.main, ["--dataset", "folder", "--root", str(tmp_path), *more]) == 0
        return capsys.readouterr().out

    assert "no val split: searchable, no study (give captions.csv a split column with train" in told("train,train,test")
    assert "no train, no val, no test split: searchable, no study" in told(",,")
    assert "no test split: searchable, no study" in told("train,val,val")
    assert "no study" not in told("train,val,test")
    assert "no study" not in told(",,", "--split", "34/33/33")
    (tmp_path / "captions.csv").unlink()
    assert cli.run(doctor.main, ["--dataset", "folder", "--root", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "searched, not studied" in out
    assert "no study" not in out


def test_what_is_said_of_odd_names_and_broken_files_is_a_line_each_with_a_remedy(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = [
        "new\nline.mp4",
        'it\'s "quoted".mp4',
        "caf\u00e9 \u65e5\u672c.mp4",
        "a, b;c.mp4",
        "-dash.mp4",
        "esc\x1b[2J.mp4",
    ]
    for name in names:
        (tmp_path / name).touch()
    (tmp_path / "text.mp4").write_text("I am\ntext")
    (tmp_path / "dangling.mp4").symlink_to("nowhere")
    assert cli.run(doctor.main, ["--dataset", "folder", "--root", str(tmp_path)]) == 1
    lines = capsys.readouterr().out.splitlines()
    shown = '-dash.mp4, a, b;c.mp4, caf\u00e9 \u65e5\u672c.mp4, esc\\x1b[2J.mp4, it\'s "quoted".mp4, new\\nline.mp4'
    assert lines[:2] == ["will fail, empty: the file is empty (0 bytes) (6)", f"  {shown}"]
    assert "will fail, not_video: a text file that begins 'I am' (1)" in lines
    assert lines[-6:-3] == [
        "empty           6  will fail: get it again",
        "missing         1  will fail: get the file, or mend its name",
        "not_video       1  will fail: put a video in its place, or take it out",
    ]


def _crash(item: tuple[str, str], **_: Any) -> Finding:
    os._exit(3)


def test_a_decoder_that_crashes_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "examine", _crash)
    (finding,) = doctor.doctor_files([("a", "a.mp4")], workers=1)
    assert finding.status == "crashed"
    assert "exited with code 3" in finding.reason


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        ([], "either FILEs or --dataset, and not both"),
        (["a.mp4", "--dataset", "msvd"], "either FILEs or --dataset, and not both"),
        (["--dataset", "mvsd"], "unknown dataset 'mvsd': did you mean 'msvd'?"),
        (["--dataset", "msvd", "--root", "/nowhere"], "/nowhere"),
        (["a.mp4", "--split", "70/10/20"], "--split is for --dataset folder: leave it out"),
        (["a.mp4", "--workers", "0"], "--workers must be at least 1, got 0"),
        (["a.mp4", "--json", "/nowhere/x.json"], "its directory does not exist; make it first"),
    ],
)
def test_bad_input_is_one_line(argv: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(doctor.main, argv) == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1


def test_a_link_is_no_place_for_the_rows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As /dev/stdout is one, which a rename would put a file in place of."""
    link = tmp_path / "rows.json"
    link.symlink_to(tmp_path / "target")
    assert cli.run(doctor.main, ["a.mp4", "--json", str(link)]) == 2
    assert capsys.readouterr().err.endswith(f"error: {link} is a link: name a file\n")
    assert link.is_symlink()


def test_long_lists_are_cut() -> None:
    findings = tuple(Finding(f"v{i}", "", "missing", "gone") for i in range(1234))
    text = doctor.render(doctor.Report(findings, ("a note",)))
    assert "will fail, missing: gone (1,234)" in text
    assert "v9, and 1,224 more (--json FILE names them)" in text
    assert "the data set:\n  a note" in text


@pytest.mark.skipif(not SHARED.is_dir(), reason="the shared real clips are not here")
def test_real_clips() -> None:
    report = doctor.doctor_dataset("folder", SHARED / "data/clips", workers=2)
    assert [finding.status for finding in report.findings] == ["ok"] * 7
    assert all(finding.audio == "present" for finding in report.findings)
