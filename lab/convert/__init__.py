"""``python -m lab.convert``: features from elsewhere into a store, a store into HDF5 and back, a store into few files.

What is done follows from what is given: a store becomes HDF5 (TARGET.h5) or a packed store (--pack); HDF5 that was
exported here becomes the same store again; anything else is read as features in one of the layouts.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lab import cli
from lab.convert.features import Origin, import_features
from lab.convert.hdf5_in import import_exported
from lab.convert.hdf5_out import export_store, is_exported
from lab.convert.layouts import LAYOUTS, TOLD, Choice
from lab.convert.pack import pack_store
from lab.datasets import DATASETS, get_dataset
from lab.errors import LabError
from lab.store import Store, open_store
from lab.store.passport import flat

HDF5 = (".h5", ".hdf5", ".hdf")


def main(argv: Sequence[str] | None = None) -> int:
    """The command."""
    parser = cli.parser(
        "lab.convert",
        f"Make a store of features that you already have, or HDF5 of a store.\n\nlayouts of features:\n{TOLD}",
        "python -m lab.convert MSVD_CLIP.hdf5 features/msvd-theirs.zarr --dataset msvd --root /data/msvd\n"
        "  python -m lab.convert features/msvd.zarr msvd.h5 --layout contiguous\n"
        "  python -m lab.convert features/msvd.zarr features/msvd-packed.zarr --pack 1024",
    )
    add = parser.add_argument
    add("source", type=Path, help="a store, or a file or directory of features")
    add("target", type=Path, help="a new store (.zarr) or HDF5 file (.h5, .hdf5)")
    add("--layout", help=f"how the features are kept: {', '.join(LAYOUTS)} (default: by the look of them); "
                         "out: per-video (default) or contiguous")  # fmt: skip
    add("--dataset", help=f"whose videos these are: {', '.join(DATASETS)} (default: those that have features)")
    add("--root", type=Path, help="where its lists and captions are (default: data/DATASET)")
    add("--split", help="folder without splits: percentages of train/val/test, as in 70/10/20")
    add("--seed", type=int, default=0, help="seed of --split (default: %(default)s)")
    add("--captions", type=Path, metavar="FILE", help="without --dataset: .csv (video,caption,split,qid) or .jsonl")
    add("--text", type=Path, metavar="DIR", help="text features qid*.npz of the captions in --captions")
    add("--audio", type=Path, metavar="PATH", help="audio features, in any of the layouts")
    add("--expert", help="mmt: the network whose features are meant, as in s3d")
    add("--audio-expert", help="mmt: the network whose features are the audio, as in vggish")
    add("--array", help="contiguous: the name of the array; npz: of the key (default: features)")
    add("--ids", help="contiguous: the name of the array of ids")
    add("--zeros-are-missing", action="store_true", help="vectors of zeros stand for missing ones")
    add("--frames", type=int, metavar="N", help="keep N vectors a video at most, the midpoints of equal stretches")
    add("--clip-name", default=Origin.clip_name, help="what made the features, for the passport (default: %(default)s)")
    add("--logit-scale", type=float, default=Origin.logit_scale, help="its learned scale (default: %(default)s)")
    add("--pack", type=int, metavar="N", help="a store as a store of few files: N videos a shard, as in 1024")
    add("--force", action="store_true", help="replace TARGET")
    given = parser.parse_args(argv)
    cli.say(convert(given.source, given.target, vars(given)))
    return 0


def convert(source: Path, target: Path, given: dict[str, Any]) -> str:
    """Does what the command line ``given`` asks; returns what to say of it. Raises ``LabError``."""
    force = given["force"]
    if (source / "zarr.json").is_file():
        store = open_store(source)
        if given["pack"] is not None:
            return _told(pack_store(store, target, given["pack"], force=force))
        if target.suffix.lower() not in HDF5:
            raise LabError(f"a store becomes HDF5 (TARGET.h5), or with --pack N a store of few files, got {target}")
        export_store(store, target, given["layout"] or "per-video", force=force)
        return f"{target}: {target.stat().st_size:,} bytes"
    if given["pack"] is not None:
        raise LabError(f"--pack is for stores, {source} is none: convert it to a store first")
    if is_exported(source) and given["layout"] is None and given["dataset"] is None:
        made, same = import_exported(source, target, force=force)
        edited = "" if same else "\n! the file was changed since its export, and the passport says so"
        return _told(made) + edited
    return _told(import_features(source, target, _origin(given), force=force))


def _origin(given: dict[str, Any]) -> Origin:
    collection = None
    if given["frames"] is not None and given["frames"] < 1:
        raise LabError(f"--frames must be at least 1, got {given['frames']}")
    if given["dataset"]:
        dataset = get_dataset(given["dataset"])
        root = given["root"] or Path("data") / dataset.name
        collection = dataset.read(root, split=given["split"], seed=given["seed"])
    choice = Choice(given["expert"], given["array"], given["ids"], given["zeros_are_missing"])
    sound = Choice(given["audio_expert"], zeros_are_missing=given["zeros_are_missing"])
    names = ("layout", "captions", "text", "audio", "frames", "clip_name", "logit_scale")
    return Origin(choice=choice, audio_choice=sound, collection=collection, **{name: given[name] for name in names})


def _told(store: Store) -> str:
    """What a store holds, in a few lines."""
    lines = [f"{store.path}: {len(store.videos):,} videos, {len(store.captions):,} captions"]
    held = [name for name in ("frames", "audio_segments", "sentences", "words") if name in store.group]
    lines += [f"  {name:15} {' × '.join(map(str, store.array(name).shape))}" for name in held]
    if "frames" in store.group:
        lines.append(f"  {int((store.array('frame_count')[:] > 0).sum()):,} videos have frames")
    lines += [f"  {key:34} {value}" for key, value in flat(store.passport) if ".imported." in key]
    lines += [f"! {warning}" for warning in store.warnings]
    return "\n".join(lines)
