"""Frames that only the decoder can count: where packets tell no times, hide frames in others, or are damaged."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lab.media.file import MediaError
from lab.media.listing import Listing
from lab.media.packets import Choose, Convert, Frames, Source
from lab.media.picture import ToRGB


def by_counting(source: Source, choose: Choose, convert: Convert) -> Frames:
    """Decode everything; the frames are those that come out whole, in the order in which they come.

    The choice is first made over as many frames as there are packets, and made again, with a second decode, where the
    count turns out otherwise. Where no frame at all is whole (no keyframe is marked, or all are damaged), those that
    come out damaged are better than none. MediaError("undecodable") where none comes out.
    """
    listing = source.listing
    guess, strict = max(1, sum(listing.shown)), True
    for _ in range(4):
        chosen = choose(guess, listing.fps())
        got, whence, broken = _decode_all(source, set(chosen.tolist()), convert, strict=strict)
        if not whence and not (strict and broken):
            raise source.nothing()
        if len(whence) == guess:
            break
        guess, strict = len(whence) or broken, bool(whence) and strict
    else:
        raise MediaError("undecodable", "the decoder delivers another number of frames each time")
    clock, start_s = _clock(listing, whence)
    step = float(np.median(np.diff(clock))) if len(clock) > 1 else 1 / listing.fps()
    return Frames(
        pictures=[got[int(i)] for i in chosen],
        times_s=clock[chosen],
        start_s=start_s,
        duration_s=float(clock[-1]) + step,
        damage=_damage(source, len(whence), broken),
    )


def _decode_all(
    source: Source, wanted: set[int], convert: Convert, *, strict: bool
) -> tuple[dict[int, Any], list[int], int]:
    """(frames at the wanted places, the packet that each whole frame is of, how many came out damaged).

    A packet that fails takes along the frames up to the next keyframe: they refer to it, and decoders deliver them
    nonetheless, smeared. Packets carry their ordinal as timestamp, so that frames tell which packet they are of.
    """
    listing, rgb = source.listing, ToRGB()
    got: dict[int, Any] = {}
    whence: list[int] = []
    broken = 0
    suspect = set(_spoilt(listing, listing.torn))
    feed = source.start()
    packet: Any = feed  # anything but None
    while packet is not None:
        ordinal, packet = feed.position, feed.next()
        if packet is not None:
            packet.pts = ordinal
        before = source.errors
        frames = source.decode(packet)
        if source.errors > before:
            suspect.update(_spoilt(listing, [ordinal]))
        for frame in frames:
            origin = int(frame.pts) if frame.pts is not None else (whence[-1] if whence else 0)
            if frame.is_corrupt:
                suspect.update(_spoilt(listing, [origin]))
            if strict and origin in suspect:
                broken += 1
                continue
            if len(whence) in wanted:
                got[len(whence)] = convert(rgb(frame))
            whence.append(origin)
    return got, whence, broken


def _spoilt(listing: Listing, ordinals: Iterable[int]) -> Iterator[int]:
    """The given packets and those after each up to the next keyframe."""
    for first in ordinals:
        yield first
        for i in range(first + 1, len(listing.key)):
            if listing.key[i]:
                break
            yield i


def _clock(listing: Listing, whence: list[int]) -> tuple[NDArray[np.float64], float]:
    """(seconds of each counted frame from the first, the first one's on the file's clock).

    From their packets' presentation times; else, as in AVI, from the decoding times in order, which differ from those
    by a constant; else from their place at the nominal rate.
    """
    for stamps, ordered in ((listing.pts, False), (listing.dts, True)):
        known = [stamp for stamp in (stamps[i] for i in whence) if stamp is not None]
        times = np.array(sorted(known) if ordered else known, dtype=np.int64)
        if len(known) == len(whence) and (np.diff(times) > 0).all():
            return (times - times[0]) * listing.tick, float(times[0]) * listing.tick
    return np.arange(len(whence)) / listing.fps(), 0.0


def _damage(source: Source, count: int, broken: int) -> str:
    """One line on what is damaged, empty when nothing is."""
    parts = [source.listing.damage] if source.listing.damage else []
    if source.errors:
        parts.append(f"{source.errors} of {len(source.listing.pts)} packets cannot be decoded: {source.why}")
    if broken:
        parts.append(f"{broken} frames are damaged and left out")
    return "; ".join([*parts, f"{count} frames can be decoded"]) if parts else ""
