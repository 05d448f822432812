"""MSVD: 1,970 clips of YouTube videos with some 41 captions each; every caption is a query. The clips have no sound."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from lab.datasets.assemble import assemble, assign, refuse_split
from lab.datasets.collection import Collection, Expected
from lab.datasets.reading import captions_by_id, check_published, read_json, read_lines, read_pickle
from lab.datasets.tree import Tree, Videos, require_files
from lab.download import Source

_PUBLISHED = {
    "train": ("6bc94700002cc993647a7933912acaf1", "d53bc3c66dd41aef0a39bbca083dff99"),
    "val": ("1d27050f7e2af0acd97db37bd4441d88", "a22d7feb76999db7e08077fcfed05373"),
    "test": ("1fb5050a4a101994ad9e44ec2fabc6f5",),
}
_PUBLISHED_CAPTIONS = "906ab119853c405c0db08fcbdeade907"  # of the first of these; of the others none is known
_CAPTIONS = ("captions_msvd.json", "raw-captions.pkl", "AllVideoDescriptions.txt")


class MSVD:
    """Three lists and captions_msvd.json (X-Pool), raw-captions.pkl (CLIP4Clip) or AllVideoDescriptions.txt."""

    name = "msvd"
    protocols: tuple[str, ...] = ("msvd",)
    default_sampling = "midpoints-12"
    expected: ClassVar[Expected] = {"msvd": {"train": (1200, 48774), "val": (100, 4290), "test": (670, 27763)}}
    sources: tuple[Source, ...] = (
        Source(
            "https://github.com/ArrowLuo/CLIP4Clip/releases/download/v0.0/msvd_data.zip",
            "msvd_data.zip",
            "captions and splits",
            unpack=True,
        ),
        Source(
            "https://www.cs.utexas.edu/users/ml/clamp/videoDescription/YouTubeClips.tar",
            "YouTubeClips.tar",
            "videos",
            unpack=True,
        ),
    )
    instructions = (
        "the page of the data is https://www.cs.utexas.edu/users/ml/clamp/videoDescription/; put train_list.txt, "
        "val_list.txt, test_list.txt and captions_msvd.json (or raw-captions.pkl) into the root and the clips into "
        "YouTubeClips/<id>.avi"
    )

    def read(self, root: Path, *, split: str | None = None, seed: int = 0) -> Collection:
        """See ``Dataset.read``. Duplicate captions within a video stay separate rows, as in both published codes."""
        refuse_split(self.name, split)
        tree = Tree(root, self.name)
        where = f"they are in {self.sources[0].url} (--download gets it)"
        wanted = {name: tree.find(name) for name in (f"{part}_list.txt" for part in _PUBLISHED)}
        wanted[" or ".join(_CAPTIONS)] = tree.find(*_CAPTIONS)
        *lists, source = require_files(self.name, tree.root, wanted, where)
        notes = list(tree.notes)
        for path, md5s in zip(lists, _PUBLISHED.values(), strict=True):
            notes += check_published(path, md5s)
        if source.name == _CAPTIONS[0]:
            notes += check_published(source, (_PUBLISHED_CAPTIONS,))
        splits = {part: read_lines(path) for part, path in zip(_PUBLISHED, lists, strict=True)}
        videos = assign(self.protocols[0], splits, notes)
        files = Videos(tree, (".avi",))
        found = {key: files.file(key) for key in videos}
        return assemble(
            self.name,
            tree.root,
            videos=videos,
            captions={
                key: [(text, videos.get(key, {})) for text in texts] for key, texts in _read_captions(source).items()
            },
            files=found,
            protocols=self.protocols,
            expected=self.expected,
            notes=notes + files.notes(),
        )


def _read_captions(path: Path) -> dict[str, list[str]]:
    """Id -> captions, whichever of the three files it is."""
    if path.suffix == ".json":
        return captions_by_id(path, read_json(path))
    if path.suffix == ".pkl":
        return captions_by_id(path, read_pickle(path))
    captions: dict[str, list[str]] = {}
    for line in read_lines(path):
        if not line.startswith("#"):
            key, _, text = line.partition(" ")
            captions.setdefault(key, []).append(text)
    return captions
