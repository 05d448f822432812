"""Opening a file that may be anything: what stands in the way is a MediaError with a status, not a crash or a hang."""

from __future__ import annotations

import hashlib
import os
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import av
import av.error
import av.logging

from lab.media.length import Cut

MAX_PIXELS = 2**26  # 67 million: 8K fits; a header that claims more is damage or a trap, and would fill the memory

_END_BYTES = 1 << 16  # of each end of a file: what tells it from another one of its size, at the price of a seek

# Only the file itself: a playlist, an SDP or a concat script in an .mp4's clothes must not make us open anything else.
# Titles in an odd encoding are no reason to refuse a file. PyAV 19 dropped the switch and is never strict.
_METADATA: dict[str, Any] = {"metadata_errors": "replace"} if int(av.__version__.split(".")[0]) < 19 else {}
_OPTIONS = {"protocol_whitelist": "file"}
# Demuxers of lists and devices; a file that asks for one of these is not a video, whatever it points to.
_NOT_MEDIA = {"hls", "concat", "dash", "sdp", "rtsp", "imf", "tty", "lrc", "webvtt", "srt", "ass", "subviewer"}


class MediaError(Exception):
    """Why a file gives no frames (or no sound): ``status`` for the ledger, the message one line for a reader.

    Statuses: missing, not_a_file, unreadable, empty, not_video, no_video, undecodable, timeout.
    """

    def __init__(self, status: str, reason: str) -> None:
        super().__init__(status, reason)
        self.status = status
        self.reason = reason
        self.digest = ""  # of the file that it is said of (``digest_of``), where that was taken

    def __str__(self) -> str:
        """The reason alone."""
        return self.reason


def digest_of(path: Path) -> str:
    """Of a file's size, its first and its last 64 KiB, in hex: another video of the very same size has another one.

    Empty where it cannot be read, or is no file (a named pipe would be waited for).
    """
    try:
        if not path.is_file():
            return ""
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            told = hashlib.blake2b(f"{size}\0".encode(), digest_size=8)
            told.update(file.read(_END_BYTES))
            file.seek(max(_END_BYTES, size - _END_BYTES))
            told.update(file.read(_END_BYTES))
    except OSError:
        return ""
    return told.hexdigest()


class Deadline:
    """A limit in CPU seconds that the loops over packets look at; ``check`` raises MediaError("timeout").

    CPU and not wall time, because whether a file is given up must not depend on how busy the machine is. What blocks
    without computing (a network disk that went away) is the pool's to end, by its own, longer wall-clock limit.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._at = time.process_time() + seconds

    def check(self) -> None:
        """Raise when the time is up."""
        if time.process_time() > self._at:
            raise MediaError("timeout", f"decoding took longer than {self.seconds:g} s of CPU time")

    @property
    def left(self) -> float:
        """Seconds that remain, at least a millisecond so that it can serve as a timeout."""
        return max(self._at - time.process_time(), 1e-3)


def require_file(path: Path) -> int:
    """Size in bytes of a regular, readable, non-empty file; MediaError says what it is instead. Opens no FIFO."""
    try:
        info = path.stat()
    except FileNotFoundError:
        reason = f"dangling link to {path.readlink()}" if path.is_symlink() else "no such file"
        raise MediaError("missing", reason) from None
    except (OSError, ValueError) as error:
        raise MediaError("unreadable", _os_reason(error)) from None
    if not stat.S_ISREG(info.st_mode):
        raise MediaError("not_a_file", f"a {_kind(info.st_mode)}, not a file")
    if info.st_size == 0:
        raise MediaError("empty", "the file is empty (0 bytes)")
    try:
        with path.open("rb") as file:
            head = file.read(4096)
    except OSError as error:
        raise MediaError("unreadable", _os_reason(error)) from None
    if _is_text(head):
        first = head[:200].decode("utf-8", "replace").strip().splitlines()
        raise MediaError("not_video", f"a text file that begins {(first[0] if first else '')[:40]!r}")
    return info.st_size


def _is_text(head: bytes) -> bool:
    """Whether a file begins with nothing but text: the web page of a failed download, or a list of other files.

    FFmpeg would follow a playlist or a concat script to wherever it points, a named pipe for instance.
    """
    text = head.removeprefix(b"\xef\xbb\xbf")
    return not head.startswith(b"YUV4MPEG2") and not any(c < 32 and c not in b"\t\n\r\f" for c in text)


@contextmanager
def open_media(path: Path, deadline: Deadline, cut: Cut | None = None) -> Iterator[Any]:
    """The container of a file, closed at the end; MediaError where FFmpeg knows no way to read it.

    ``cut`` is what is known of the file's end, as a part of the reason.
    """
    try:
        container = _open(path, deadline)
    except (av.error.FFmpegError, OSError, ValueError) as error:
        deadline.check()
        reason = open_reason(path, deadline, error)
        raise MediaError("undecodable", f"{reason}; {cut.reason}" if cut else reason) from None
    try:
        if set(container.format.name.split(",")) & _NOT_MEDIA:
            raise MediaError("not_video", f"a {container.format.name} text file, not a video")
        yield container
    finally:
        container.close()


def _open(path: Path, deadline: Deadline) -> Any:
    # "file:" keeps a name with a colon from being read as a protocol; the timeouts bound probing and each read. The
    # options are for the container alone: given for its streams too, PyAV 15 crashes on files that name none up front.
    return av.open(f"file:{path}", container_options=_OPTIONS, timeout=(deadline.left, deadline.left), **_METADATA)


def open_reason(path: Path, deadline: Deadline, error: Exception) -> str:
    """FFmpeg's own words on why it cannot open a file, as in "moov atom not found".

    PyAV drops FFmpeg's log unless a level is set, and a level is global: so the open is tried again with the log
    caught for this thread, and the level is put back.
    """
    level, repeats = av.logging.get_level(), av.logging.get_skip_repeated()
    av.logging.set_level(av.logging.ERROR)
    av.logging.set_skip_repeated(False)
    try:
        with av.logging.Capture() as logs:
            with suppress(av.error.FFmpegError, OSError, ValueError):
                _open(path, deadline).close()
            said = [" ".join(str(message).split()) for _, _, message in logs]
    finally:
        av.logging.set_level(level)
        av.logging.set_skip_repeated(repeats)
    return ": ".join([brief(error), *said[:1]])


def brief(error: BaseException) -> str:
    """The words of a PyAV error without its number and its path."""
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return " ".join(str(text).split())


def _os_reason(error: Exception) -> str:
    return (getattr(error, "strerror", None) or str(error)).lower()


def _kind(mode: int) -> str:
    kinds = {
        stat.S_IFDIR: "directory",
        stat.S_IFIFO: "named pipe",
        stat.S_IFSOCK: "socket",
        stat.S_IFCHR: "device",
        stat.S_IFBLK: "device",
    }
    return kinds.get(stat.S_IFMT(mode), "special file")
