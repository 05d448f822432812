"""What must be said below numbers, of a split and of what was ranked on it, so that nobody takes them for more."""

from __future__ import annotations

from collections.abc import Iterator

from lab.reads import OPEN, count_reads
from lab.runs import Run
from lab.store import Coverage, Store

#: Fewer videos than this cannot tell one head from another.
FEW = 100


def left_out(held: Coverage) -> str:
    """What a split lacks of what its protocol lists, and what that does to numbers; '' where it lacks nothing."""
    captions = f"{held.captions} of {held.captions_listed} captions"
    if held.videos < held.videos_listed:
        told = f"{held.videos} of {held.videos_listed} listed videos and {captions}"
        return f"{told}: a smaller gallery makes every number better"
    return "" if held.complete else f"{captions}: those that are left out ask nothing"


def caveats(store: Store, split: str, protocol: str | None = None, run: Run | None = None) -> Iterator[str]:
    """What must be said below numbers: how often a held-out split was read, and what makes the numbers mean little.

    ``run``: what was evaluated, if it was trained.
    """
    if split not in OPEN:
        yield f"reads of the split '{split}' of {store.path} so far: {count_reads(store, split)}"
    held = store.coverage(split, protocol)
    if not held.complete:
        yield f"! {split}: {left_out(held)}"
    if held.videos < FEW:
        yield f"! {held.videos} {split} videos: this shows that the head runs, and tells nothing about it"
    view = protocol or store.protocols[0]
    if run is not None and run.protocol != view:
        asked = [video["splits"] for video in store.videos if video["splits"].get(view) == split]
        seen = sum(splits.get(run.protocol) in ("train", "val") for splits in asked)
        told = f"whose train and val hold {seen} of these {len(asked)} videos"
        if run.protocol not in store.protocols:
            told = "which this store does not know: it may have seen these videos"
        yield f"! trained under the protocol '{run.protocol}', {told}"
    for warning in store.warnings:
        yield f"! {warning}"
