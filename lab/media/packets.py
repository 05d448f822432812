"""One video stream's packets on their way through its decoder, any number of times, with what went wrong counted."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import av.error
import numpy as np
from numpy.typing import NDArray

from lab.media.file import Deadline, MediaError, brief
from lab.media.listing import Listing
from lab.media.picture import Picture

Choose = Callable[[int, float], NDArray[np.int64]]  # (displayed frames, frames per second) -> indices to keep
Convert = Callable[[Picture], Any]


@dataclass
class Frames:
    """What came of a stream: the converted pictures in the order of the indices asked for, and their times."""

    pictures: list[Any]
    times_s: NDArray[np.float64]  # of each picture, from the first displayed frame
    start_s: float  # of the first displayed frame, on the file's own clock
    duration_s: float
    damage: str


class Source:
    """A stream to be decoded. ``again`` yields its packets anew when they were not kept in memory."""

    def __init__(self, codec: Any, listing: Listing, again: Callable[[], Iterable[Any]], deadline: Deadline) -> None:
        codec.thread_count = 1  # the processes are many; threads within each only contend
        try:
            codec.open(strict=False)  # now: dav1d would keep for good the skip_frame that it finds when it opens
        except (av.error.FFmpegError, ValueError) as error:
            raise MediaError("undecodable", f"the decoder refuses the stream's header: {brief(error)}") from None
        self.codec = codec
        self.listing = listing
        self.errors = 0
        self.why = ""  # the first error's words
        self._again = again
        self._deadline = deadline

    def start(self) -> Feed:
        """The packets from the first, the decoder empty, no errors yet."""
        self.errors, self.why = 0, ""
        self.codec.flush_buffers()
        self.codec.skip_frame = "DEFAULT"
        packets = self.listing.packets
        return Feed(iter(packets if packets is not None else self._again()), len(self.listing.pts))

    def decode(self, packet: Any) -> list[Any]:
        """The frames that one packet releases (None: drain); a packet that cannot be decoded is counted."""
        self._deadline.check()
        try:
            return list(self.codec.decode(packet))
        except av.error.EOFError:
            return []
        except (av.error.FFmpegError, ValueError) as error:
            self.errors += 1
            self.why = self.why or brief(error)
            return []

    def nothing(self) -> MediaError:
        """The error for a stream that gives not one frame."""
        why = self.why or self.listing.damage or "the decoder delivers nothing"
        return MediaError("undecodable", f"none of {len(self.listing.pts)} video packets gives a frame: {why}")


class Feed:
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
