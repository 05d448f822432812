"""List and caption files as people have them: text, JSON, and one pickle that must not run anything."""

from __future__ import annotations

import codecs
import csv
import hashlib
import io
import json
import reprlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from lab.datasets.unpickle import NotPlainError, plain
from lab.errors import LabError

# A value in a message: bounded, also for what is nested a million times or holds itself.
short = reprlib.repr
_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_MARKS = {",": "comma", ";": "semicolon", "\t": "tab"}


def read_text(path: Path) -> str:
    """A UTF-8 file, less a byte order mark. Raises LabError where it cannot be read."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise LabError(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        found = "it is UTF-16" if error.object[:2] in _UTF16 else f"byte {error.start} is not"
        raise LabError(f"{path} must be UTF-8, {found}: save it again as UTF-8") from error


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
        raise LabError(f"{path} must be JSON, line {error.lineno} is not ({error.msg}): get the file again") from error
    except (RecursionError, ValueError) as error:
        raise LabError(f"{path} must be JSON, this is none that can be read ({error}): get the file again") from error


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
        raise LabError(f"{path} must be CSV, line {rows.line_num} is not: {error}") from error


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
    absent = [name for name in columns if name not in header]
    if absent:
        found = ", ".join(repr(name) for name in header) or "none"
        raise LabError(
            f"{path} needs the columns {', '.join(columns)}; its first line has {found}: add {', '.join(absent)}"
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
        return plain(path.read_bytes())
    except NotPlainError as error:
        raise LabError(
            f"{path} must hold lists and strings alone, it asks for {error}: it is not loaded; use captions_msvd.json, "
            "or get it from its authors"
        ) from error
    except Exception as error:  # a damaged pickle raises nearly anything
        raise LabError(f"{path} must be a pickle, it cannot be read ({short(error)}): get the file again") from error


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
