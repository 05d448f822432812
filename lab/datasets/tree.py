"""What lies below a data set's root: one walk, then lookups of list files by name and of videos by id."""

from __future__ import annotations

import os
from collections.abc import Sequence
from filecmp import cmp
from pathlib import Path
from stat import S_ISREG

from lab.errors import LabError

VIDEO_SUFFIXES = frozenset(
    {
        ".3g2", ".3gp", ".3gpp", ".asf", ".avi", ".divx", ".f4v", ".flv", ".m1v", ".m2ts", ".m2v", ".m4v",
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
    """Every entry below a root, found once. ``entries``: path relative to the root -> is it a directory."""

    def __init__(self, root: Path, dataset: str) -> None:
        """Raises LabError where the root is no folder."""
        folder = dataset == "folder"  # nobody else has it, so there is none to download
        remedy = "name it with --root DIR" if folder else "name another, or see --download"
        self.root = require_root(root, "your videos" if folder else dataset, remedy)
        self.dataset = dataset
        self.entries: dict[str, bool] = {}
        self.named: dict[str, list[str]] = {}  # file name -> paths, in the order of the walk
        self.notes: list[str] = []  # what is to be told of the data set; whoever reads its files adds to it
        self.found: list[Path] = []  # by ``find``
        self._walk()

    def _walk(self) -> None:
        """Fill ``entries``, sorted within a directory; links to directories come last, so that a real path wins.

        A directory is entered once, by device and inode, however many links lead to it: loops end.
        """
        seen: set[tuple[int, int]] = set()
        real, links = [""], list[str]()
        unreadable, unnamed = list[str](), list[str]()
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
            inside = list[str]()
            for entry in found:
                if entry.name.startswith(".") or entry.name.endswith(".zarr"):
                    continue  # '._x.mp4' of macOS, caches, and stores of ours with their thousands of chunks
                path = f"{folder}/{entry.name}" if folder else entry.name
                if not _is_text(path):
                    unnamed.append(repr(path))
                    continue
                self.entries[path] = is_dir = _is_dir(entry)
                self.named.setdefault(entry.name, []).append(path)
                if is_dir:
                    (links if entry.is_symlink() else inside).append(path)
            real.extend(reversed(inside))
        if unreadable:
            self.notes.append(f"{len(unreadable):,} folders could not be read: {some(unreadable)}")
        if unnamed:
            self.notes.append(f"{len(unnamed):,} file names are not UTF-8, and left out (rename them): {some(unnamed)}")

    def find(self, *names: str) -> Path | None:
        """The file of the first of ``names`` that is there, the one nearest to the root.

        Raises LabError where two at the same depth differ: a root above several data sets would mix them.
        """
        for name in names:
            hits = [path for path in self.named.get(name, ()) if path.count("/") < LIST_DEPTH]
            # not Path.is_file, which raises where a directory above may be listed and not entered
            hits = [path for path in hits if os.path.isfile(self.root / path)]  # noqa: PTH113
            if not hits:
                continue
            depth = min(path.count("/") for path in hits)
            first, *others = (path for path in hits if path.count("/") == depth)
            for other in others:
                if not cmp(self.root / first, self.root / other, shallow=False):
                    raise LabError(
                        f"one {name} is needed below {self.root}, and {first} and {other} differ: "
                        "point --root at the folder of one data set"
                    )
            self.found.append(self.root / first)
            return self.root / first
        return None

    def require(self, *wanted: Sequence[str], where: str) -> list[Path]:
        """For each of ``wanted`` the file that ``find`` has for its names.

        Raises one LabError that names all that are absent, and ``where`` they are to be had.
        """
        paths = {" or ".join(names): self.find(*names) for names in wanted}
        absent = [names for names, path in paths.items() if path is None]
        if absent:
            raise LabError(f"{self.dataset} needs {', '.join(absent)} below {self.root}: {where}")
        return [path for path in paths.values() if path is not None]


class Videos:
    """Files by name less the last extension. Entries that exist count, whatever they are: decoding judges them."""

    def __init__(self, tree: Tree, suffixes: Sequence[str] = (".mp4",)) -> None:
        """``suffixes`` are the documented extensions, the preferred first."""
        self._tree = tree
        self._suffixes = (*suffixes, *sorted(VIDEO_SUFFIXES - set(suffixes)))
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
        """The file of the first of ``keys`` that has one, by name less extension."""
        return next((self.best(key, found) for key in keys if (found := self.candidates(key))), None)

    def exact(self, *names: str) -> Path | None:
        """The file of the first of ``names`` that is there, by its whole name."""
        return next((self.best(name, found) for name in names if (found := self._tree.named.get(name))), None)

    def best(self, key: str, paths: Sequence[str]) -> Path:
        """Of several files for one id: a non-empty file first, then by extension, then by path; a note says so."""
        if len(paths) == 1:
            return self._tree.root / paths[0]
        chosen, *rest = sorted(paths, key=self._rank)
        others = [path for path in rest if not _same(self._tree.root / chosen, self._tree.root / path)]
        if others:
            self._twice.append(f"{key} ({chosen}, not {', '.join(others)})")
        return self._tree.root / chosen

    def _rank(self, path: str) -> tuple[bool, int, str]:
        try:
            status = (self._tree.root / path).stat()
            usable = S_ISREG(status.st_mode) and status.st_size > 0
        except OSError:
            usable = False
        ending = suffix(path)
        order = self._suffixes.index(ending) if ending in self._suffixes else len(self._suffixes)
        return not usable, order, path

    def notes(self) -> list[str]:
        """What to tell about the lookups made so far."""
        return [f"several files match {len(self._twice):,} ids: {some(self._twice)}"] if self._twice else []


def _is_text(path: str) -> bool:
    """Whether a file name can be written to a table: os.scandir hides bytes that are not UTF-8 in surrogates."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True


def _is_dir(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads to itself
        return False


def _same(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except OSError:
        return False


def require_root(root: Path, what: str, remedy: str) -> Path:
    """The folder with ``what``, absolute. Raises LabError where it is none."""
    root = root.expanduser()
    if root.is_dir():
        return root.resolve()
    wrong = "is not a folder" if root.exists() else "does not exist"
    raise LabError(f"--root must be the folder with {what}, {root} {wrong}: {remedy}")
