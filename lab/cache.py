"""``python -m lab.cache``: one pass over a data set with frozen backbones, leaving a feature store.

    data sets ──► media (decode) ──► backbones (encode) ──► store

The pass itself is ``lab.extraction``; this is the front door.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from lab import cli
from lab.atomic import require_room_for
from lab.backbones import DEFAULT_CLIP
from lab.datasets import DATASETS, SOUNDING
from lab.errors import LabError
from lab.extraction.loop import Spent
from lab.extraction.options import MODALITIES, Options, store_path
from lab.extraction.plan import backbones, collect, place, prepare, render
from lab.extraction.units import Share
from lab.store import PRESENCE, Store, open_store
from lab.store.ledger import Entry, complaints, tally
from lab.store.lock import writing

#: Shares of a split's videos: as many must have been listened to, and so many may sound other than elsewhere.
SEEN, OFF = 0.95, 0.03


def cache(options: Options) -> tuple[Store, Spent]:
    """Runs the pass, or goes on with it. Returns the store and where the time went. Raises ``LabError``."""
    render(options)
    dataset, collection = collect(options)
    if options.ray is not None:
        from lab.cluster.shards import cache_on_cluster  # Ray is an extra

        return cache_on_cluster(options, collection)
    if not (new := store_path(options, collection)).exists():
        require_room_for(new)  # before networks are loaded, or fetched
    clip, panns = backbones(options, dataset)
    path = place(options, collection)
    with writing(path, (options.share.index, options.share.count)):
        run = prepare(path, options, collection, clip, panns)
        return open_store(path), run.run()


def summary(store: Store, spent: Spent) -> tuple[str, list[Entry]]:
    """The table at the end of a pass, and the videos that failed."""
    entries = list(store.ledger)
    lines = [cli.table(["modality", "status", "videos"], [[*key, n] for key, n in tally(entries).items()]), ""]
    stages = [["decoding (CPU)", spent.decoding], ["encoding", spent.encoding], ["writing", spent.writing],
              ["whole pass", spent.wall]]  # fmt: skip
    lines += [cli.table(["this run", "seconds"], [[name, f"{seconds:.1f}"] for name, seconds in stages])]
    lines += [f"{spent.videos} videos and {spent.captions} captions in this run", ""]
    failed = [entry for entry in entries if entry.failed]
    broken = complaints(entry for entry in failed if entry.status != "missing")
    if broken:
        lines += ["failed:", *(f"  {line}" for line in broken[:10])]
        lines += [f"  ... and {len(broken) - 10} more, see python -m lab.inspect {store.path}"] * (len(broken) > 10)
    lines += [f"! {warning}" for warning in (*store.warnings, *other_sound(store))]
    lines += [f"store: {store.path}"]
    return "\n".join(lines), failed


def other_sound(store: Store) -> Iterator[str]:
    """What is wrong where a finished store's videos have sound much less or more often than the data set's do.

    Copies that were made smaller are often without any (CLIP4Clip's script keeps the picture alone).
    """
    if "audio" not in store.passport:
        return
    presence = store.read("audio_presence")
    for view, (sounding, videos) in SOUNDING.get(store.name, {}).items():
        asked = [view is None or video["splits"].get(view[0]) == view[1] for video in store.videos]
        known = presence[asked][presence[asked] != PRESENCE["unknown"]]
        found = int((known != PRESENCE["absent"]).sum())
        if len(known) < SEEN * sum(asked) or not len(known) or abs(found / len(known) - sounding / videos) <= OFF:
            continue
        where = " ".join((store.name, *(view or ())))
        yield (
            f"{where}: {found:,} of {len(known):,} videos have an audio stream, elsewhere {sounding:,} of {videos:,} "
            "do: compressed copies often have lost it; take the original files"
        )


def parse_shard(text: str) -> tuple[int, int]:
    """``I/N`` as two numbers, 1 ≤ I ≤ N. Raises ``LabError``."""
    found = re.fullmatch(r"(\d+)/(\d+)", text)
    index, count = (int(found[1]), int(found[2])) if found else (0, 0)
    if not 1 <= index <= count:
        raise LabError(f"--shard is I/N with 1 <= I <= N, as in 2/8, got '{text}'")
    return index, count


def main(argv: Sequence[str] | None = None) -> int:
    """The command. Exit code 1 if any listed video has no features in the end."""
    default = Options("")
    parser = cli.parser(
        "lab.cache",
        "Encode a data set once with frozen CLIP and PANN, into a feature store. Run it again to go on.",
        "python -m lab.cache --dataset msvd --root /data/msvd --clip ViT-B-32-quickgelu:openai",
    )
    add = parser.add_argument
    add("--dataset", required=True, help=f"one of {', '.join(DATASETS)}")
    add("--root", type=Path, help="where its videos and captions are (default: data/DATASET)")
    add("--clip", help=f"MODEL:TAG, MODEL:FILE, toy, random (default: {DEFAULT_CLIP}; toy for --dataset toy)")
    add(
        "--panns",
        help="cnn14, cnn10, cnn6, cnn14-16k, NAME:FILE, toy, random, none (default: cnn14; msvd: none; toy: toy)",
    )
    add(
        "--sampling",
        help="midpoints-N, xpool-N, fps1-N, uniform-N; with -Ss of the first S seconds (default: midpoints-12; "
        "didemo: midpoints-30-31s)",
    )
    add("--features", type=Path, default=default.features, help="directory of stores (default: %(default)s)")
    add("--name", help="name of the store (default: made from data set, CLIP and sampling)")
    add("--only", action="append", choices=MODALITIES, default=[], help="one modality now; may be repeated")
    add("--split", help="folder without splits: percentages of train/val/test, as in 70/10/20")
    add("--seed", type=int, default=0, help="seed of --split (default: %(default)s)")
    add("--shard", default="1/1", help="share I of N of the work, for job arrays (default: %(default)s)")
    add("--limit", type=int, help="at most this many videos")
    add(
        "--retry",
        action="store_true",
        help="read files again that failed or were truncated (those that are others than before always are)",
    )
    add("--workers", type=int, default=default.workers, help="decode processes (default: %(default)s)")
    add("--device", default=default.device, help="cpu, cuda, cuda:1 (default: %(default)s)")
    add("--precision", default=default.precision, choices=("fp32", "bf16", "fp16"), help="default: %(default)s")
    add("--batch", type=int, help="pictures in a batch of the image tower")
    add("--download", action="store_true", help="first fetch what is public: videos, captions, weights")
    add("--ray", nargs="?", const="local", metavar="HOST:PORT", help="on a Ray cluster, or on one started here for it")
    add("--encoders", type=int, help="with --ray: encoding actors (default: one a GPU; without GPUs one a machine)")
    add("--decoders", type=int, help="with --ray: files decoded at once (default: CPUs of the cluster less encoders)")
    add("--dry-run", action="store_true", help="only tell videos, bytes and expected time")
    given = vars(parser.parse_args(argv))
    options = _options(given)
    if given["dry_run"]:
        from lab.extraction.estimate import dry_run

        cli.say(dry_run(options))
        return 0
    store, spent = cache(options)
    text, failed = summary(store, spent)
    cli.say(text)
    return 1 if failed else 0


def _options(given: dict[str, Any]) -> Options:
    for name, least in (("limit", 0), ("workers", 1), ("batch", 1), ("encoders", 1), ("decoders", 1)):
        if given[name] is not None and given[name] < least:
            raise LabError(f"--{name} must be at least {least}, got {given[name]}")
    index, count = parse_shard(given.pop("shard"))
    share = Share(index, count, given.pop("limit"), given.pop("retry"))
    if given["ray"] and (count > 1 or share.limit is not None):
        raise LabError("--ray divides the work itself: leave --shard and --limit out")
    if not given["ray"] and (given["encoders"] or given["decoders"]):
        raise LabError("--encoders and --decoders are of a pass on a cluster: add --ray, or use --workers")
    ours = {name: value for name, value in given.items() if name in Options.__dataclass_fields__}
    return Options(**{**ours, "only": tuple(given["only"]), "share": share})


if __name__ == "__main__":
    sys.exit(cli.run(main, goes_on=True))
