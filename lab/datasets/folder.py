"""A user's own folder of videos, with a captions.csv or captions.json, or with no captions at all."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import ClassVar

from lab.datasets.assemble import assemble
from lab.datasets.captions import CaptionsFile, read_captions_file
from lab.datasets.collection import Collection, Expected, Splits
from lab.datasets.divide import divide, parse_shares
from lab.datasets.tree import VIDEO_SUFFIXES, Tree, Videos, some, stem, suffix
from lab.download import Source
from lab.errors import LabError

_ALL: Splits = {"all": "all"}


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

        Raises LabError too where the captions file names no file that exists, and where there is no video at all.
        """
        shares = None if split is None else parse_shares(split)
        tree = Tree(root, self.name)
        sheet = read_captions_file(tree)
        files = Videos(tree)
        named, alias = _match(tree, files, sheet)
        found = named | _others(tree, named)
        if not found:
            raise LabError(
                f"--root must be a folder with videos, {tree.root} has none: name the folder that holds them"
            )
        protocol, chosen = "given", _given(sheet, alias, tree.notes)
        if shares is not None:
            if chosen:
                tree.notes.append(f"the split column is set aside for --split {split}")
            protocol = "/".join(f"{share:g}" for share in shares.values()) + f"-seed{seed}"
            chosen = divide(list(named), shares, seed)
            tree.notes += _without_files(named, chosen, split)
        views: dict[str, Splits] = {name: {protocol: name, **_ALL} for name in set(chosen.values())}
        captions: dict[str, list[str]] = {}
        for line in sheet.lines:
            captions.setdefault(alias[line.video], []).append(line.caption)
        return assemble(
            self.name,
            tree.root,
            videos={key: views[chosen[key]] if key in chosen else _ALL for key in sorted(found)},
            captions=captions,
            files=found,
            protocols=(protocol, "all") if chosen else ("all",),
            expected=self.expected,
            notes=[*tree.notes, *files.notes()],
        )


def _match(tree: Tree, files: Videos, sheet: CaptionsFile) -> tuple[dict[str, Path | None], dict[str, str]]:
    """Id -> file of the videos that a captions file names, and name -> id ("clip" and "clip.mp4" may be one file)."""
    named: dict[str, Path | None] = {}
    owner: dict[Path, str] = {}
    alias: dict[str, str] = {}
    absent, doubts = [], []
    for name in sheet.videos():
        path, could_be = _file(tree, files, name)
        alias[name] = owner.setdefault(path, name) if path else name
        named[alias[name]] = path
        if could_be:
            doubts.append(f"{name} could be {' or '.join(could_be[:3])}")
        elif path is None:
            absent.append(name)
    count = len(named)
    if count and len(doubts) + len(absent) == count:
        if doubts:
            raise LabError(
                f"{sheet.name} must name each video by one path below {tree.root}, {some(doubts)}: write the path"
            )
        raise LabError(
            f"{sheet.name} must name videos below {tree.root}, of its {count:,} none exists "
            f"({some(_cased(tree, absent))}): write them as paths relative to that folder"
        )
    if doubts:
        tree.notes.append(
            f"{len(doubts):,} of {count:,} videos that {sheet.name} names are unclear, {some(doubts)}: write the path"
        )
    if absent:
        tree.notes.append(
            f"{len(absent):,} of {count:,} videos that {sheet.name} names do not exist: {some(_cased(tree, absent))}"
        )
    return named, alias


def _without_files(named: Mapping[str, Path | None], chosen: Mapping[str, str], split: str | None) -> Iterable[str]:
    """A note for each split that was dealt nothing to look at.

    Not only the files that are there are dealt: one that comes later would move others between splits.
    """
    for name in dict.fromkeys(chosen.values()):
        dealt = [named[key] for key, part in chosen.items() if part == name]
        if not any(map(_has_bytes, dealt)):
            yield (
                f"--split {split}: no video of {name} ({len(dealt):,}) has a file with content: mend captions.csv and "
                "the files, or take another --seed"
            )


def _cased(tree: Tree, absent: Iterable[str]) -> list[str]:
    """Names of no file, each with the video whose path differs from it by capitals alone, if there is one."""
    near: dict[str, str] = {}
    for path in tree.entries:
        if suffix(path) in VIDEO_SUFFIXES:
            near |= {path.lower(): path, stem(path).lower(): path}
    return [f"{name} (but {near[name.lower()]})" if name.lower() in near else name for name in absent]


def _has_bytes(path: Path | None) -> bool:
    try:
        return path is not None and path.stat().st_size > 0
    except OSError:
        return False


def _file(tree: Tree, files: Videos, written: str) -> tuple[Path | None, list[str]]:
    """The file that a captions file means: the very path, the path with an extension, or its one match further down.

    None where there is no match or several, which come beside it as paths below the root.
    """
    several: list[str] = []
    # macOS decomposes accents in file names, and tables written elsewhere do not
    for name in dict.fromkeys((written, *(unicodedata.normalize(form, written) for form in ("NFC", "NFD")))):
        if tree.entries.get(name) is False:
            return tree.root / name, []
        folder, _, last = name.rpartition("/")
        same = [path for path in files.candidates(last) if path.rpartition("/")[0] == folder]
        if same:
            return files.best(name, same), []
        if name in tree.entries:
            return tree.root / name, []
        if not folder:
            deeper = [path for path in files.candidates(stem(last)) if path.rpartition("/")[2] == last]
            deeper = deeper or files.candidates(last)
            if len(deeper) == 1:
                return tree.root / deeper[0], []
            several = several or sorted(deeper)
    return None, several


def _others(tree: Tree, named: Mapping[str, Path | None]) -> dict[str, Path | None]:
    """Id -> file of entries with the extension of a video that no caption names."""
    taken = {*named.values(), *(tree.root / key for key in named)}
    others = {path: tree.root / path for path in tree.entries if suffix(path) in VIDEO_SUFFIXES}
    return {path: file for path, file in others.items() if file not in taken}


def _given(sheet: CaptionsFile, alias: Mapping[str, str], notes: list[str]) -> dict[str, str]:
    """Id -> split from the split column."""
    chosen = sheet.splits(alias)
    without = [key for key in dict.fromkeys(alias.values()) if key not in chosen]
    if chosen and without:
        notes.append(f"{len(without):,} videos of {sheet.name} have no split and are in none: {some(without)}")
    return chosen
