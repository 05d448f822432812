"""The page's server answers this machine and its own page alone, shows no other file, and tells mistakes in a line."""

from __future__ import annotations

import json
import logging
import shutil
import socket
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from paged import Paged, served

pytest.importorskip("starlette", reason="the page needs the extra 'demo'")
pytest.importorskip("uvicorn", reason="the page needs the extra 'demo'")

from lab import cli
from lab.demo.__main__ import main
from lab.demo.export import export
from lab.demo.files import Files
from lab.demo.server import PORTS, listen, warm
from lab.store import open_store


@pytest.fixture(scope="module")
def page(paged: Paged) -> Iterator[str]:
    """The address of a running server."""
    with served(paged.answers) as address:
        yield address


def ask(address: str, body: Any = None, **headers: str) -> tuple[int, bytes, Any]:
    data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
    given = {"content-type": "application/json"} if data is not None else {}
    request = urllib.request.Request(address, data, given | {k.replace("_", "-"): v for k, v in headers.items()})  # noqa: S310
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310
            return answer.status, answer.read(), answer.headers
    except urllib.error.HTTPError as error:
        return error.code, error.read(), error.headers


def test_only_this_machine_and_this_page_are_answered(page: str) -> None:
    status, body, headers = ask(page)
    assert status == 200
    assert b'<script src="page.js">' in body
    policy = headers["content-security-policy"]
    assert policy.startswith("default-src 'none'")
    assert "unsafe" not in policy
    assert "http" not in policy
    assert ask(page, host="evil.example")[0] == 400
    assert ask(page + "api/about", sec_fetch_site="cross-site")[0] == 403
    assert ask(page + "api/about", sec_fetch_site="same-site")[0] == 403  # another port of this machine
    assert ask(page, sec_fetch_site="cross-site", sec_fetch_mode="navigate")[0] == 200  # a link to the page
    assert ask(page + "../../../etc/passwd")[0] == 404
    assert ask(page + "%2e%2e/server.py")[0] == 404


def test_videos_come_in_ranges_from_below_their_root_alone(page: str, paged: Paged, tmp_path: Path) -> None:
    status, body, headers = ask(page + "video/6", range="bytes=10-29")
    assert (status, len(body)) == (206, 20)
    assert headers["content-range"].startswith("bytes 10-29/")
    assert body == (paged.path.parent / "clips" / "v06.mp4").read_bytes()[10:30]
    assert ask(page + "video/8")[0] == 404  # has no file
    assert ask(page + "video/999999")[0] == 404
    assert ask(page + "frames/6-0.jpg")[1][:2] == b"\xff\xd8"
    assert ask(page + "frames/6-6.jpg")[0] == 404
    assert ask(page + "frames/99999-0.jpg")[0] == 404
    store = open_store(paged.path)
    secret = tmp_path / "secret.mp4"
    secret.write_bytes(b"secret")
    root = tmp_path / "root"
    root.mkdir()
    (root / "link.mp4").symlink_to(secret)
    files = Files(store, root)
    for named in ("../secret.mp4", str(secret), "link.mp4", "a\0b", "", "."):
        store.videos[0]["file"] = named
        assert files.video(0) is None, named
    (root / "there.mp4").write_bytes(b"there")
    store.videos[0]["file"] = "there.mp4"
    assert files.video(0) == (root / "there.mp4").resolve()
    (root / "id_rsa").write_bytes(b"secret")
    (root / "notes.txt").write_bytes(b"secret")
    for named in ("id_rsa", "notes.txt"):
        store.videos[0]["file"] = named
        assert files.video(0) is None, named


def test_links_that_lead_out_of_the_root_are_told_with_a_root_that_plays_them(
    page: str, paged: Paged, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    disk, root = tmp_path / "a disk", tmp_path / "root"
    disk.mkdir()
    root.mkdir()
    for name in ("v06.mp4", "v07.mp4"):
        shutil.copyfile(paged.path.parent / "clips" / name, disk / name)
        (root / name).symlink_to(disk / name)
    store = open_store(paged.path)
    files = Files(store, root)
    assert (files.video(6), files.leads_out(6), files.leads_out(5)) == (None, True, False)
    told = f"2 videos are links that lead out of {root} and are not played: --root '{disk}' plays 2"
    assert files.told_of_links(range(16)) == told
    assert Files(store, disk).video(6) == disk / "v06.mp4"
    assert Files(store, disk).told_of_links(range(16)) == ""
    (root / "v07.mp4").unlink()
    (disk / "v07.mp4").rename(disk / "other.mp4")
    (root / "v07.mp4").symlink_to(disk / "other.mp4")
    (root / "v06.mp4").unlink()
    assert Files(store, root).told_of_links(range(16)) == (
        f"1 videos are links that lead out of {root} and are not played: have the files themselves there, or hard links"
    )
    monkeypatch.setattr("lab.demo.server.serve", lambda app, at: at.close())
    monkeypatch.setattr("lab.demo.server.warm", lambda answers: None)
    made = ["--store", str(paged.path), "--runs", str(paged.runs), "--head", "mean"]
    assert cli.run(main, [*made, "--root", str(root), "--port", "38765"]) == 0
    assert f"warning: 1 videos are links that lead out of {root}" in capsys.readouterr().err
    monkeypatch.setattr(paged.answers.files, "root", root)
    assert b"leads out of the root" in ask(page + "video/7")[1]
    assert b"not there any more" in ask(page + "video/6")[1]
    (root / "v06.mp4").symlink_to(root / "v06.mp4")
    assert (Files(store, root).video(6), Files(store, root).told_of_links([6])) == (None, "")


@pytest.mark.parametrize("told", ["", "  \n", "a\0b"])
def test_a_store_that_tells_no_root_shows_no_file(
    paged: Paged, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told: str
) -> None:
    shutil.copytree(paged.path, tmp_path / "made.zarr")
    (tmp_path / "made.zarr" / "tables" / "root.txt").write_text(told)
    (tmp_path / "here.mp4").write_bytes(b"here")
    monkeypatch.chdir(tmp_path)
    store = open_store(tmp_path / "made.zarr")
    store.videos[0]["file"] = "here.mp4"
    assert Files(store).video(0) is None


def test_bad_questions_get_a_line(page: str) -> None:
    def refused(path: str, body: Any, status: int, words: str, **headers: str) -> None:
        found, told, _ = ask(page + path, body, **headers)
        assert (found, words in json.loads(told)["error"]) == (status, True), told

    refused("api/typed", {"text": " ", "heads": ["mean"]}, 400, "at least one word")
    refused("api/typed", {"text": "a dog", "heads": ["maen"]}, 400, "did you mean 'mean'")
    refused("api/typed", {"text": "a dog", "heads": []}, 400, "1 to 4 heads")
    refused("api/typed", {"text": "a dog", "heads": ["mean"], "video": 0}, 400, "none of the split 'val'")
    refused("api/typed", b"{", 400, "must be JSON")
    refused("api/typed", b"[]", 400, "JSON object")
    refused("api/typed", b" " * ((1 << 20) + 1), 413, "shorter than 1024 kB")
    refused("api/typed", {"text": "a dog", "heads": ["mean"]}, 415, "must be JSON", content_type="text/plain")
    refused("api/picked", {"caption": 0, "heads": ["mean"]}, 400, "pick one of the list")
    refused("api/picked", {"caption": "x", "heads": ["mean"]}, 400, "whole number")
    refused("api/told_of", {"heads": ["mean"]}, 400, "whole number")
    status, told, _ = ask(page + "api/typed", {"text": "dog " * 10_000, "heads": ["mean"]})
    assert status == 200
    assert "longer than the text tower reads" in json.loads(told)["notes"][0]


def test_a_port_in_use_gives_the_next_one(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    with listen(28765) as first, listen(first.getsockname()[1]) as second:
        assert 0 < second.getsockname()[1] - first.getsockname()[1] < PORTS  # others may have taken some
        assert second.getsockname()[0] == "127.0.0.1"
    assert "is in use" in caplog.text
    assert isinstance(second, socket.socket)


def test_what_the_command_refuses(paged: Paged, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def said(*argv: str) -> str:
        assert cli.run(main, list(argv)) == 2
        return capsys.readouterr().err

    made = ("--store", str(paged.path), "--runs", str(paged.runs))
    assert "make one with python -m lab.cache --dataset toy" in said("--dataset", "toy", "--features", str(tmp_path))
    assert "unknown head or run 'tpok': did you mean 'topk'" in said(*made, "--head", "tpok")
    assert "train the head on this one" in said(*made, "--head", "elsewhere/mean-s0")
    assert "1 <= port" in said(*made, "--port", "0")
    assert "unknown split of made 'vla': did you mean 'val'" in said(*made, "--split", "vla")
    (tmp_path / "mine.txt").write_text("mine")
    assert "holds something else" in said(*made, "--head", "mean", "--export", str(tmp_path))
    assert (tmp_path / "mine.txt").read_text() == "mine"
    (tmp_path / "data.js").write_text("window.mine = 1;\n")
    assert "holds something else" in said(*made, "--head", "mean", "--export", str(tmp_path))
    assert (tmp_path / "data.js").read_text() == "window.mine = 1;\n"


def test_an_export_leaves_no_picture_of_an_earlier_one(paged: Paged, tmp_path: Path) -> None:
    out = tmp_path / "out"
    for seed in (0, 1):
        assert export(paged.answers, out, ["mean"], captions=1, seed=seed) == 1
        (out / "frames" / "999-0.jpg").write_bytes(b"old")
        assert len(list((out / "frames").iterdir())) > 1
    assert export(paged.answers, out, ["mean"], captions=1) == 1
    assert not (out / "frames" / "999-0.jpg").exists()
    assert any((out / "frames").iterdir())


def test_the_page_serves_without_its_text_tower(caplog: pytest.LogCaptureFixture) -> None:
    class Broken:
        @property
        def encoder(self) -> None:
            raise RuntimeError("out of\nmemory")

    warm(Broken()).join(60)  # type: ignore[arg-type]
    assert [line.getMessage() for line in caplog.records] == [
        "captions can be picked, but no query typed: RuntimeError: out of memory"
    ]
