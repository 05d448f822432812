"""Bytes over HTTP into a ``.part`` file, going on where an earlier attempt stopped.

Only http and https, also behind a redirect: urllib's opener would read a file: URL, and follow a redirect to ftp:.
Nothing here knows of checksums or of the final name; see ``lab.download``.
"""

from __future__ import annotations

import contextlib
import errno
import http.client
import json
import logging
import queue
import re
import shutil
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

from lab.cli import bar
from lab.errors import LabError

log = logging.getLogger(__name__)

READ_TIMEOUT_S = 30.0  # of one read: a server may think for a while, but a dead connection must not hang for a night
_BLOCK = 1 << 20


def host_of(url: str) -> str:
    """The ``host`` or ``host:port`` of an http(s) URL; LabError for any other."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or re.search(r"[\s\x00-\x1f\x7f]", url):
        raise LabError(f"a download needs an http:// or https:// URL, got {url!r}: correct it in the table of sources")
    return parts.netloc.rpartition("@")[2]


def unreachable(urls: Iterable[str], timeout_s: float) -> dict[str, str]:
    """The hosts of ``urls`` that accept no connection within ``timeout_s``, and why; all are tried at once.

    A thread each, because looking up a name takes no timeout: without a network it can hang far longer than a
    connection does. Behind a proxy it is the proxy that must answer.
    """
    answers: queue.SimpleQueue[tuple[str, str]] = queue.SimpleQueue()
    doors = {host_of(url): _door(url) for url in urls}

    def knock(host: str) -> None:
        try:
            socket.create_connection(doors[host], timeout=timeout_s).close()
            answers.put((host, ""))
        except OSError as error:
            answers.put((host, error.strerror or str(error)))

    for host in doors:
        threading.Thread(target=knock, args=(host,), daemon=True).start()
    reasons = dict.fromkeys(doors, f"no answer within {timeout_s:g} s")
    deadline = time.monotonic() + timeout_s
    with contextlib.suppress(queue.Empty):
        for _ in doors:
            host, reason = answers.get(timeout=max(0.0, deadline - time.monotonic()))
            reasons[host] = reason
    return {host: reason for host, reason in reasons.items() if reason}


def _door(url: str) -> tuple[str, int]:
    """Where a connection for ``url`` goes to first: its proxy, if it has one."""
    parts = urlsplit(url)
    proxy = urllib.request.getproxies().get(parts.scheme)
    if proxy and not urllib.request.proxy_bypass(parts.hostname or ""):
        parts = urlsplit(proxy if "//" in proxy else f"//{proxy}")
    return parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)


def transfer(url: str, part: Path, name: str, size: int | None) -> None:
    """Fill ``part`` with what ``url`` offers, going on from what is there if that is the beginning of the same file.

    An attempt that brings bytes beyond all earlier ones earns another: a connection that breaks every minute still
    ends the download, and one that always breaks at the same byte ends in an error.

    Raises:
        LabError: the server refuses, offers something else, the disk is full or the connection lost; part is kept.
    """
    reached, changed, reason = -1, False, ""
    while True:
        have = part.stat().st_size if part.exists() else 0
        if have <= reached:
            kept = f"the first {have:,} bytes are kept; " if have else ""
            raise LabError(f"{name}: connection to {host_of(url)} lost ({reason}): {kept}run the same command to go on")
        reached = have
        try:
            if _attempt(url, part, name, size):
                return
            reason = "it ended early"
        except _OtherFileError as error:
            if changed:
                raise LabError(f"{name}: the file at {url} keeps changing: try again later") from None
            log.warning("%s: %s; starting again from its first byte", name, error)
            part.write_bytes(b"")  # not removed: the lock of lab.download is on it
            reached, changed = -1, True
        except urllib.error.HTTPError as error:
            answer = f"{error.code} {error.reason}"
            error.close()
            raise LabError(
                f"{name}: {url} answers {answer}: look for it elsewhere and put it in place by hand"
            ) from None
        except _LostError as error:
            reason = str(error)
            log.debug("%s: %s", name, reason)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise _full(part, error.strerror or "disk full") from None
            raise


def forget(part: Path) -> None:
    """Remove a partial download with its note."""
    part.unlink(missing_ok=True)
    _note(part).unlink(missing_ok=True)


class _OtherFileError(Exception):
    """What the server offers now is not the file of which the ``.part`` is the beginning."""


class _LostError(Exception):
    """The connection failed, as against this machine's disk."""


@contextlib.contextmanager
def _network() -> Iterator[None]:
    try:
        yield
    except urllib.error.HTTPError:
        raise
    except (OSError, http.client.HTTPException) as error:
        raise _LostError(str(getattr(error, "reason", None) or error) or type(error).__name__) from error


def _attempt(url: str, part: Path, name: str, size: int | None) -> bool:
    """One request; whether the file is complete after it."""
    have = part.stat().st_size if part.exists() else 0
    known = _read_note(part, url) if have else {}
    request = urllib.request.Request(url, headers={"User-Agent": "retrieval-lab"})  # noqa: S310 - see host_of
    if known:
        request.add_header("Range", f"bytes={have}-")
        if known["validator"]:
            request.add_header("If-Range", known["validator"])
    try:
        with _network():
            response = urllib.request.build_opener(_WebOnly).open(request, timeout=READ_TIMEOUT_S)
    except urllib.error.HTTPError as error:
        if error.code != 416 or not known:
            raise
        error.close()
        if error.headers.get("Content-Range", "") == f"bytes */{have}":
            return True
        raise _OtherFileError("the server's file is shorter than what is here") from None
    with response:
        start, total = _extent(response, have, known)
        _check_offer(response, part, name, size, start, total)
        if start == 0:
            tag = response.headers.get("ETag", "")
            validator = response.headers.get("Last-Modified", "") if tag.startswith("W/") or not tag else tag
            _note(part).write_text(json.dumps({"url": url, "validator": validator, "total": total}), encoding="utf-8")
        return _pour(response, part, name, start, total)


def _extent(response: Any, have: int, known: dict[str, Any]) -> tuple[int, int | None]:
    """Where the bytes of this answer begin, and how many the whole file has."""
    if response.status != 206:
        length = response.headers.get("Content-Length", "")
        return 0, int(length) if length.isdigit() else None
    span = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", response.headers.get("Content-Range", ""))
    if span is None or int(span[1]) != have or known["total"] not in (None, int(span[2])):
        raise _OtherFileError("the server's file is not the one begun here")
    tags = {known["validator"], ""}  # a server that ignores If-Range is found out by its ETag
    if known["validator"].startswith('"') and response.headers.get("ETag", "") not in tags:
        raise _OtherFileError("the server's file has changed")
    return have, int(span[2])


def _check_offer(response: Any, part: Path, name: str, size: int | None, start: int, total: int | None) -> None:
    """Refuse before gigabytes are moved what cannot end well."""
    if response.headers.get_content_type() == "text/html" and not name.endswith((".html", ".htm")):
        raise LabError(
            f"{name}: {response.url} answers with a web page: open it in a browser and put the file in place by hand"
        )
    if size is not None and total is not None and size != total:
        raise LabError(f"{name}: {size:,} bytes expected, {response.url} offers {total:,}: the file there has changed")
    free = shutil.disk_usage(part.parent).free
    if total is not None and total - start > free:
        raise _full(part, f"{total - start:,} bytes to come, {free:,} free")


def _pour(response: IO[bytes], part: Path, name: str, start: int, total: int | None) -> bool:
    have = start
    with part.open("ab" if start else "wb") as file, bar(total, name, "B", start) as shown:
        while True:
            with _network():
                block = response.read(_BLOCK)
            if not block:
                break
            file.write(block)
            have += len(block)
            shown.update(len(block))
    return total is None or have == total


def _full(part: Path, why: str) -> LabError:
    return LabError(f"no space for {part} ({why}): what is there is kept; free some space and run the same command")


def _note(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def _read_note(part: Path, url: str) -> dict[str, Any]:
    """What was known of the file when its first byte came; empty where that cannot be relied on."""
    try:
        note = json.loads(_note(part).read_text(encoding="utf-8"))
        return note if note["url"] == url and isinstance(note["validator"], str) and "total" in note else {}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


class _WebOnly(urllib.request.HTTPRedirectHandler):
    max_redirections = 5

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        """The next request, unless it would leave the web or its encryption (ours promised https, say)."""
        host_of(newurl)
        if req.full_url.startswith("https:") and not newurl.startswith("https:"):
            raise LabError(
                f"{req.full_url} leads to {newurl}, which is not encrypted: download it by hand if you trust it"
            )
        return super().redirect_request(req, fp, code, msg, headers, newurl)
