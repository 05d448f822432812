"""Splits for videos that come without: by a hash of the id, so the same on every machine and Python."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence

from lab.datasets.collection import PARTS
from lab.errors import LabError


def hold_out(ids: Sequence[str], share: float) -> set[str]:
    """A validation split for a protocol that has none: the ``share`` of ids whose SHA-256 is smallest.

    By hash, so that it depends on nothing but the ids: no seed, no order, no Python version.
    """
    ranked = sorted(ids, key=lambda key: hashlib.sha256(key.encode()).digest())
    return set(ranked[: round(share * len(ids))])


def carve(ids: Sequence[str], held: Collection[str]) -> dict[str, list[str]]:
    """Split -> ids: those that are ``held`` out are val, the others train."""
    return {"train": [key for key in ids if key not in held], "val": [key for key in ids if key in held]}


def parse_shares(split: str) -> dict[str, float]:
    """Split -> share of 100. Raises LabError unless it is three numbers that sum to 100."""
    rule = f"--split must be train/val/test in percent with the sum 100, as in 70/10/20, got {split!r}"
    try:
        shares = [float(part) for part in split.split("/")]
    except ValueError as error:
        raise LabError(rule) from error
    # written so that NaN fails it
    if len(shares) != 3 or not all(0 <= share <= 100 for share in shares) or abs(sum(shares) - 100) > 1e-6:
        raise LabError(rule)
    return dict(zip(PARTS, shares, strict=True))


def divide(ids: Sequence[str], shares: Mapping[str, float], seed: int) -> dict[str, str]:
    """Id -> split. The ids are ordered by a hash of seed and id, so the same on every machine and Python.

    Sizes are rounded by largest remainder; each split with a share gets one video at least. An id more moves at most
    one other over each border, between train and val or val and test (of 1,000 videos a hundred more move six). A rule
    that moves none would look at one id alone and could keep to no size: a third of all folders of ten videos would
    have no val. Stores hold the splits that they were made with, so another rule here would be other data to them.
    """
    wanted = [name for name, share in shares.items() if share > 0]
    if len(ids) < len(wanted):
        raise LabError(f"--split needs a captioned video for each of {', '.join(wanted)}, found {len(ids)}: add some")
    exact = {name: shares[name] * len(ids) / 100 for name in wanted}
    sizes = {name: max(1, int(exact[name])) for name in wanted}
    while (rest := len(ids) - sum(sizes.values())) != 0:
        step = 1 if rest > 0 else -1
        free = [name for name in wanted if sizes[name] + step > 0]
        sizes[max(free, key=lambda name: step * (exact[name] - sizes[name]))] += step
    ranked = sorted(ids, key=lambda key: hashlib.sha256(f"{seed}\0{key}".encode()).digest())
    names = [name for name in wanted for _ in range(sizes[name])]
    return dict(zip(ranked, names, strict=True))
