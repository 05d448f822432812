"""The one door of every command: arguments in, an exit code out, and one line on stderr where something is wrong.

A command module ends with ``if __name__ == "__main__": sys.exit(run(main))``. Exit codes: 0 done, 1 done but with
failures that were listed, 2 refused (also argparse's own), 130 interrupted, 141 nobody reads the output any more.
"""

from __future__ import annotations

import argparse
import errno
import io
import logging
import os
import re
import shlex
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from tqdm import tqdm

from lab.errors import LabError

log = logging.getLogger(__name__)

_FULL = "{what}: free some space and run the same command again"
_DENIED = "{what}: choose a directory that you may write to, or change its permissions"
_LACKS = (
    "the disk lacks what is asked of it, file locks most likely: mount it with them (Lustre: -o flock), or use another"
)
_FAILS = "{what}: look after it, then run the same command again"
#: What clears a terminal, renames its window or turns a line's end to its front: the names of files and of other
#: people's heads may hold it.
_CONTROLS = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160)) if chr(code) not in "\n\t"} | {
    code: f"\\u{code:04x}" for code in (*range(0x202A, 0x202F), *range(0x2066, 0x206A))
}
_IN_A_LINE = {**_CONTROLS, ord("\n"): "\\n"}  # for what is one line, so that none within it passes for another one
_REMEDIES = {
    errno.ENOSPC: _FULL.format(what="no space left on the disk"),
    errno.EDQUOT: _FULL.format(what="the disk quota is used up"),
    errno.EACCES: _DENIED.format(what="permission denied"),
    errno.EPERM: _DENIED.format(what="operation not permitted"),
    errno.EROFS: _DENIED.format(what="the file system is read-only"),
    errno.EEXIST: "something else is there already: move it away, or name another path",
    errno.ENOTDIR: "a file is there where a directory is needed: move it away, or name another path",
    errno.EISDIR: "a directory is there where a file is needed: name a file",
    errno.EFBIG: "the file is larger than may be written here: raise the limit (ulimit -f), or choose another disk",
    errno.EIO: _FAILS.format(what="the disk fails"),
    errno.ESTALE: _FAILS.format(what="the network's disk went away"),
    errno.ENOLCK: _LACKS,
    errno.ENOSYS: _LACKS,
    errno.EOPNOTSUPP: _LACKS,
    errno.EMFILE: "too many files are open: raise the limit (ulimit -n), or use fewer workers",
    errno.ENAMETOOLONG: "the name is too long for the file system: choose a shorter one",
}


def run(
    main: Callable[[Sequence[str] | None], int], argv: Sequence[str] | None = None, *, goes_on: bool = False
) -> int:
    """The exit code of ``main(argv)``; what it raises becomes one line on stderr, unless it is a bug (a traceback).

    ``goes_on``: the same command goes on from what an earlier one has left, which is then said where one ends early.
    """
    name = _name(main)
    _open_streams()
    handler = _Lines()
    root, level = logging.getLogger(), logging.getLogger().level
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    try:
        code = main(argv)
        sys.stdout.flush()  # here, so that a closed pipe is met inside this try and not at interpreter exit
    except BrokenPipeError:
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115 - the exit flush needs somewhere to go
        return 141
    except KeyboardInterrupt:
        how = ": what is done is kept; run the same command to go on" if goes_on else ""
        return _complain(name, f"interrupted{how}", 130)
    except LabError as error:
        log.debug("raised here", exc_info=error)
        return _complain(name, f"error: {error}", 2)
    except Exception as error:
        line = _remedy(error)
        if line is None:
            raise
        log.debug("raised here", exc_info=error)
        return _complain(name, f"error: {line}", 2)
    finally:
        root.removeHandler(handler)
        root.setLevel(level)
    return code


def parser(name: str, about: str, example: str) -> argparse.ArgumentParser:
    """An argument parser for ``python -m name`` whose --help ends with an example, and that knows ``-v``."""
    made = argparse.ArgumentParser(
        prog=f"python -m {name}",
        description=about,
        epilog=f"example:\n  {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,  # an abbreviation that works today would mean another option tomorrow
    )
    made.add_argument("-v", "--verbose", action=_Verbose, help="say more, with tracebacks of errors")
    return made


def say(text: str) -> None:
    """One piece of a command's result, on stdout; progress and warnings go to stderr through logging."""
    tqdm.write(text.translate(_CONTROLS), file=sys.stdout)


def typed(command: str, arguments: Sequence[str] | None = None) -> str:
    """A command as a shell takes it, to be written down beside what it made; by default this process's arguments."""
    return shlex.join(["python", "-m", command, *map(unsecret, sys.argv[1:] if arguments is None else arguments)])


def unsecret(word: str) -> str:
    """A word of a command line without who asks an address and by which password: results are handed on.

    >>> unsecret("postgresql+psycopg://me:secret@host/lab")
    'postgresql+psycopg://host/lab'
    """
    return re.sub(r"([?&]password=)[^&\s]*", r"\1...", re.sub(r"://.*@", "://", word, flags=re.DOTALL))


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Rows in aligned columns, numbers (and what ends in a unit) to the right as long as the whole column is.

    >>> table(["status", "videos"], [["ok", 12], ["missing", 3]]).splitlines()
    ['status   videos', 'ok           12', 'missing       3']
    """
    cells = [[str(cell).replace("\n", "\\n") for cell in row] for row in rows]
    widths = [max(len(row[i]) for row in [list(header), *cells]) for i in range(len(header))]
    right = [
        bool(rows) and all(row[i][:1].isdigit() or row[i] in ("", "-") for row in cells) for i in range(len(header))
    ]
    return "\n".join(
        "  ".join(c.rjust(w) if r else c.ljust(w) for c, w, r in zip(row, widths, right, strict=True)).rstrip()
        for row in [list(header), *cells]
    )


def bar(total: float | None, what: str, unit: str = "it", done: float = 0) -> Any:
    """A tqdm bar on stderr with rate and time left; where nobody watches (a log file), a line every ten seconds."""
    size = {"unit_scale": True, "unit_divisor": 1024} if unit == "B" else {}
    pause = 0.2 if sys.stderr.isatty() else 10.0
    # leave=None: a bar within another one vanishes when it is full, the outermost stays
    return tqdm(total=total, desc=what, unit=unit, initial=done, mininterval=pause, file=sys.stderr, leave=None, **size)


class _Lines(logging.Handler):
    """Log lines on the stderr of the moment, above a progress bar; of other packages only warnings."""

    def filter(self, record: logging.LogRecord) -> bool:
        ours = record.name.split(".")[0] in ("lab", "__main__")
        return ours or record.levelno >= logging.WARNING

    def emit(self, record: logging.LogRecord) -> None:
        prefix = "" if record.levelno == logging.INFO else f"{record.levelname.lower()}: "
        message = record.getMessage()
        traceback = self.format(record)[len(message) :]  # if there is one
        tqdm.write(prefix + message.translate(_IN_A_LINE) + traceback.translate(_CONTROLS), file=sys.stderr)


class _Verbose(argparse.Action):
    """Acts while parsing, so that a command needs no line of its own for it."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(nargs=0, **kwargs)

    def __call__(self, *_: Any) -> None:
        logging.getLogger().setLevel(logging.DEBUG)


def _name(main: Callable[..., int]) -> str:
    """The module of ``main`` as its user called it: under ``python -m`` its ``__name__`` is ``__main__``."""
    spec = main.__globals__.get("__spec__") if hasattr(main, "__globals__") else None
    return spec.name.removesuffix(".__main__") if spec is not None else main.__module__


def _complain(name: str, line: str, code: int) -> int:
    with suppress(OSError):  # a full disk may be the one that stderr is on
        tqdm.write(f"{name}: {line}".translate(_IN_A_LINE), file=sys.stderr)
    return code


def _open_streams() -> None:
    """Streams that a shell has closed lead nowhere; letters that one cannot show are escaped."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: PTH123, SIM115 - open as long as Python
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _remedy(error: BaseException) -> str | None:
    """One line for a failure of the machine rather than of the program, also where a library wrapped it."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":  # torch's, without importing torch
        return f"out of memory ({_first_line(error)}): use a smaller batch, or a machine with more memory"
    number = error.errno if isinstance(error, OSError) else None
    if number is None and isinstance(error, OSError | RuntimeError):  # HDF5 and torch keep the number in their text
        found = re.search(r"errno = (\d+)", str(error))
        number = int(found[1]) if found else None
    if number in _REMEDIES:
        where = f" ({error.filename})" if isinstance(error, OSError) and error.filename else ""
        return f"{_REMEDIES[number]}{where}"
    return _remedy(error.__cause__) if error.__cause__ is not None else None


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
