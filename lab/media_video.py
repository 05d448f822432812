"""The pictures of one video stream, chosen by presentation time and decoded with as little work as exactness allows.

The trap in every loader of the field: asking a container to seek to "frame i" yields another frame where there are
B-frames, a variable rate, an edit list or a wrong header. Here nothing is sought. The packets, read once, tell the
presentation time of every displayed frame; indices are chosen over those; then the same packets go to the decoder from
the last keyframe before each wanted frame. Where packets cannot tell, or the file is damaged, frames are counted as the
decoder delivers them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import av.error
import numpy as np
from numpy.typing import NDArray

from lab.media_file import Deadline, MediaError, brief
from lab.media_listing import Listing
from lab.media_picture import Picture, ToRGB

Choose = Callable[[int, float], NDArray[np.int64]]
Convert = Callable[[Picture], Any]


@dataclass
class Frames:
    """What came of a stream: the converted pictures in the order of the indices asked for, and their times."""

    pictures: list[Any]
    times_s: NDArray[np.float64]  # of each picture, from the first displayed frame
    start_s: float  # of the first displayed frame, on the file's own clock
    duration_s: float
    count: int  # displayed frames that can be decoded
    damage: str


class Decoder:
    """Decodes chosen frames of one stream. ``again`` yields its packets anew when they were not kept in memory."""

    def __init__(
        self, codec: Any, listing: Listing, again: Callable[[], Iterable[Any]], deadline: Deadline, *, told: bool
    ) -> None:
        self._codec = codec
        codec.thread_count = 1  # the processes are many; threads within each only contend
        try:
            codec.open(strict=False)  # now: dav1d would keep for good the skip_frame that it finds when it opens
        except (av.error.FFmpegError, ValueError) as error:
            raise MediaError("undecodable", f"the decoder refuses the stream's header: {brief(error)}") from None
        self._listing = listing
        self._again = again
        self._deadline = deadline
        self._told = told and listing.told()
        self._rgb = ToRGB()
        self._errors = 0
        self._why = ""

    def frames(self, choose: Choose, convert: Convert) -> Frames:
        """Decode the frames that ``choose(count, fps)`` names and pass each, upright RGB, through ``convert``.

        MediaError("undecodable") where not one frame comes out.
        """
        found = self._by_time(choose, convert) if self._told else None
        return found or self._by_counting(choose, convert)

    def require_frame(self) -> None:
        """Decode up to the first frame that comes out; MediaError("undecodable") where none does."""
        self._codec.flush_buffers()
        feed = self._feed()
        packet: Any = feed  # anything but None
        while packet is not None:
            packet = feed.next()
            if self._decode(packet):
                return
        raise MediaError("undecodable", self._no_frames())

    # -- frames whose times the packets tell --------------------------------------------------------------------------

    def _by_time(self, choose: Choose, convert: Convert) -> Frames | None:
        """Decode only what the chosen frames need; None where one of them does not come out as promised."""
        listing = self._listing
        ordinals = np.flatnonzero(listing.shown)
        times = np.array([listing.pts[i] for i in ordinals], dtype=np.int64)
        order = np.argsort(times)
        times, ordinals = times[order], ordinals[order]
        chosen = choose(len(times), listing.fps(times))
        got = self._deliver({int(times[i]): int(ordinals[i]) for i in chosen}, convert)
        if got is None:
            return None
        step = int(np.median(np.diff(times))) if len(times) > 1 else listing.last_duration
        return Frames(
            pictures=[got[int(times[i])] for i in chosen],
            times_s=(times[chosen] - times[0]) * listing.tick,
            start_s=float(times[0]) * listing.tick,
            duration_s=float(times[-1] + step - times[0]) * listing.tick,
            count=len(times),
            damage=f"{listing.damage}; {len(times)} frames can be decoded" if listing.damage else "",
        )

    def _deliver(self, wanted: dict[int, int], convert: Convert) -> dict[int, Any] | None:
        """The frames of ``wanted`` (time -> packet ordinal), converted; None if one is missing or any packet fails.

        In presentation order, each frame is decoded from the last keyframe that precedes it in the file and in time,
        unless the decoder already stands between the two. Packets that no other frame refers to are not decoded.
        """
        targets = set(wanted.values())
        got: dict[int, Any] = {}
        feed = self._feed()
        ended = False
        for pts in sorted(wanted):
            start = self._keyframe(wanted[pts], pts)
            if not ended and pts not in got and (start > feed.position or feed.position == 0):
                self._codec.flush_buffers()
                feed.skip_to(start)
            while not ended and pts not in got:
                self._codec.skip_frame = "DEFAULT" if feed.position in targets else "NONREF"
                packet = feed.next()
                ended = packet is None
                for frame in self._decode(packet):
                    if frame.pts in wanted and frame.pts not in got:
                        if frame.is_corrupt:
                            return None
                        got[frame.pts] = convert(self._rgb(frame))
            if pts not in got or self._errors:
                return None
        return got

    def _keyframe(self, ordinal: int, pts: int) -> int:
        """The packet to start from: a keyframe at or before ``ordinal``, itself displayed no later than ``pts``.

        The second condition passes over the keyframe of an open group of pictures, whose leading frames refer back.
        """
        for i in range(ordinal, 0, -1):
            own = self._listing.pts[i]
            if self._listing.key[i] and own is not None and own <= pts:
                return i
        return 0

    # -- frames that only the decoder can count -----------------------------------------------------------------------

    def _by_counting(self, choose: Choose, convert: Convert) -> Frames:
        """Decode everything; the frames are those that come out whole, in the order in which they come.

        The choice is first made over as many frames as there are packets, and made again, with a second decode, where
        the count turns out otherwise. Where no frame at all is whole (no keyframe is marked, or all are damaged),
        those that come out damaged are better than none.
        """
        guess, strict = max(1, sum(self._listing.shown)), True
        for _ in range(4):
            chosen = choose(guess, self._listing.fps())
            got, whence, broken = self._count(set(chosen.tolist()), convert, strict=strict)
            if not whence and not (strict and broken):
                raise MediaError("undecodable", self._no_frames())
            if len(whence) == guess:
                break
            guess, strict = len(whence) or broken, bool(whence) and strict
        else:
            raise MediaError("undecodable", "the decoder delivers another number of frames each time")
        clock, start_s = self._clock(whence)
        step = float(np.median(np.diff(clock))) if len(clock) > 1 else 1 / self._listing.fps()
        return Frames(
            pictures=[got[int(i)] for i in chosen],
            times_s=clock[chosen],
            start_s=start_s,
            duration_s=float(clock[-1]) + step,
            count=len(whence),
            damage=self._damage(len(whence), broken),
        )

    def _count(self, wanted: set[int], convert: Convert, *, strict: bool) -> tuple[dict[int, Any], list[int], int]:
        """Decode all: (frames at the wanted places, the packet of every whole frame, how many came out damaged).

        A packet that fails takes along the frames up to the next keyframe: they refer to it, and decoders deliver them
        nonetheless, smeared. Packets carry their ordinal as timestamp, so that frames tell which packet they are of.
        """
        self._errors, self._why = 0, ""
        self._codec.flush_buffers()
        self._codec.skip_frame = "DEFAULT"
        got: dict[int, Any] = {}
        whence: list[int] = []
        broken = 0
        suspect = set(self._spoilt(self._listing.torn))
        feed = self._feed()
        packet: Any = feed  # anything but None
        while packet is not None:
            packet = feed.next()
            ordinal = feed.position - 1
            if packet is not None:
                packet.pts = ordinal
            before = self._errors
            frames = self._decode(packet)
            if self._errors > before:
                suspect.update(self._spoilt([ordinal]))
            for frame in frames:
                source = int(frame.pts) if frame.pts is not None else (whence[-1] if whence else 0)
                if frame.is_corrupt:
                    suspect.update(self._spoilt([source]))
                if strict and source in suspect:
                    broken += 1
                    continue
                if len(whence) in wanted:
                    got[len(whence)] = convert(self._rgb(frame))
                whence.append(source)
        return got, whence, broken

    def _spoilt(self, ordinals: Iterable[int]) -> Iterator[int]:
        """The given packets and those after each up to the next keyframe."""
        for first in ordinals:
            yield first
            for i in range(first + 1, len(self._listing.key)):
                if self._listing.key[i]:
                    break
                yield i

    def _clock(self, whence: list[int]) -> tuple[NDArray[np.float64], float]:
        """(seconds of each counted frame from the first, the first one's on the file's clock).

        From their packets' presentation times; else, as in AVI, from the decoding times in order, which differ from
        those by a constant; else from their place at the nominal rate.
        """
        listing = self._listing
        for stamps, ordered in ((listing.pts, False), (listing.dts, True)):
            known = [stamp for stamp in (stamps[i] for i in whence) if stamp is not None]
            times = np.array(sorted(known) if ordered else known, dtype=np.int64)
            if len(known) == len(whence) and (np.diff(times) > 0).all():
                return (times - times[0]) * listing.tick, float(times[0]) * listing.tick
        return np.arange(len(whence)) / listing.fps(), 0.0

    # -- shared -------------------------------------------------------------------------------------------------------

    def _feed(self) -> _Feed:
        packets = self._listing.packets
        return _Feed(iter(packets if packets is not None else self._again()), len(self._listing.pts))

    def _decode(self, packet: Any) -> list[Any]:
        """The frames that one packet releases (None: drain); a packet that cannot be decoded is counted."""
        self._deadline.check()
        try:
            return list(self._codec.decode(packet))
        except av.error.EOFError:
            return []
        except (av.error.FFmpegError, ValueError) as error:
            self._errors += 1
            self._why = self._why or brief(error)
            return []

    def _damage(self, count: int, broken: int) -> str:
        """One line on what is damaged, empty when nothing is."""
        parts = [self._listing.damage] if self._listing.damage else []
        if self._errors:
            parts.append(f"{self._errors} of {len(self._listing.pts)} packets cannot be decoded: {self._why}")
        if broken:
            parts.append(f"{broken} frames are damaged and left out")
        return "; ".join([*parts, f"{count} frames can be decoded"]) if parts else ""

    def _no_frames(self) -> str:
        why = self._why or self._listing.damage or "the decoder delivers nothing"
        return f"none of {len(self._listing.pts)} video packets gives a frame: {why}"


class _Feed:
    """Packets one after the other, with their place in the file."""

    def __init__(self, packets: Iterator[Any], total: int) -> None:
        self._packets = packets
        self._total = total
        self.position = 0  # ordinal of the packet that comes next

    def next(self) -> Any | None:
        """The next packet; None after the last that was listed."""
        packet = next(self._packets, None) if self.position < self._total else None
        self.position += 1
        return packet

    def skip_to(self, ordinal: int) -> None:
        """Leave out the packets before ``ordinal``."""
        while self.position < ordinal:
            self.next()
