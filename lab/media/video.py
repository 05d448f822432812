"""The pictures of one video stream, chosen by presentation time and decoded with as little work as exactness allows.

The trap in every loader of the field: asking a container to seek to "frame i" yields another frame where there are
B-frames, a variable rate, an edit list or a wrong header. Here nothing is sought. The packets, read once, tell the
presentation time of every displayed frame; indices are chosen over those; then the same packets go to the decoder from
the last keyframe before each wanted frame. Where packets cannot tell, or the file is damaged, frames are counted as the
decoder delivers them.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from lab.media.counted import by_counting
from lab.media.listing import Listing
from lab.media.packets import Choose, Convert, Frames, Source
from lab.media.picture import ToRGB


def decode_frames(source: Source, choose: Choose, convert: Convert, *, told: bool) -> Frames:
    """Decode the frames that ``choose(count, fps)`` names and pass each, upright RGB, through ``convert``.

    ``told``: container and codec are such that one packet is one displayed frame. MediaError("undecodable") where not
    one frame comes out.
    """
    found = _by_time(source, choose, convert) if told and source.listing.told() else None
    return found or by_counting(source, choose, convert)


def require_frame(source: Source) -> None:
    """Decode up to the first frame that comes out; MediaError("undecodable") where none does."""
    feed = source.start()
    packet: Any = feed  # anything but None
    while packet is not None:
        packet = feed.next()
        if source.decode(packet):
            return
    raise source.nothing()


def _by_time(source: Source, choose: Choose, convert: Convert) -> Frames | None:
    """Decode only what the chosen frames need; None where one of them does not come out as promised."""
    listing = source.listing
    ordinals = np.flatnonzero(listing.shown)
    times = np.array([listing.pts[i] for i in ordinals], dtype=np.int64)
    order = np.argsort(times)
    times, ordinals = times[order], ordinals[order]
    chosen = choose(len(times), listing.fps(times))
    got = _deliver(source, {int(times[i]): int(ordinals[i]) for i in chosen}, convert)
    if got is None:
        return None
    step = int(np.median(np.diff(times))) if len(times) > 1 else listing.last_duration
    return Frames(
        pictures=[got[int(times[i])] for i in chosen],
        times_s=(times[chosen] - times[0]) * listing.tick,
        start_s=float(times[0]) * listing.tick,
        duration_s=float(times[-1] + step - times[0]) * listing.tick,
        damage=f"{listing.damage}; {len(times)} frames can be decoded" if listing.damage else "",
    )


def _deliver(source: Source, wanted: dict[int, int], convert: Convert) -> dict[int, Any] | None:
    """The frames of ``wanted`` (time -> packet ordinal), converted; None if one is missing or any packet fails.

    In presentation order, each frame is decoded from the last keyframe that precedes it in the file and in time, unless
    the decoder already stands between the two. Packets that no other frame refers to are not decoded.
    """
    targets = set(wanted.values())
    got: dict[int, Any] = {}
    rgb = ToRGB()
    feed = source.start()
    ended = False
    for pts in sorted(wanted):
        start = _keyframe(source.listing, wanted[pts], pts)
        if not ended and pts not in got and start > feed.position:
            source.codec.flush_buffers()
            feed.skip_to(start)
        while not ended and pts not in got:
            source.codec.skip_frame = "DEFAULT" if feed.position in targets else "NONREF"
            packet = feed.next()
            ended = packet is None
            for frame in source.decode(packet):
                if frame.pts in wanted and frame.pts not in got:
                    if frame.is_corrupt:
                        return None
                    got[frame.pts] = convert(rgb(frame))
        if pts not in got or source.errors:
            return None
    return got


def _keyframe(listing: Listing, ordinal: int, pts: int) -> int:
    """The packet to start from: a keyframe at or before ``ordinal``, itself displayed no later than ``pts``.

    The second condition passes over the keyframe of an open group of pictures, whose leading frames refer back.
    """
    for i in range(ordinal, 0, -1):
        own = listing.pts[i]
        if listing.key[i] and own is not None and own <= pts:
            return i
    return 0
