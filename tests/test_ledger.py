"""The ledger: rows in, rows out, and nothing in between."""

from __future__ import annotations

import json
import os
from pathlib import Path

import polars
import pytest

from lab.atomic import replace_bytes, replace_text
from lab.errors import LabError
from lab.store.ledger import FACTS, STORED, Entry, Ledger, complaints, tally


def test_update_puts_rows_in_place_of_their_like(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger")
    ledger.update("videos-000000", [Entry("a", "frames", "missing"), Entry("b", "frames", "ok", "", 1.5, 7)])
    ledger.update("videos-000000", [Entry("c", "frames", "ok"), Entry("a", "frames", "ok", "came", 0.5, 11)])
    ledger.update("videos-000000", [Entry("a", "audio", "no_audio")])
    assert ledger.read("videos-000000") == [
        Entry("a", "frames", "ok", "came", 0.5, 11),
        Entry("b", "frames", "ok", "", 1.5, 7),
        Entry("c", "frames", "ok"),
        Entry("a", "audio", "no_audio"),
    ]


def test_write_replaces_the_block_and_no_other(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger")
    ledger.write("videos-000001", [Entry("z", "frames", "ok")])
    ledger.write("videos-000000", [Entry("a", "frames", "ok")])
    ledger.write("videos-000000", [Entry("b", "frames", "ok")])
    assert [entry.video for entry in ledger] == ["b", "z"]
    assert ledger.read("videos-000002") == []
    assert list(Ledger(tmp_path / "none")) == []
    names = [f"videos-{block:06d}" for block in (31, 7, 2, 19, 5, 23, 3, 11)]
    for name in names:
        ledger.write(name, [Entry(name, "frames", "ok")])
    assert [entry.video for entry in ledger] == ["b", "z", *sorted(names)]


@pytest.mark.parametrize("reason", ["a\u2028b", "a\x85b", 'quo"te', "two\nlines", "déjà 🎈", "caf\udce9.mp4", "\x1c"])
def test_any_reason_comes_back(tmp_path: Path, reason: str) -> None:
    """U+2028 and U+0085 end a line for str.splitlines, and a lone surrogate (an odd byte of a name) is no UTF-8."""
    ledger = Ledger(tmp_path)
    rows = [Entry(reason, "frames", "unreadable", reason), Entry("b", "frames", "ok")]
    ledger.write("videos-000000", rows)
    assert ledger.read("videos-000000") == rows


def test_rows_of_a_newer_version_are_read(tmp_path: Path) -> None:
    row = {"video": "a", "modality": "frames", "status": "ok", "bytes": 3, "colour": "red"}
    (tmp_path / "videos-000000.ndjson").write_text(json.dumps(row) + "\n")
    ledger = Ledger(tmp_path)
    ledger.update("videos-000000", [Entry("b", "frames", "ok")])
    assert list(ledger) == [Entry("a", "frames", "ok", bytes=3), Entry("b", "frames", "ok")]


@pytest.mark.parametrize(
    "damage",
    [
        b'{"video": "a", "moda',
        b"\xff\xfe",
        b"[1, 2]\n",
        b'{"video": "a"}\n',
        b'{"planet": "mars"}\n',
        b"\n",
        b'{"video": [1], "modality": {}, "status": "ok"}\n',
        b"[" * 100_000,
    ],
)
def test_a_damaged_file_is_one_line_with_a_remedy(tmp_path: Path, damage: bytes) -> None:
    ledger = Ledger(tmp_path)
    ledger.write("videos-000003", [Entry("a", "frames", "ok")])
    file = tmp_path / "videos-000003.ndjson"
    file.write_bytes(file.read_bytes() + damage)
    with pytest.raises(LabError) as error:
        list(ledger)
    assert str(error.value).startswith(f"{file} is damaged (")
    assert str(error.value).endswith("): delete it, and the pass does that block again")
    assert "\n" not in str(error.value)


def test_an_error_leaves_the_old_content_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "x.ndjson"
    replace_text(file, "old")

    def fail(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="No space left"):
        replace_bytes(file, b"new")
    assert [entry.name for entry in tmp_path.iterdir()] == ["x.ndjson"]
    assert file.read_text() == "old"


def test_a_reader_sees_the_old_or_the_new_file(tmp_path: Path) -> None:
    file = tmp_path / "x.ndjson"
    replace_text(file, "old")
    with file.open() as reader:
        replace_text(file, "newer")
        assert reader.read() == "old"
    assert file.read_text() == "newer"


def test_polars_reads_the_files(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    ledger.write("videos-000000", [Entry("a", "frames", "ok", "", 2.0, 3, "ab", 1_700_000_000_123_456_789)])
    ledger.write("videos-000001", [Entry("b", "frames", "missing", "no file")])
    frame = polars.read_ndjson(tmp_path / "*.ndjson")
    assert frame.rows() == [
        ("a", "frames", "ok", "", 2.0, 3, "ab", 1_700_000_000_123_456_789),
        ("b", "frames", "missing", "no file", 0.0, 0, "", 0),
    ]


def test_silence_is_a_fact_and_a_broken_file_a_failure() -> None:
    assert {status for status in FACTS if Entry("v", "audio", status).failed} == set()
    for status in ("missing", "undecodable", "timeout", "crashed", "empty", "anything else"):
        assert Entry("v", "frames", status).failed
    assert {"no_audio"} == FACTS - STORED


def test_a_row_is_one_line_of_json(tmp_path: Path) -> None:
    Ledger(tmp_path).write("text-000000", [Entry("v", "text", "ok", "3 captions")])
    (line,) = (tmp_path / "text-000000.ndjson").read_text().splitlines()
    assert json.loads(line) == {
        "video": "v", "modality": "text", "status": "ok", "reason": "3 captions", "seconds": 0.0, "bytes": 0,
        "digest": "", "modified_ns": 0,
    }  # fmt: skip


def test_a_video_is_counted_once_for_a_modality_and_status() -> None:
    """Captions of one video may lie in two blocks, each with a row of its own; the order is that of the names."""
    entries = [
        Entry("b", "text", "ok", "2 captions"), Entry("b", "text", "ok", "1 caption"), Entry("a", "text", "ok"),
        Entry("a", "frames", "ok"), Entry("a", "audio", "silent"), Entry("b", "audio", "no_audio"),
    ]  # fmt: skip
    assert list(tally(entries).items()) == [
        (("audio", "no_audio"), 1), (("audio", "silent"), 1), (("frames", "ok"), 1), (("text", "ok"), 2),
    ]  # fmt: skip


def test_what_failed_is_told_once_for_a_video_and_a_reason() -> None:
    entries = [
        Entry("a", "frames", "empty", "0 bytes"), Entry("a", "audio", "empty", "0 bytes"),
        Entry("b", "frames", "ok"), Entry("b", "audio", "undecodable", "torn"), Entry("c", "audio", "no_audio"),
    ]  # fmt: skip
    assert complaints(entries) == ["a  frames+audio  empty: 0 bytes", "b  audio  undecodable: torn"]


def test_rows_from_before_there_were_digests_and_times_are_read(tmp_path: Path) -> None:
    """Also beside newer ones, by polars too: a store of then that a pass of now has gone on with."""
    old = {"video": "a", "modality": "frames", "status": "ok", "reason": "", "seconds": 0.5, "bytes": 3}
    (tmp_path / "videos-000000.ndjson").write_text(json.dumps(old) + "\n")
    ledger = Ledger(tmp_path)
    ledger.write("videos-000001", [Entry("b", "frames", "ok", "", 0.5, 3, "ab", 5)])
    assert list(ledger) == [Entry("a", "frames", "ok", "", 0.5, 3), Entry("b", "frames", "ok", "", 0.5, 3, "ab", 5)]
    assert polars.read_ndjson(tmp_path / "*.ndjson").height == 2
