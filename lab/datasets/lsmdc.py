"""LSMDC: clips of movies, one sentence of audio description or script a row. To be had from its owners only."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from lab.datasets.assemble import Row, assemble, assign, refuse_split
from lab.datasets.collection import Collection, Expected
from lab.datasets.reading import check_published, read_text
from lab.datasets.tree import Tree, Videos, require_files
from lab.download import Source
from lab.errors import LabError

_FILES = {
    "train": ("LSMDC16_annos_training.csv",),
    "val": ("LSMDC16_annos_val.csv",),
    "test": ("LSMDC16_challenge_1000_publictect.csv", "LSMDC16_challenge_1000_publictest.csv"),  # "tect" is published
}
_FIELDS = 6  # clip, two aligned times, two extracted times, sentence


class LSMDC:
    """Test is the 1,000 clips of the challenge. A clip of several rows keeps each sentence, as in CLIP4Clip."""

    name = "lsmdc"
    protocols: tuple[str, ...] = ("lsmdc",)
    default_sampling = "midpoints-12"
    # rows are published; the numbers of distinct clips in train and val are not
    expected: ClassVar[Expected] = {"lsmdc": {"train": (None, 101079), "val": (None, 7408), "test": (1000, 1000)}}
    sources: tuple[Source, ...] = ()
    instructions = (
        "LSMDC is not public: sign the form at https://sites.google.com/site/describingmovies/download, then put "
        "LSMDC16_annos_training.csv, LSMDC16_annos_val.csv, LSMDC16_challenge_1000_publictect.csv and the clips "
        "(<movie>/<clip>.avi) into the root"
    )

    def read(self, root: Path, *, split: str | None = None, seed: int = 0) -> Collection:
        """See ``Dataset.read``."""
        refuse_split(self.name, split)
        tree = Tree(root, self.name)
        notes = list(tree.notes)
        wanted = {names[0]: tree.find(*names) for names in _FILES.values()}
        paths = dict(zip(_FILES, require_files(self.name, tree.root, wanted, self.instructions), strict=True))
        notes += check_published(paths["test"], ("645ee13807969918b173a6ef43e482d7",))
        rows = {part: _read_rows(path) for part, path in paths.items()}
        lists = {part: dict.fromkeys(key for key, _ in found) for part, found in rows.items()}
        videos = assign(self.protocols[0], lists, notes)
        captions: dict[str, list[Row]] = {}
        for part, found in rows.items():
            for key, text in found:
                if videos[key][self.protocols[0]] == part:  # not the sentences of a split that the clip had to leave
                    captions.setdefault(key, []).append((text, videos[key]))
        files = Videos(tree, (".avi", ".mp4"))
        return assemble(
            self.name,
            tree.root,
            videos=videos,
            captions=captions,
            files={key: files.file(key) for key in videos},
            protocols=self.protocols,
            expected=self.expected,
            notes=notes + files.notes(),
        )


def _read_rows(path: Path) -> list[tuple[str, str]]:
    """(clip, sentence) of each line. No header, tabs, and in some copies a quote around the whole line."""
    rows = []
    for number, line in enumerate(read_text(path).split("\n"), 1):
        line = line.rstrip("\r")
        if not line.strip():
            continue
        if line.startswith('"'):
            line = line[1:].removesuffix('"').replace('""', '"')
        fields = [field.strip() for field in line.split("\t")]
        if len(fields) == _FIELDS - 1:
            fields.append("")  # an empty sentence, in a copy whose lines have been stripped
        if len(fields) < _FIELDS or not fields[0]:
            raise LabError(
                f"{path} line {number} has {len(fields)} fields, {_FIELDS} separated by tabs are needed "
                "(clip, four times, sentence): get the file again"
            )
        rows.append((fields[0], " ".join(fields[_FIELDS - 1 :])))
    return rows
