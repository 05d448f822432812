"""A user's own folder of videos, with a captions.csv or captions.json, or with no captions at all."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import ClassVar

from lab.datasets.assemble import Row, assemble
from lab.datasets.collection import Collection, Expected, Splits
from lab.datasets.reading import read_csv, read_json
from lab.datasets.tree import VIDEO_SUFFIXES, Tree, Videos, some, stem, suffix
from lab.download import Source
from lab.errors import LabError

_SPLITS = {"train": "train", "val": "val", "validation": "val", "dev": "val", "test": "test"}
_ALL: Splits = {"all": "all"}


@dataclass(frozen=True)
class _Line:
    where: str  # "line 3" or "entry 3"
    video: str
    caption: str
    split: str


class Folder:
    """Ids are paths relative to the root, as the captions file writes them; every other video below is included too.

    Protocols: ``all`` holds every video as split "all". A split column gives ``given``, --split gives
    ``70/10/20-seed0``; either then comes first, and videos without captions are in ``all`` alone.
    """

    name = "folder"
    protocols: tuple[str, ...] = ("all",)
    default_sampling = "midpoints-12"
    expected: ClassVar[Expected] = {}
    sources: tuple[Source, ...] = ()
    instructions = (
        "put videos into the root, and beside them captions.csv with the columns video,caption and optionally split "
        "(train, val, test)"
    )

    def read(self, root: Path, *, split: str | None = None, seed: int = 0) -> Collection:
        """See ``Dataset.read``. ``split`` as "70/10/20" divides the captioned videos by ``seed``.

        Raises LabError too where captions.csv names no file that exists, and where there is no video at all.
        """
        shares = None if split is None else _shares(split)
        tree = Tree(root, self.name)
        notes = list(tree.notes)
        source, lines = _read_lines(tree, notes)
        files = tree.videos(())
        found = {key: _file(tree, files, key) for key in dict.fromkeys(line.video for line in lines)}
        captioned = list(found)
        _check_found(tree, source, found, notes)
        others = _others(tree, found)
        if not found and not others:
            raise LabError(f"no video is below {tree.root}: name the folder that holds them with --root")
        if others and lines and source is not None:
            notes.append(f"{len(others):,} videos are not in {source.name}: {some(others)}")
        found |= {key: tree.root / key for key in others}
        given = _given(source, lines, notes)
        if shares is not None:
            if given:
                notes.append(f"the split column is set aside for --split {split}")
            protocol, chosen = f"{split}-seed{seed}", _divide(captioned, shares, seed, str(split))
        else:
            protocol, chosen = "given", given
        views: dict[str | None, Splits] = {name: {protocol: name, **_ALL} for name in set(chosen.values())}
        videos = {key: views[chosen[key]] if key in chosen else _ALL for key in sorted(found)}
        captions: dict[str, list[Row]] = {}
        for line in lines:
            captions.setdefault(line.video, []).append((line.caption, videos[line.video]))
        return assemble(
            self.name,
            tree.root,
            videos=videos,
            captions=captions,
            files=found,
            protocols=(protocol, "all") if chosen else ("all",),
            expected={},
            notes=notes + files.notes(),
        )


def _read_lines(tree: Tree, notes: list[str]) -> tuple[Path | None, list[_Line]]:
    """The rows of captions.csv or captions.json, with clean video names."""
    table, tagged = tree.root / "captions.csv", tree.root / "captions.json"
    if table.is_file():
        if tagged.is_file():
            notes.append("captions.csv is read, captions.json beside it is not")
        rows = read_csv(table, ("video", "caption"), ("split",))
        lines = [(f"line {number}", row["video"], row["caption"], row.get("split", "")) for number, row in rows]
        source = table
    elif tagged.is_file():
        lines, source = list(_json_lines(tagged)), tagged
    else:
        notes.append("no captions.csv is there: the videos can be searched, not studied")
        return None, []
    return source, [_Line(where, _clean(source, where, video), text, part) for where, video, text, part in lines]


def _json_lines(path: Path) -> Iterable[tuple[str, str, str, str]]:
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
                raise LabError(f"{shape}, {where} has {entry!r:.80}: video, caption and split must be text")
            yield where, entry["video"], text.strip(), part


def _clean(source: Path, where: str, name: str) -> str:
    """A name as a relative POSIX path. Raises LabError for one that would leave the root."""
    path = PurePosixPath(name.replace("\\", "/"))
    absolute = path.is_absolute() or bool(PureWindowsPath(name).drive)
    if absolute or ".." in path.parts or "\0" in name:
        raise LabError(f"{source.name} {where}: a video must be a path below {source.parent}, got {name!r}")
    if not path.parts:
        raise LabError(f"{source.name} {where}: the video is empty: name a file below {source.parent}")
    return path.as_posix()


def _file(tree: Tree, files: Videos, name: str) -> Path | None:
    """The file that a captions file means: the very path, the path with an extension, or its one match further down."""
    if tree.entries.get(name) is False:
        return tree.root / name
    folder, _, last = name.rpartition("/")
    same = [path for path in files.candidates(last) if path.rpartition("/")[0] == folder]
    if same:
        return tree.root / files.best(name, same)
    if name in tree.entries:
        return tree.root / name
    if not folder:
        deeper = [path for path in files.candidates(stem(last)) if path.rpartition("/")[2] == last]
        deeper = deeper or files.candidates(last)
        if len(deeper) == 1:
            return tree.root / deeper[0]
    return None


def _check_found(tree: Tree, source: Path | None, found: Mapping[str, Path | None], notes: list[str]) -> None:
    """A note on named files that do not exist. Raises LabError where none does."""
    absent = [key for key, path in found.items() if path is None]
    if source is None or not absent:
        return
    if len(absent) == len(found):
        raise LabError(
            f"{source.name} names {len(found):,} videos and none of them is below {tree.root}: {some(absent)}; "
            "name them as paths relative to that folder"
        )
    notes.append(f"{len(absent):,} of {len(found):,} videos that {source.name} names do not exist: {some(absent)}")


def _others(tree: Tree, found: Mapping[str, Path | None]) -> list[str]:
    """Entries with the extension of a video that no caption names, sorted."""
    taken = {path.relative_to(tree.root).as_posix() for path in found.values() if path is not None}
    return sorted(path for path in tree.entries if suffix(path) in VIDEO_SUFFIXES and path not in taken | found.keys())


def _given(source: Path | None, lines: Sequence[_Line], notes: list[str]) -> dict[str, str]:
    """Id -> split from the split column. Raises LabError for an unknown split and for a video in two."""
    chosen: dict[str, str] = {}
    for line in lines:
        if not line.split:
            continue
        part = _SPLITS.get(line.split.strip().lower())
        if part is None or source is None:
            raise LabError(
                f"split must be train, val or test, {source and source.name} {line.where} has {line.split!r}"
            )
        if chosen.setdefault(line.video, part) != part:
            raise LabError(
                f"a video belongs to one split, {source.name} {line.where} puts {line.video} into {part} "
                f"and an earlier one into {chosen[line.video]}"
            )
    without = [key for key in dict.fromkeys(line.video for line in lines) if key not in chosen]
    if chosen and without:
        notes.append(f"{len(without):,} videos have no split and are in none: {some(without)}")
    return chosen


def _shares(split: str) -> dict[str, float]:
    """Split -> share of 100. Raises LabError unless it is three numbers that sum to 100."""
    rule = f"--split must be train/val/test in percent with the sum 100, as in 70/10/20, got {split!r}"
    try:
        shares = [float(part) for part in split.split("/")]
    except ValueError as error:
        raise LabError(rule) from error
    # written so that NaN fails it
    if len(shares) != 3 or not all(0 <= share <= 100 for share in shares) or abs(sum(shares) - 100) > 1e-6:
        raise LabError(rule)
    return dict(zip(("train", "val", "test"), shares, strict=True))


def _divide(ids: Sequence[str], shares: Mapping[str, float], seed: int, split: str) -> dict[str, str]:
    """Id -> split. The ids are ordered by a hash of seed and id, so the same on every machine and Python.

    Sizes are rounded by largest remainder; each split with a share gets one video at least.
    """
    wanted = [name for name, share in shares.items() if share > 0]
    if len(ids) < len(wanted):
        raise LabError(f"--split {split} needs {len(wanted)} videos with captions at least, found {len(ids)}: add some")
    exact = {name: shares[name] * len(ids) / 100 for name in wanted}
    sizes = {name: max(1, int(exact[name])) for name in wanted}
    while (rest := len(ids) - sum(sizes.values())) != 0:
        step = 1 if rest > 0 else -1
        name = max(
            (name for name in wanted if sizes[name] + step > 0), key=lambda name: step * (exact[name] - sizes[name])
        )
        sizes[name] += step
    ranked = sorted(ids, key=lambda key: hashlib.sha256(f"{seed}\0{key}".encode()).digest())
    names = [name for name in wanted for _ in range(sizes[name])]
    return dict(zip(ranked, names, strict=True))
