"""List and caption files as people have them: text, JSON, and one pickle that must not run anything."""

from __future__ import annotations

import codecs
import csv
import hashlib
import io
import json
import pickle
import pickletools
import reprlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from lab.errors import LabError

_AGAIN = "mend that line, or get the file again"
# A value in a message: bounded, also for what is nested a million times or holds itself.
short = reprlib.repr
_OTHERS = {codecs.BOM_UTF16_LE: "UTF-16", codecs.BOM_UTF16_BE: "UTF-16", b"PK": "a spreadsheet or an archive"}
_MARKS = {",": "comma", ";": "semicolon", "\t": "tab"}
# Opcodes of a pickle that make strings, numbers, lists, tuples and dicts, and remember them; none calls anything.
_PLAIN = frozenset(
    """PROTO FRAME STOP MARK NONE NEWTRUE NEWFALSE INT BININT BININT1 BININT2 LONG LONG1 LONG4 FLOAT BINFLOAT
    STRING BINSTRING SHORT_BINSTRING UNICODE BINUNICODE SHORT_BINUNICODE BINUNICODE8 EMPTY_LIST LIST APPEND APPENDS
    EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 EMPTY_DICT DICT SETITEM SETITEMS
    PUT BINPUT LONG_BINPUT MEMOIZE GET BINGET LONG_BINGET""".split()  # noqa: SIM905 - fifty pairs of quotes
)


def read_text(path: Path) -> str:
    """A UTF-8 file, less a byte order mark. Raises LabError where it cannot be read."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise LabError(f"{path} cannot be read: {error.strerror}; a file that you may read must be there") from error
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        other = _OTHERS.get(error.object[:2])
        found = f"it is {other}" if other else f"line {line} is not"
        raise LabError(f"{path} must be text in UTF-8, {found}: save it again as UTF-8") from error


def read_lines(path: Path) -> list[str]:
    """The lines that are not blank, stripped. A last line without a newline counts (CE's lists have none)."""
    # not splitlines(): that also cuts at U+2028 and form feeds, which captions may hold
    return [line for raw in read_text(path).split("\n") if (line := raw.strip())]


def read_json(path: Path) -> Any:
    """What a JSON file holds. Raises LabError with the line where it is not JSON, and for a key that it has twice."""
    text = read_text(path)
    pairs: list[tuple[str, Any]] = []

    def outermost(found: list[tuple[str, Any]]) -> dict[str, Any]:  # which is told last
        pairs[:] = found
        return dict(found)

    try:
        found = json.loads(text, object_pairs_hook=outermost)
        if isinstance(found, dict) and len(found) < len(pairs):
            twice = next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
            raise LabError(f"{path} has {short(twice)} twice, of which JSON keeps the last: put both under one")
        if "\\ud" in text.lower():  # half of a character pair can be written in JSON, and nowhere else
            json.dumps(found, ensure_ascii=False).encode()
        return found
    except json.JSONDecodeError as error:
        raise LabError(f"{path} must be JSON, line {error.lineno} is not ({error.msg}): {_AGAIN}") from error
    except (RecursionError, ValueError) as error:
        raise LabError(f"{path} must be JSON, this is none that can be read ({error}): {_AGAIN}") from error


def read_csv(path: Path, columns: Sequence[str], optional: Sequence[str] = ()) -> list[tuple[int, dict[str, str]]]:
    """Rows as (line number, column -> text). Raises LabError naming the columns found, or the line that is wrong.

    Fields are parted by commas, or by what parts the columns in the first line: spreadsheets write semicolons or tabs.
    """
    text = read_text(path)
    mark = _mark(text[:4096].partition("\n")[0], columns)
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=mark, strict=True)
    try:
        return list(_csv_rows(path, rows, columns, optional, _MARKS[mark]))
    except csv.Error as error:
        raise LabError(
            f"{path} must be CSV, line {rows.line_num} is not ({error}): close double quotes, double those in a text"
        ) from error


def _mark(first: str, columns: Sequence[str]) -> str:
    """What parts the fields, by the first line: the mark with which it has all columns, else the comma."""
    fitting = [mark for mark in _MARKS if {*columns} <= {*_names(next(csv.reader([first], delimiter=mark), []))}]
    return fitting[0] if fitting else ","


def _names(header: Iterable[str]) -> list[str]:
    return [name.strip().lower() for name in header]


def _csv_rows(
    path: Path, rows: Any, columns: Sequence[str], optional: Sequence[str], mark: str
) -> Iterator[tuple[int, dict[str, str]]]:
    header = _names(next(rows, []))
    absent = [name for name in columns if header.count(name) != 1]
    if absent:
        found = ", ".join(repr(name) for name in header) or "none"
        raise LabError(
            f"{path} needs the columns {', '.join(columns)}, each once; its first line has {found}: "
            f"name {', '.join(absent)} there"
        )
    at = {name: header.index(name) for name in (*columns, *optional) if name in header}
    for row in rows:
        if not any(cell.strip() for cell in row):
            continue
        if len(row) != len(header):
            raise LabError(
                f"{path} line {rows.line_num} has {len(row)} fields, its header {len(header)}: "
                f"put a text that holds a {mark} in double quotes"
            )
        yield rows.line_num, {name: row[place].strip() for name, place in at.items()}


def read_pickle(path: Path) -> Any:
    """A pickle of dicts, lists and strings. Raises LabError, having run nothing, for one that asks for more."""
    try:
        data = path.read_bytes()
        asked = _beyond_plain(data)
        if not asked:
            return _Plain(io.BytesIO(data), encoding="latin-1").load()
    except Exception as error:  # a damaged pickle raises nearly anything
        raise LabError(f"{path} must be a pickle, it cannot be read ({short(error)}): get the file again") from error
    raise LabError(
        f"{path} must hold lists and strings alone, it asks for {asked}: it is not loaded; use captions_msvd.json, "
        "or get it from its authors"
    )


class _Plain(pickle.Unpickler):
    """Of a pickle's opcodes those that could run something all need a global; this one finds none."""

    def find_class(self, module: str, name: str) -> Any:
        raise pickle.UnpicklingError(f"{module}.{name} is not plain data")


def _beyond_plain(data: bytes) -> str:
    """What a pickle asks for beyond plain data, or "". Raises nearly anything where it is damaged.

    ``_Plain`` would run nothing either, but a few hostile bytes make it reserve gigabytes, by the length of a
    bytearray or by a place in its memo that no honest pickle of that size can need; and this can say what is asked for.
    """
    names = ("", "")  # the last two strings: what STACK_GLOBAL takes
    for opcode, argument, _ in pickletools.genops(data):
        if opcode.name not in _PLAIN:
            if opcode.name in ("GLOBAL", "INST"):
                return str(argument).replace(" ", ".")
            return ".".join(names) if opcode.name == "STACK_GLOBAL" else f"the opcode {opcode.name}"
        if "PUT" in opcode.name and int(str(argument)) > len(data):
            raise ValueError(f"a memo of {argument} places for {len(data):,} bytes")
        if isinstance(argument, str):
            names = (names[1], argument)
    return ""


def check_published(path: Path, md5s: Iterable[str]) -> list[str]:
    """A note where a file's content is not the published one; order of lines, newlines and CRLF do not matter."""
    lines = read_lines(path)
    known = set(md5s)
    texts = [read_text(path), *("\n".join(order) + end for order in (lines, sorted(lines)) for end in ("\n", ""))]
    found, *others = (hashlib.md5(text.encode(), usedforsecurity=False).hexdigest() for text in texts)
    if known & {found, *others}:
        return []
    return [f"{path.name} is not the published file (md5 {found}, published {' or '.join(sorted(known))})"]


def captions_by_id(path: Path, found: object) -> dict[str, list[str]]:
    """A mapping id -> captions, checked; a caption may be a list of tokens, which one space joins."""
    if not isinstance(found, dict):
        raise LabError(
            f"{path} must map ids to lists of captions, it holds a {type(found).__name__}: get the file again"
        )
    captions: dict[str, list[str]] = {}
    for key, texts in found.items():
        if not isinstance(key, str) or not isinstance(texts, list | tuple):
            raise LabError(f"{path} must map ids to lists of captions, at {short(key)} it has a {type(texts).__name__}")
        captions[key] = [_text(path, key, text) for text in texts]
    return captions


def _text(path: Path, key: str, text: object) -> str:
    if isinstance(text, str):
        return text
    if isinstance(text, list | tuple) and all(isinstance(token, str) for token in text):
        return " ".join(text)
    raise LabError(f"{path} must hold captions as text or lists of words, at {short(key)} it has {short(text)}")
