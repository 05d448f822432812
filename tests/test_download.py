"""Downloads from a loopback server that resumes, refuses to, breaks, lies and redirects; archives that attack."""

from __future__ import annotations

import errno
import hashlib
import io
import logging
import shutil
import socket
import tarfile
import threading
import time
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from lab.download import Source, download, fetch, unpack
from lab.download import http as transfer
from lab.errors import LabError

BODY = bytes(range(256)) * 1201  # 307,456 bytes, no repeating block where it could hide a gap
SHA = hashlib.sha256(BODY).hexdigest()


class Web(NamedTuple):
    """A server, and what it was asked: (path, Range or None)."""

    url: str
    asked: list[tuple[str, str | None]]
    etags: dict[str, str]


class Handler(BaseHTTPRequestHandler):
    """/noranges ignores ranges, /cut breaks after 100,000 bytes, /stuck always at the same, /rude ignores If-Range."""

    asked: list[tuple[str, str | None]]
    etags: dict[str, str]

    def do_GET(self) -> None:
        span = self.headers.get("Range")
        self.asked.append((self.path, span))
        kind = self.path.split("/")[1]
        if kind in ("moved", "loop", "leak"):
            goal = {"moved": "/plain/a", "loop": "/loop/a", "leak": "file:///etc/hostname"}[kind]
            self.answer(302, {"Location": goal, "Content-Length": "0"})
        elif kind == "gone":
            self.send_error(404)
        elif kind == "page":
            self.answer(200, {"Content-Type": "text/html", "Content-Length": "5"}, b"login")
        else:
            self.file(kind, span)

    def file(self, kind: str, span: str | None) -> None:
        start = int(span.removeprefix("bytes=").rstrip("-")) if span and kind != "noranges" else 0
        etag = self.etags.get(kind, '"1"')
        if self.headers.get("If-Range") not in (None, etag) and kind != "rude":
            start = 0
        if start >= len(BODY):
            self.answer(416, {"Content-Range": f"bytes */{len(BODY)}", "Content-Length": "0"})
            return
        head = {"Content-Length": str(len(BODY) - start), "ETag": etag}
        if start:
            head["Content-Range"] = f"bytes {start}-{len(BODY) - 1}/{len(BODY)}"
        stop = {"cut": start + 100_000, "stuck": 100_000}.get(kind, len(BODY))
        self.answer(206 if start else 200, head, BODY[start:stop])

    def answer(self, code: int, head: dict[str, str], body: bytes = b"") -> None:
        self.send_response(code)
        for name, value in head.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def web() -> Iterator[Web]:
    handler = type("Fresh", (Handler,), {"asked": [], "etags": {}})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield Web(f"http://127.0.0.1:{server.server_port}", handler.asked, handler.etags)  # type: ignore[attr-defined]
        server.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")


@pytest.fixture
def closed_port() -> Iterator[int]:
    """Where nobody listens, and nobody else can meanwhile."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield int(held.getsockname()[1])


def begin(root: Path, url: str, have: int, validator: str = '"1"', total: int = len(BODY)) -> Path:
    """What an interrupted download leaves."""
    part = root / "a.bin.part"
    part.write_bytes(BODY[:have])
    transfer._note(part).write_text(
        f'{{"url": "{url}", "validator": "{validator.replace(chr(34), chr(92) + chr(34))}", "total": {total}}}'
    )
    return part


def left(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


# -- a file ----------------------------------------------------------------------------------------------------------


def test_a_file_arrives_whole_and_alone(web: Web, tmp_path: Path) -> None:
    source = Source(f"{web.url}/plain/a", "sub/a.bin", sha256=SHA.upper(), size=len(BODY))
    file = fetch(source, tmp_path)
    assert file == tmp_path / "sub/a.bin"
    assert file.read_bytes() == BODY
    assert left(tmp_path) == ["sub/a.bin"]


def test_a_good_file_is_kept_without_network(closed_port: int, tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(BODY)
    url = f"http://127.0.0.1:{closed_port}/a"
    for known in ({"sha256": SHA}, {"md5": hashlib.md5(BODY).hexdigest()}, {"size": len(BODY)}, {}):  # noqa: S324
        assert fetch(Source(url, "a.bin", **known), tmp_path).read_bytes() == BODY  # type: ignore[arg-type]


def test_a_users_wrong_file_is_named_and_left_alone(web: Web, tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(b"mine")
    with pytest.raises(LabError, match=r"4 bytes, 307,456 expected.*move it away and run again"):
        fetch(Source(f"{web.url}/plain/a", "a.bin", size=len(BODY)), tmp_path)
    assert (tmp_path / "a.bin").read_bytes() == b"mine"
    assert web.asked == []


def test_an_interrupted_download_goes_on(web: Web, tmp_path: Path) -> None:
    url = f"{web.url}/plain/a"
    begin(tmp_path, url, 123_457)
    assert fetch(Source(url, "a.bin", sha256=SHA), tmp_path).read_bytes() == BODY
    assert web.asked == [("/plain/a", "bytes=123457-")]


def test_a_connection_that_breaks_goes_on_by_itself(web: Web, tmp_path: Path) -> None:
    assert fetch(Source(f"{web.url}/cut/a", "a.bin", sha256=SHA), tmp_path).read_bytes() == BODY
    assert [span for _, span in web.asked] == [None, "bytes=100000-", "bytes=200000-", "bytes=300000-"]


def test_a_connection_that_always_breaks_ends_and_keeps_the_part(web: Web, tmp_path: Path) -> None:
    with pytest.raises(LabError, match=r"lost \(.*\): the first 100,000 bytes are kept; run the same command to go on"):
        fetch(Source(f"{web.url}/stuck/a", "a.bin"), tmp_path)
    assert (tmp_path / "a.bin.part").read_bytes() == BODY[:100_000]
    assert not (tmp_path / "a.bin").exists()


def test_a_server_without_ranges_starts_again(web: Web, tmp_path: Path) -> None:
    url = f"{web.url}/noranges/a"
    begin(tmp_path, url, 123_457)
    assert fetch(Source(url, "a.bin", sha256=SHA), tmp_path).read_bytes() == BODY
    assert web.asked == [("/noranges/a", "bytes=123457-")]


def test_a_part_that_is_already_complete_is_taken(web: Web, tmp_path: Path) -> None:
    url = f"{web.url}/plain/a"
    begin(tmp_path, url, len(BODY))
    assert fetch(Source(url, "a.bin", sha256=SHA), tmp_path).read_bytes() == BODY


@pytest.mark.parametrize("kind", ["plain", "rude"])  # rude: sends the range of the new file in spite of If-Range
def test_a_changed_file_starts_again(kind: str, web: Web, tmp_path: Path) -> None:
    url = f"{web.url}/{kind}/a"
    part = begin(tmp_path, url, 0)
    part.write_bytes(b"x" * 1000)  # of the old file
    web.etags[kind] = '"2"'
    assert fetch(Source(url, "a.bin"), tmp_path).read_bytes() == BODY


def test_a_part_of_another_url_or_too_long_is_not_gone_on_with(web: Web, tmp_path: Path) -> None:
    url = f"{web.url}/plain/a"
    begin(tmp_path, "http://elsewhere/a", 0).write_bytes(b"x" * 1000)
    assert fetch(Source(url, "a.bin"), tmp_path).read_bytes() == BODY
    (tmp_path / "a.bin").unlink()
    begin(tmp_path, url, 0).write_bytes(b"x" * (len(BODY) + 1))
    assert fetch(Source(url, "a.bin"), tmp_path).read_bytes() == BODY


def test_a_wrong_checksum_deletes_what_came(web: Web, tmp_path: Path) -> None:
    with pytest.raises(LabError, match=rf"arrived wrong \(sha256 {SHA}, expected 00\) and was deleted"):
        fetch(Source(f"{web.url}/plain/a", "a.bin", sha256="00"), tmp_path)
    assert left(tmp_path) == []


def test_another_size_is_refused_before_it_comes(web: Web, tmp_path: Path) -> None:
    with pytest.raises(LabError, match=r"5 bytes expected, .*/plain/a offers 307,456: the file there has changed"):
        fetch(Source(f"{web.url}/plain/a", "a.bin", size=5), tmp_path)
    assert left(tmp_path) == []


def test_what_the_server_refuses(web: Web, tmp_path: Path) -> None:
    with pytest.raises(LabError, match="answers 404 Not Found: look for it elsewhere"):
        fetch(Source(f"{web.url}/gone/a", "a.bin"), tmp_path)
    with pytest.raises(LabError, match="answers with a web page: open it in a browser"):
        fetch(Source(f"{web.url}/page/a", "a.bin"), tmp_path)
    with pytest.raises(LabError, match="redirect"):
        fetch(Source(f"{web.url}/loop/a", "a.bin"), tmp_path)
    assert left(tmp_path) == []


def test_a_redirect_is_followed_but_never_off_the_web(web: Web, tmp_path: Path) -> None:
    assert fetch(Source(f"{web.url}/moved/a", "a.bin"), tmp_path).read_bytes() == BODY
    with pytest.raises(LabError, match="Redirection to url 'file:///etc/hostname' is not allowed"):
        fetch(Source(f"{web.url}/leak/a", "b.bin"), tmp_path)


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://host/a", "/etc/passwd", "http:///a", "http://h/a b"])
def test_only_the_web(url: str, tmp_path: Path) -> None:
    with pytest.raises(LabError, match="needs an http:// or https:// URL"):
        fetch(Source(url, "a.bin"), tmp_path)


@pytest.mark.parametrize("file", ["/etc/x", "../x", "a/../../x", ""])
def test_only_below_the_root(file: str, tmp_path: Path) -> None:
    with pytest.raises(LabError, match="must lie below the root"):
        fetch(Source("http://127.0.0.1/a", file), tmp_path)


def test_offline_says_what_where_and_whither(closed_port: int, tmp_path: Path) -> None:
    url = f"http://127.0.0.1:{closed_port}/msvd.zip"
    began = time.monotonic()
    with pytest.raises(LabError) as error:
        fetch(Source(url, "msvd.zip", what="captions and splits", unpack=True), tmp_path)
    assert time.monotonic() - began < 30
    text = str(error.value)
    assert f"captions and splits: get {url} and put it at {tmp_path / 'msvd.zip'} (and unpack it there)" in text
    assert "Connection refused" in text


def test_a_network_that_swallows_everything_takes_no_longer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asleep = threading.Event()

    def swallow(*_: object, **__: object) -> socket.socket:
        asleep.wait(60)
        raise TimeoutError("timed out")

    monkeypatch.setattr(socket, "create_connection", swallow)
    began = time.monotonic()
    sources = [Source(f"http://host{i}/a", f"{i}.bin") for i in range(3)]
    monkeypatch.setattr("lab.download.CONNECT_S", 0.2)
    with pytest.raises(LabError, match=r"cannot reach host0 \(no answer within 0.2 s\), host1 .*, host2 "):
        download("x", sources, "", tmp_path)
    asleep.set()
    assert time.monotonic() - began < 30  # of 60, or of 180 one after another


def test_a_full_disk_keeps_the_part(web: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"{web.url}/plain/a"
    begin(tmp_path, url, 123_457)
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=100))
    with pytest.raises(
        LabError, match=r"no space for .*a.bin.part \(183,999 bytes to come, 100 free\): what is there is kept"
    ):
        fetch(Source(url, "a.bin"), tmp_path)
    assert (tmp_path / "a.bin.part").read_bytes() == BODY[:123_457]


def test_a_disk_that_fills_on_the_way_is_told(web: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> bool:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(transfer, "_pour", full)
    with pytest.raises(LabError, match=r"no space for .*a.bin.part \(No space left on device\): what is there is kept"):
        fetch(Source(f"{web.url}/plain/a", "a.bin"), tmp_path)


def test_two_processes_do_not_write_one_part(web: Web, tmp_path: Path) -> None:
    import fcntl

    with (tmp_path / "a.bin.part").open("ab") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(LabError, match=r"another process is downloading .*a.bin: wait"):
            fetch(Source(f"{web.url}/plain/a", "a.bin"), tmp_path)


# -- a data set ------------------------------------------------------------------------------------------------------


def test_a_data_set_comes_as_far_as_it_can(
    web: Web, closed_port: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    dead = f"http://127.0.0.1:{closed_port}/c"
    sources = [
        Source(f"{web.url}/gone/a", "a.bin"),
        Source(f"{web.url}/plain/b", "b.bin"),
        Source(dead, "c.bin", what="videos"),
    ]
    with pytest.raises(LabError) as error:
        download("x", sources, "sign the form", tmp_path)
    assert left(tmp_path) == ["b.bin"]
    assert "404" in str(error.value)
    assert f"videos: get {dead} and put it at {tmp_path / 'c.bin'}" in str(error.value)
    assert "x: sign the form" in caplog.text


def test_instructions_only(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    download("lsmdc", (), "ask MPII for access", tmp_path)
    assert "lsmdc: ask MPII for access" in caplog.text


def test_where_nothing_is_public_the_folder_to_make_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    root = tmp_path / "my clips"
    with pytest.raises(LabError) as error:
        download("lsmdc", (), "ask MPII for access", root)
    told = f"nothing of lsmdc can be fetched: ask MPII for access; there is no root {root} yet: mkdir -p '{root}'"
    assert str(error.value) == told
    assert not caplog.text  # one line, and not the instructions twice


def test_an_unpacked_archive_is_not_fetched_again(closed_port: int, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "v.zip", "w") as made:
        made.writestr("v/1.avi", b"one")
    source = Source(f"http://127.0.0.1:{closed_port}/v.zip", "v.zip", unpack=True)
    download("x", [source], "", tmp_path)
    assert (tmp_path / "v/1.avi").read_bytes() == b"one"
    (tmp_path / "v.zip").unlink()  # a user who needs the space
    download("x", [source], "", tmp_path)


# -- archives --------------------------------------------------------------------------------------------------------


def tarred(file: Path, members: list[tuple[tarfile.TarInfo, bytes]], mode: str = "w") -> Path:
    with tarfile.open(file, mode) as made:  # type: ignore[call-overload]
        for info, content in members:
            info.size = len(content)
            made.addfile(info, io.BytesIO(content))
    return file


def info(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.type, made.linkname = kind, link
    return made


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_a_tar_is_unpacked_once(mode: str, tmp_path: Path) -> None:
    members = [(info("./d", tarfile.DIRTYPE), b""), (info("./d/b.txt"), b"bb"), (info("a.txt"), b"a")]
    archive = tarred(tmp_path / "x.tar", members, mode)
    first = unpack(archive, tmp_path / "out")
    assert [path.relative_to(tmp_path / "out").as_posix() for path in first] == ["a.txt", "d/b.txt"]
    assert (tmp_path / "out/d/b.txt").read_bytes() == b"bb"
    stamp = (tmp_path / "out/a.txt").stat().st_mtime_ns
    assert unpack(archive, tmp_path / "out") == first
    assert (tmp_path / "out/a.txt").stat().st_mtime_ns == stamp
    assert left(tmp_path / "out") == ["a.txt", "d/b.txt"]
    (tmp_path / "out/a.txt").unlink()
    assert unpack(archive, tmp_path / "out") == first
    assert (tmp_path / "out/a.txt").read_bytes() == b"a"


OUTSIDE = ["../evil", "/tmp/evil", "a/../../evil", "..\\evil", "C:\\evil", "\\\\host\\evil"]  # noqa: S108


@pytest.mark.parametrize("name", OUTSIDE)
@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_a_member_outside_is_named_and_nothing_is_written(name: str, kind: str, tmp_path: Path) -> None:
    archive = tmp_path / f"x.{kind}"
    if kind == "tar":
        tarred(archive, [(info("good"), b"g"), (info(name), b"e")])
    else:
        with zipfile.ZipFile(archive, "w") as made:
            made.writestr("good", b"g")
            made.writestr(name, b"e")
    with pytest.raises(LabError) as error:
        unpack(archive, tmp_path / "out")
    assert f"'{name}' lies outside the target" in str(error.value)
    assert left(tmp_path) == [f"x.{kind}"]


@pytest.mark.parametrize(
    ("member", "said"),
    [
        (info("l", tarfile.SYMTYPE, "/etc/passwd"), "link 'l' to '/etc/passwd' lies outside"),
        (info("d/l", tarfile.SYMTYPE, "../../x"), "link 'd/l' to '../x' lies outside"),
        (info("l", tarfile.LNKTYPE, "../x"), "link 'l' to '../x' lies outside"),
        (info("p", tarfile.FIFOTYPE), "'p' is a device or pipe"),
        (info("c", tarfile.CHRTYPE), "'c' is a device or pipe"),
    ],
)
def test_links_out_and_devices_are_refused(member: tarfile.TarInfo, said: str, tmp_path: Path) -> None:
    archive = tarred(tmp_path / "x.tar", [(info("good"), b"g"), (member, b"")])
    with pytest.raises(LabError) as error:
        unpack(archive, tmp_path / "out")
    assert said in str(error.value)
    assert left(tmp_path) == ["x.tar"]


def test_a_link_inside_becomes_a_copy_and_never_a_way_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    members = [
        (info("lists/train", tarfile.SYMTYPE, "../all"), b""),  # before its target
        (info("hard", tarfile.LNKTYPE, "lists/train"), b""),
        (info("all"), b"ids"),
        (info("loop", tarfile.SYMTYPE, "loop"), b""),
        (info("folder", tarfile.SYMTYPE, "lists"), b""),
        (info("folder/inside"), b"x"),  # would go through the link
    ]
    paths = unpack(tarred(tmp_path / "x.tar", members), tmp_path / "out")
    assert (
        left(tmp_path / "out")
        == ["all", "folder/inside", "hard", "lists/train"]
        == sorted(str(path.relative_to(tmp_path / "out")) for path in paths)
    )
    assert (tmp_path / "out/lists/train").read_bytes() == b"ids" == (tmp_path / "out/hard").read_bytes()
    assert not any(path.is_symlink() for path in (tmp_path / "out").rglob("*"))
    assert "link 'loop' leads to no file" in caplog.text


def test_a_zip_with_a_link_out_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as made:
        link = zipfile.ZipInfo("l")
        link.external_attr = 0o120777 << 16
        made.writestr(link, "/etc/passwd")
    with pytest.raises(LabError, match="link 'l' to '/etc/passwd' lies outside"):
        unpack(tmp_path / "x.zip", tmp_path / "out")


def test_a_bomb_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.zip", "w", zipfile.ZIP_DEFLATED) as made:
        made.writestr("zeros", bytes(12_000_000))
    with pytest.raises(LabError, match=r"it unpacks to more than 10,000,000 bytes, at 'zeros'"):
        unpack(tmp_path / "x.zip", tmp_path / "out")
    assert left(tmp_path) == ["x.zip"]


def test_what_does_not_fit_the_disk_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = tarred(tmp_path / "x.tar", [(info("big"), bytes(1000))])
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=999))
    with pytest.raises(LabError, match=r"needs more than the 999 bytes free"):
        unpack(archive, tmp_path / "out")
    assert left(tmp_path) == ["x.tar"]


@pytest.mark.parametrize("names", [("a", "a/b"), ("a/b", "a"), ("x" * 400,), ("d/" + "x" * 400 + "/y",)])
def test_names_that_no_disk_holds_are_refused(names: tuple[str, ...], tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as made:
        for name in names:
            made.writestr(name, b"x")
    with pytest.raises(LabError, match=r"a\.zip is refused: ") as error:
        unpack(tmp_path / "a.zip", tmp_path / "t")
    assert len(str(error.value)) < 300
    assert not list((tmp_path / "t").iterdir())


def test_what_is_no_archive(tmp_path: Path) -> None:
    (tmp_path / "x.zip").write_bytes(b"<html>")
    with pytest.raises(LabError, match="neither a zip nor a tar"):
        unpack(tmp_path / "x.zip", tmp_path / "out")
    with pytest.raises(LabError, match="is no file"):
        unpack(tmp_path / "y.zip", tmp_path / "out")


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_a_truncated_archive_is_damaged(mode: str, tmp_path: Path) -> None:
    noise = hashlib.shake_256(b"seed").digest(200_000)
    archive = tarred(tmp_path / "x.tar", [(info("a"), b"a"), (info("b"), noise)], mode)
    archive.write_bytes(archive.read_bytes()[:100_000])
    with pytest.raises(LabError, match=r"is damaged .*: delete it and get it again"):
        unpack(archive, tmp_path / "out")
    assert left(tmp_path) == ["x.tar"]


def test_a_file_does_not_replace_a_users_directory(tmp_path: Path) -> None:
    (tmp_path / "out/a").mkdir(parents=True)
    archive = tarred(tmp_path / "x.tar", [(info("0"), b"0"), (info("a"), b"a")])
    with pytest.raises(LabError, match="a is a directory where the archive has a file: move it away"):
        unpack(archive, tmp_path / "out")
    assert left(tmp_path) == ["x.tar"]
