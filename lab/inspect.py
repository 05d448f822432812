"""``python -m lab.inspect``: what a store is, what is in it, what went wrong, and how it differs from another."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from lab import cli
from lab.errors import LabError
from lab.store import PRESENCE, Store, open_store, passport
from lab.store.compare import Comparison, compare
from lab.store.ledger import complaints, tally
from lab.store.verify import problems

#: Cosine of features that differ by no more than rounding and batch size do.
SAME = 0.9999


def describe(store: Store, show_all: bool = False) -> str:
    """Passport, coverage of every split, the ledger by status, and the files that failed."""
    lines = [f"{store.path}: {store.name}, {len(store.videos)} videos, {len(store.captions)} captions"]
    lines += [f"{_bytes(store.path)} on disk, passport {store.fingerprint[:12]}", ""]
    lines += [f"  {key:34} {value}" for key, value in passport.flat(store.passport)] + [""]
    rows = []
    for protocol in store.protocols:
        for split in store.splits_of(protocol):
            held = store.coverage(split, protocol)
            videos, captions = f"{held.videos} of {held.videos_listed}", f"{held.captions} of {held.captions_listed}"
            rows.append([protocol, split, videos, captions])
    lines += [cli.table(["protocol", "split", "videos", "captions"], rows), ""]
    entries = list(store.ledger)
    lines += [cli.table(["modality", "status", "videos"], [[*key, n] for key, n in tally(entries).items()])]
    if "audio" in store.passport:
        presence = store.read("audio_presence")
        counts = (f"{name} {int((presence == code).sum())}" for name, code in PRESENCE.items())
        lines += ["", f"sound: {', '.join(counts)}"]
    failed = complaints(entries)
    shown = failed if show_all else complaints(entry for entry in entries if entry.status != "missing")[:20]
    if shown:
        lines += ["", "failed:", *(f"  {line}" for line in shown)]
    if len(failed) > len(shown):
        lines += [f"  {len(failed) - len(shown)} more files are missing or failed: --all lists them"]
    return "\n".join([*lines, *(f"! {warning}" for warning in store.warnings)])


def report(result: Comparison) -> Iterator[str]:
    """The comparison in lines: differing fields first, then the cosines, the worst ten of each by name."""
    yield from (result.fields or ["the passports are the same in every field that both have"])
    for count, which in ((len(result.only_first), "first"), (len(result.only_second), "second")):
        if count:
            yield f"{count} videos only in the {which}"
    for name, cosines in result.cosines.items():
        if result.identical[name]:
            yield f"{name}: identical, bit for bit"
        elif not len(cosines):
            yield f"{name}: no two of the same shape to compare"
        else:
            below = int((cosines < SAME).sum())
            yield (f"{name}: lowest cosine of each: median {np.median(cosines):.6f}, least {cosines.min():.6f}, "
                   f"{below} of {len(cosines)} below {SAME}")  # fmt: skip
            for row in np.argsort(cosines)[: min(10, below)]:
                yield f"  {cosines[row]:.6f}  {result.labels[name][row]}"


def main(argv: Sequence[str] | None = None) -> int:
    """The command. Exit code 1 if --verify finds a problem, or if two stores differ."""
    parser = cli.parser(
        "lab.inspect", "Show what a feature store holds.", "python -m lab.inspect features/msvd.zarr --verify"
    )
    parser.add_argument("store", type=Path, help="a store")
    parser.add_argument("other", type=Path, nargs="?", help="another, to compare it with")
    parser.add_argument(
        "--verify", action="store_true", help="read everything, check shapes, finiteness, masks, ledger"
    )
    parser.add_argument("--all", action="store_true", help="list every missing and failed file")
    given = parser.parse_args(argv)
    store = open_store(given.store)
    if given.verify and given.other:
        raise LabError("--verify takes one store: run it on each")
    if given.other:
        result = compare(store, open_store(given.other))
        cli.say("\n".join(report(result)))
        same = not result.fields and not result.only_first and not result.only_second
        return 0 if same and all((cosines >= SAME).all() for cosines in result.cosines.values()) else 1
    if not given.verify:
        cli.say(describe(store, given.all))
        return 0
    found = list(problems(store))
    if not found:
        cli.say(describe(store, given.all))
    cli.say("\n".join(["", *found]) if found else "\nverified: every array was read, and all is as the ledger says")
    return 1 if found else 0


def _bytes(path: Path) -> str:
    size = float(sum(file.stat().st_size for file in path.rglob("*") if file.is_file()))
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


if __name__ == "__main__":
    sys.exit(cli.run(main))
