"""The captions file of a user's own folder: captions.csv or captions.json."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath

from lab.datasets.reading import read_csv, read_json, short
from lab.datasets.tree import VIDEO_SUFFIXES
from lab.errors import LabError

_LISTS = (".csv", ".tsv", ".jsonl")
_SPLITS = {"train": "train", "val": "val", "validation": "val", "dev": "val", "test": "test"}


@dataclass(frozen=True)
class Line:
    """One caption: of which video (a clean relative path), in which split ("" where none is given), from where."""

    where: str
    video: str
    caption: str
    split: str


@dataclass(frozen=True)
class CaptionsFile:
    """What captions.csv or captions.json says; ``name`` is the file's, ``lines`` are in its order."""

    name: str
    lines: tuple[Line, ...]

    def videos(self) -> list[str]:
        """The named videos, each once, in order."""
        return list(dict.fromkeys(line.video for line in self.lines))

    def splits(self, alias: Mapping[str, str]) -> dict[str, str]:
        """Id -> split, of the videos that have one; ``alias`` gives the id of a name, as one video may have several.

        Raises LabError for an unknown split or a video in two.
        """
        chosen: dict[str, str] = {}
        for line in self.lines:
            if not line.split:
                continue
            part = _SPLITS.get(line.split.lower())
            if part is None:
                raise LabError(f"split must be train, val or test, {self.name} {line.where} has {line.split!r}")
            key = alias[line.video]
            if chosen.setdefault(key, part) != part:
                named = line.video if line.video == key else f"{line.video} (which is {key})"
                raise LabError(
                    f"a video belongs to one split, {self.name} {line.where} puts {named} into {part} "
                    f"and an earlier one into {chosen[key]}: choose one"
                )
        return chosen


def read_captions_file(root: Path, notes: list[str]) -> CaptionsFile | None:
    """captions.csv, else captions.json, else None. Raises LabError where it lacks columns or names a path outside."""
    table, tagged = root / "captions.csv", root / "captions.json"
    if table.is_file():
        if tagged.is_file():
            notes.append("captions.csv is read, captions.json beside it is not")
        rows = read_csv(table, ("video", "caption"), ("split",))
        found = [(f"line {number}", row["video"], row["caption"], row.get("split", "")) for number, row in rows]
        return _clean(table, found)
    return _clean(tagged, _json_rows(tagged)) if tagged.is_file() else None


def other_lists(root: Path, files: Iterable[str]) -> list[str]:
    """Those of the ``files`` in the root that may hold captions under a name that is not read.

    Raises LabError for one whose name differs by capitals alone.
    """
    near = [
        name
        for name in files
        if (name.lower().startswith("captions.") and Path(name).suffix.lower() not in VIDEO_SUFFIXES)
        or name.lower().endswith(_LISTS)
    ]
    for name in near:
        if name in ("captions.csv", "captions.json"):
            raise LabError(f"{root / name} is a link to a file that is not there: mount its disk, or remove the link")
        if name.lower() in ("captions.csv", "captions.json"):
            raise LabError(f"{root / name} is not read under that name: rename it {name.lower()}")
    return near


def _json_rows(path: Path) -> Iterator[tuple[str, str, str, str]]:
    found = read_json(path)
    shape = f'{path} must be [{{"video": ..., "caption": ...}}, ...] or {{video: [captions]}}'
    if isinstance(found, dict):
        found = [{"video": key, "caption": texts} for key, texts in found.items()]
    if not isinstance(found, list):
        raise LabError(f"{shape}, it holds a {type(found).__name__}")
    for number, entry in enumerate(found, 1):
        where = f"entry {number}"
        if not isinstance(entry, dict) or "video" not in entry or "caption" not in entry:
            keys = ", ".join(map(str, entry)) if isinstance(entry, dict) else type(entry).__name__
            raise LabError(f"{shape}, {where} has {keys or 'nothing'}: give it video and caption")
        texts = entry["caption"] if isinstance(entry["caption"], list) else [entry["caption"]]
        part = entry.get("split") or ""
        for text in texts:
            if not all(isinstance(field, str) for field in (entry["video"], text, part)):
                raise LabError(f"{shape}, {where} has {short(entry)}: video, caption and split must be text")
            yield where, entry["video"], text.strip(), part.strip()


def _clean(path: Path, rows: Iterable[tuple[str, str, str, str]]) -> CaptionsFile:
    lines: Sequence[Line] = [
        Line(where, _relative(path, where, video), text, part) for where, video, text, part in rows
    ]
    if not lines:
        raise LabError(f"{path} has no captions: add rows, or remove it to search the videos alone")
    return CaptionsFile(path.name, tuple(lines))


def _relative(source: Path, where: str, name: str) -> str:
    """A name as a relative POSIX path. Raises LabError for one that would leave the root."""
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or PureWindowsPath(name).is_absolute() or ".." in path.parts or min(name, default="a") < " ":
        raise LabError(f"a video must be a path below {source.parent}, {source.name} {where} has {name!r}")
    if not path.parts:
        raise LabError(f"a video must be a path below {source.parent}, {source.name} {where} has none: name a file")
    return path.as_posix()
