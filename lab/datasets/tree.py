"""What lies below a data set's root: one walk, then lookups of list files by name and of videos by id."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from lab.errors import LabError

VIDEO_SUFFIXES = frozenset(
    {
        ".3g2", ".3gp", ".3gpp", ".asf", ".avi", ".divx", ".f4v", ".flv", ".gif", ".m1v", ".m2ts", ".m2v", ".m4v",
        ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".mxf", ".ogm", ".ogv", ".qt", ".rm", ".rmvb", ".ts", ".vob",
        ".webm", ".wmv",
    }
)  # fmt: skip
# What people keep beside a video under the same name. Any other extension counts as a video when its id is listed:
# DiDeMo has ".null" and names that end in a bare dot.
SIDECARS = frozenset(
    {
        ".aac", ".ass", ".bak", ".csv", ".flac", ".h5", ".hdf5", ".jpeg", ".jpg", ".json", ".log", ".m3u8", ".m4a",
        ".md5", ".mp3", ".npy", ".npz", ".ogg", ".opus", ".part", ".pickle", ".pkl", ".png", ".pt", ".pth",
        ".safetensors", ".sha256", ".srt", ".sub", ".tmp", ".tsv", ".txt", ".vtt", ".wav", ".webp", ".xml", ".yaml",
        ".yml", ".ytdl",
    }
)  # fmt: skip
LIST_DEPTH = 4  # list and caption files sit near the root; deeper ones belong to something else


def stem(name: str) -> str:
    """A file name less its last extension, as os.path.splitext has it; LSMDC's ids hold dots."""
    return os.path.splitext(name)[0]  # noqa: PTH122 - Path("x.").stem keeps the dot that DiDeMo's names end in


def suffix(name: str) -> str:
    """The last extension in lower case, with its dot, or ''."""
    return os.path.splitext(name)[1].lower()  # noqa: PTH122


def some(names: Sequence[str], limit: int = 5) -> str:
    """The first few of many names, and how many more there are."""
    more = f" and {len(names) - limit:,} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more


class Tree:
    """Every entry below a root, found once. ``entries`` maps paths relative to the root to (is it a directory)."""

    def __init__(self, root: Path, dataset: str) -> None:
        self.root = _require(root, dataset)
        self.entries: dict[str, bool] = {}
        self.notes: list[str] = []
        self._walk()

    def _walk(self) -> None:
        """Fill ``entries``, sorted within a directory; links to directories come last, so that a real path wins.

        A directory is entered once, by device and inode, however many links lead to it: loops end.
        """
        seen: set[tuple[int, int]] = set()
        real, links = [""], list[str]()
        unreadable: list[str] = []
        while real or links:
            folder = real.pop() if real else links.pop(0)
            try:
                status = (self.root / folder).stat()
                if (status.st_dev, status.st_ino) in seen:
                    continue
                seen.add((status.st_dev, status.st_ino))
                with os.scandir(self.root / folder) as scan:
                    found = sorted(scan, key=lambda entry: entry.name)
            except OSError as error:
                unreadable.append(f"{folder or '.'} ({error.strerror})")
                continue
            inside = []
            for entry in found:
                if entry.name.startswith(".") or entry.name.endswith(".zarr"):
                    continue  # '._x.mp4' of macOS, caches, and stores of ours with their thousands of chunks
                path = f"{folder}/{entry.name}" if folder else entry.name
                is_dir = entry.is_dir(follow_symlinks=True)
                self.entries[path] = is_dir
                if is_dir and entry.is_symlink():
                    links.append(path)
                elif is_dir:
                    inside.append(path)
            real.extend(reversed(inside))
        if unreadable:
            self.notes.append(f"{len(unreadable)} folders could not be read: {some(unreadable)}")

    def find(self, *names: str) -> Path | None:
        """The file of the first of ``names`` that is there, the one nearest to the root.

        Raises LabError where two at the same depth differ: a root above several data sets would mix them.
        """
        for name in names:
            hits = [
                path
                for path, is_dir in self.entries.items()
                if not is_dir and path.rpartition("/")[2] == name and path.count("/") < LIST_DEPTH
            ]
            hits = [path for path in hits if (self.root / path).is_file()]
            if not hits:
                continue
            depth = min(path.count("/") for path in hits)
            nearest = [path for path in hits if path.count("/") == depth]
            first = self.root / nearest[0]
            for other in nearest[1:]:
                if first.read_bytes() != (self.root / other).read_bytes():
                    raise LabError(
                        f"one {name} is needed below {self.root}, and {nearest[0]} and {other} differ: "
                        "point --root at the folder of one data set"
                    )
            return first
        return None

    def videos(self, suffixes: Sequence[str] = (".mp4",)) -> Videos:
        """Lookup of video files by id; ``suffixes`` are the documented extensions, the preferred first."""
        return Videos(self, suffixes)


class Videos:
    """Files by name less the last extension. Entries that exist count, whatever they are: decoding judges them."""

    def __init__(self, tree: Tree, suffixes: Sequence[str]) -> None:
        self._tree = tree
        self._suffixes = tuple(suffixes)
        self._by_stem: dict[str, list[str]] = {}
        self._twice: list[str] = []
        for path, is_dir in tree.entries.items():
            name = path.rpartition("/")[2]
            ending = suffix(name)
            if ending not in SIDECARS and (not is_dir or ending in VIDEO_SUFFIXES):
                self._by_stem.setdefault(stem(name), []).append(path)

    def candidates(self, key: str) -> list[str]:
        """Paths, relative to the root, of the files whose name less the last extension is ``key``."""
        return self._by_stem.get(key, [])

    def file(self, *keys: str) -> Path | None:
        """The file of the first of ``keys`` that has one; of several, the best, and a note says so."""
        for key in keys:
            found = self.candidates(key)
            if found:
                return self._tree.root / self.best(key, found)
        return None

    def best(self, key: str, paths: Sequence[str]) -> str:
        """Of several files for one id: a non-empty file first, then the documented extension, then the path."""
        if len(paths) == 1:
            return paths[0]
        chosen, *rest = sorted(paths, key=self._rank)
        real = (self._tree.root / chosen).resolve()
        others = [path for path in rest if (self._tree.root / path).resolve() != real]
        if others:
            self._twice.append(f"{key} ({chosen}, not {', '.join(others)})")
        return chosen

    def _rank(self, path: str) -> tuple[bool, int, str]:
        whole = self._tree.root / path
        try:
            usable = whole.is_file() and whole.stat().st_size > 0
        except OSError:
            usable = False
        order = (*self._suffixes, *sorted(VIDEO_SUFFIXES - set(self._suffixes)))
        ending = suffix(path)
        return not usable, order.index(ending) if ending in order else len(order), path

    def notes(self) -> list[str]:
        """What to tell about the lookups made so far."""
        return [f"several files match {len(self._twice):,} ids: {some(self._twice)}"] if self._twice else []


def _require(root: Path, dataset: str) -> Path:
    """The root, absolute. Raises LabError where it is no folder."""
    root = root.expanduser()
    if root.is_dir():
        return root.resolve()
    wrong = "is not a folder" if root.exists() else "does not exist"
    raise LabError(f"--root must be the folder with {dataset}, {root} {wrong}: name another, or get it with --download")


def require_files(dataset: str, root: Path, wanted: Iterable[tuple[str, Path | None]], where: str) -> list[Path]:
    """The found files, in order. Raises one LabError that names all that are absent and where they are to be had."""
    pairs = list(wanted)
    absent = [name for name, path in pairs if path is None]
    if absent:
        raise LabError(f"{dataset} needs {', '.join(absent)} below {root}: {where}")
    return [path for _, path in pairs if path is not None]
