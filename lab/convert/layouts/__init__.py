"""Features that people already have: one reader for each way in which they are kept on disk (``TOLD``)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from lab.convert.layouts.features import Choice, Features
from lab.convert.layouts.folders import mmt, npz
from lab.convert.layouts.hdf5 import contiguous, looks_contiguous, per_video
from lab.convert.layouts.pickles import pickled
from lab.errors import LabError, unknown

__all__ = ["LAYOUTS", "Choice", "Features", "detect", "open_features"]

LAYOUTS: dict[str, Callable[[Path, Choice], AbstractContextManager[Features]]] = {
    "per-video": per_video,
    "contiguous": contiguous,
    "pickle": pickled,
    "mmt": mmt,
    "npz": npz,
}

#: What lies where, a line a layout: (T, D) is a video's vectors.
TOLD = """\
  per-video   FILE.h5, a dataset (T, D) for each video, named by its id
  contiguous  FILE.h5, an array (V, F, D) or (V, D) beside one of ids (V,); frame_count (V,) if it is padded
  pickle      FILE.pkl, a dict {id: array (T, D)} as collaborative-experts has it; NaN for a missing video
  mmt         DIR/a/b/c/ID.h5, a file for each video with a dataset features.EXPERT for each network
  npz         DIR/ID.npz with the key features (Moment-DETR and its kin), or DIR/ID.npy, (T, D) each"""

_CODE = (".pt", ".pth", ".ckpt", ".bin")


@contextmanager
def open_features(path: Path, layout: str | None = None, choice: Choice | None = None) -> Iterator[Features]:
    """The features at ``path``, read video by video while the context lasts; ``layout`` is a name of LAYOUTS.

    Raises LabError where there are none, or none of that layout.
    """
    name = layout or detect(path)
    if name not in LAYOUTS:
        raise unknown("layout", name, LAYOUTS)
    with LAYOUTS[name](path, choice or Choice()) as features:
        if not features.ids:
            raise LabError(f"{path} holds no video's features in the layout {name}: name another with --layout")
        yield features


def detect(path: Path) -> str:
    """The layout of ``path`` by its look. Raises LabError if it is none that is known."""
    if path.is_dir():
        if any(path.glob("*/*/*/*.h5")):
            return "mmt"
        if any(path.glob("*.npz")) or any(path.glob("*.npy")):
            return "npz"
        raise LabError(f"{path} holds no ID.npz, no ID.npy and no a/b/c/ID.h5: name the directory that does")
    if not path.is_file():
        raise LabError(f"{path} does not exist: name a file or directory of features")
    if path.suffix.lower() in (".pkl", ".pickle"):
        return "pickle"
    if path.suffix.lower() in (".h5", ".hdf5", ".hdf"):
        return "contiguous" if looks_contiguous(path) else "per-video"
    if path.suffix.lower() in _CODE:
        raise LabError(
            f"{path} is not read, for such files may run code: load it where you trust it, and save each video's array "
            "by numpy.savez('DIR/ID.npz', features=array), then name DIR"
        )
    if path.suffix.lower() in (".npy", ".npz"):
        raise LabError(
            f"{path} is one file, and such files are read one for each video: put them as ID{path.suffix.lower()} into "
            "a directory and name that, or save the array beside one of ids by h5py (contiguous in --help)"
        )
    raise LabError(
        f"{path} is of no known kind (.h5, .hdf5, .pkl, .pickle, or a directory): "
        "--help shows what lies where in each layout, and --layout says which it is in spite of its name"
    )
