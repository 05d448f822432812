"""The toy world as a data set: nothing to download, its clips are rendered where they are missing."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from lab.datasets.assemble import assemble, refuse_split
from lab.datasets.collection import Collection, Expected
from lab.datasets.tree import require_root
from lab.download import Source


class Toy:
    """World 0 is the release; a folder with another ``world.json`` (``python -m lab.toy.render``) is that world.

    Its captions know their truth: the seconds that each tells of, and whether it needs the sound.
    """

    name = "toy"
    protocols: tuple[str, ...] = ("toy",)
    default_sampling = "midpoints-12"
    expected: ClassVar[Expected] = {"toy": {"train": (600, 12000), "val": (100, 500), "test": (400, 2000)}}
    sources: tuple[Source, ...] = ()
    instructions = "there is nothing to download: python -m lab.cache --dataset toy renders what is missing"

    def render(self, root: Path, workers: int = 0) -> None:
        """Makes the clips that ``root`` lacks. Raises ``LabError`` where the extra ``toy`` is not installed."""
        from lab.toy.render import render_world

        render_world(root, workers=workers)

    def read(self, root: Path, *, split: str | None = None, seed: int = 0) -> Collection:
        """See ``Dataset.read``. Captions and truth follow from the world's number; the folder holds the clips."""
        from lab.toy.grammar import captions
        from lab.toy.render import read_world
        from lab.toy.world import SPLITS, world

        refuse_split(self.name, split)
        root = root.expanduser()  # and not made absolute: a store names it, and a checkout may move
        require_root(root, self.name, self.instructions)
        number, sizes = read_world(root)
        videos, lines, files = {}, {}, {}
        for clip in world(number, sizes):
            view = {"toy": clip.split}
            path = root / f"{clip.id}.mp4"
            videos[clip.id] = view
            files[clip.id] = path if path.is_file() else None
            lines[clip.id] = [
                (line.text, view, (line.start_s, line.end_s), line.needs_sound) for line in captions(clip)
            ]
        return assemble(
            self.name,
            root,
            videos=videos,
            captions=lines,
            files=files,
            protocols=self.protocols,
            expected=self.expected if sizes == SPLITS else {},
            notes=[] if number == 0 else [f"world {number}, for development: not the release world"],
        )
