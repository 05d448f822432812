"""The captions file of a user's own folder: captions.csv or captions.json."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath

from lab.datasets.reading import read_csv, read_json, short
from lab.datasets.tree import VIDEO_SUFFIXES, Tree, some, suffix
from lab.errors import LabError

_READ = ("captions.csv", "captions.json")
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


def read_captions_file(tree: Tree) -> CaptionsFile:
    """captions.csv, else captions.json, else one without lines, of which a note tells.

    Raises LabError where it lacks columns or names a path outside, and where it has another name by capitals alone.
    """
    table, tagged = tree.root / "captions.csv", tree.root / "captions.json"
    if table.exists():
        if tagged.exists():
            tree.notes.append("captions.csv is read, captions.json beside it is not")
        rows = read_csv(table, ("video", "caption"), ("split",))
        return _clean(table, ((f"line {at}", row["video"], row["caption"], row.get("split", "")) for at, row in rows))
    if tagged.exists():
        return _clean(tagged, _json_rows(tagged))
    near = _near(tree)
    but = f" (but {some(near)}: what has the captions must be called captions.csv)" if near else ""
    tree.notes.append(f"no captions.csv is there{but}: the videos can be searched, not studied")
    return CaptionsFile(table.name, ())


def _near(tree: Tree) -> list[str]:
    """The files in the root that may hold captions under a name that is not read."""
    near = []
    for name in (path for path, is_dir in tree.entries.items() if not (is_dir or "/" in path)):
        if name in _READ:
            raise LabError(
                f"{tree.root / name} is a link to a file that is not there: mount its disk, or remove the link"
            )
        if name.lower() in _READ:
            raise LabError(f"{tree.root / name} is not read under that name: rename it {name.lower()}")
        ours = name.lower().startswith("captions.") and suffix(name) not in VIDEO_SUFFIXES
        if ours or name.lower().endswith(_LISTS):
            near.append(name)
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
    lines = tuple(Line(where, _relative(path, where, video), text, part) for where, video, text, part in rows)
    if not lines:
        raise LabError(f"{path} has no captions: add rows, or remove it to search the videos alone")
    return CaptionsFile(path.name, lines)


def _relative(source: Path, where: str, name: str) -> str:
    """A name as a relative POSIX path. Raises LabError for one that would leave the root."""
    path = PurePosixPath(name.replace("\\", "/"))
    outside = path.is_absolute() or PureWindowsPath(name).is_absolute() or ".." in path.parts
    if outside or not path.parts or min(name) < " ":
        raise LabError(
            f"a video must be named by its path from {source.parent}, without .. and line breaks, "
            f"{source.name} {where} has {name!r}: write it as in clips/a.mp4"
        )
    return path.as_posix()
