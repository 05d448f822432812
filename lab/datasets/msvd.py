"""MSVD: 1,970 clips of YouTube videos with some 41 captions each; every caption is a query. The clips have no sound."""

from __future__ import annotations

from pathlib import Path

from lab.datasets.assemble import assign
from lab.datasets.collection import PARTS
from lab.datasets.published import Listing, Published
from lab.datasets.reading import captions_by_id, read_json, read_lines, read_pickle
from lab.datasets.tree import Tree
from lab.download import Source

_LISTS_URL = "https://github.com/ArrowLuo/CLIP4Clip/releases/download/v0.0/msvd_data.zip"
_PAGE = "https://www.cs.utexas.edu/users/ml/clamp/videoDescription/"
_CAPTIONS = (
    "captions_msvd.json",
    "raw-captions.pkl",
    "AllVideoDescriptions.txt",
)  # X-Pool's; CLIP4Clip's; the authors'


def _listing(tree: Tree) -> Listing:
    """Duplicate captions within a video stay separate rows, as in both published codes."""
    where = f"they are in {_LISTS_URL} (--download gets it)"
    *lists, captions = tree.require(*([f"{part}_list.txt"] for part in PARTS), _CAPTIONS, where=where)
    ids = {part: read_lines(path) for part, path in zip(PARTS, lists, strict=True)}
    return assign("msvd", ids, tree.notes), _read_captions(captions)


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


MSVD = Published(
    name="msvd",
    protocols=("msvd",),
    expected={"msvd": {"train": (1200, 48774), "val": (100, 4290), "test": (670, 27763)}},
    listing=_listing,
    md5s={
        "train_list.txt": ("6bc94700002cc993647a7933912acaf1", "d53bc3c66dd41aef0a39bbca083dff99"),
        "val_list.txt": ("1d27050f7e2af0acd97db37bd4441d88", "a22d7feb76999db7e08077fcfed05373"),
        "test_list.txt": ("1fb5050a4a101994ad9e44ec2fabc6f5",),
        "captions_msvd.json": ("906ab119853c405c0db08fcbdeade907",),  # of the other two none is known
    },
    suffixes=(".avi",),
    sources=(
        Source(_LISTS_URL, "msvd_data.zip", "captions and splits", unpack=True),
        Source(f"{_PAGE}YouTubeClips.tar", "YouTubeClips.tar", "videos", unpack=True),
    ),
    instructions=(
        f"the page of the data is {_PAGE}; put train_list.txt, val_list.txt, test_list.txt and captions_msvd.json (or "
        "raw-captions.pkl) into the root and the clips into YouTubeClips/<id>.avi"
    ),
)
