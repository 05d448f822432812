"""What a video file holds, read once without decoding a picture: which packets are displayed when, what is broken."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import av.error
import numpy as np
from av.stream import Disposition
from numpy.typing import NDArray

from lab.media.file import MAX_PIXELS, Deadline, MediaError, brief
from lab.media.length import Cut

# One packet is one displayed frame, at its packet's time, only here. Elsewhere (MPEG-4 with packed B-frames, VP8 with
# invisible reference frames, field pairs in transport streams, any AVI) the decoder has to count.
_TOLD_CODECS = {"h264", "hevc", "vp9", "av1"}
_PACKET_BYTES = 512  # of memory that a packet takes besides its data
_TOLD_FORMATS = {"mov", "mp4", "matroska", "webm"}


@dataclass
class Listing:
    """The packets of one video stream in file order, and which of them are displayed when (in ticks of ``tick`` s)."""

    tick: float = 1e-3
    rate: float = 0.0  # frames per second as the stream states it, 0 where it states none that can be meant
    pts: list[int | None] = field(default_factory=list)
    dts: list[int | None] = field(default_factory=list)
    key: list[bool] = field(default_factory=list)
    shown: list[bool] = field(default_factory=list)
    torn: list[int] = field(default_factory=list)  # ordinals that the demuxer knows to be incomplete
    packets: list[Any] | None = field(default_factory=list)  # None once they outgrew the memory allowed for them
    bytes: int = 0
    last_duration: int = 0
    end_s: float = 0.0  # of the last packet of any stream, on the file's clock
    damage: str = ""  # why the list ends early or has holes
    stopped: str = ""  # why every stream ends early, the sound too

    def add(self, packet: Any, keep_bytes: int) -> None:
        """Note one packet, and keep it while all of them fit into ``keep_bytes``."""
        if packet.is_corrupt:
            self.torn.append(len(self.pts))
        self.pts.append(packet.pts)
        self.dts.append(packet.dts)
        self.key.append(packet.is_keyframe)
        self.shown.append(not packet.is_discard and not packet.is_corrupt)
        self.bytes += packet.size + _PACKET_BYTES
        self.last_duration = packet.duration or self.last_duration
        if self.packets is not None:
            self.packets.append(packet)
            if self.bytes > keep_bytes:
                self.packets = None

    def told(self) -> bool:
        """Whether every displayed packet has a time of its own and can be decoded, as far as packets can tell.

        A file cut out of a longer one may start within an open group of pictures, whose first frames refer to what is
        gone; whether a decoder then shows them is for the decoder to say.
        """
        if self.torn or not self.key or not self.key[0] or self.pts[0] is None:
            return False
        times = [pts for pts, shown in zip(self.pts, self.shown, strict=True) if shown]
        known = [pts for pts in times if pts is not None]
        return len(set(known)) == len(times) > 0 and (min(known) >= self.pts[0] or not self.shown[0])

    def span_s(self) -> tuple[float, float]:
        """(start, duration) in seconds of what is displayed, as the packets tell."""
        shown = np.flatnonzero(self.shown).tolist()
        stamps = self.dts if any(self.pts[i] is None for i in shown) else self.pts
        times = [t for t in (stamps[i] for i in shown) if t is not None]
        if not times:
            return 0.0, 0.0
        return min(times) * self.tick, (max(times) - min(times) + self.last_duration) * self.tick

    def fps(self, times: NDArray[np.int64] | None = None) -> float:
        """Frames per second: what the stream states, else what its timestamps amount to, else 25."""
        if self.rate or times is None or len(times) < 2:
            return self.rate or 25.0
        return (len(times) - 1) / max(float(times[-1] - times[0]) * self.tick, 1e-3)


def best_video(container: Any) -> Any:
    """The stream a player would show; cover art does not count. MediaError("no_video") where there is none."""
    streams = list(container.streams.video)
    real = [s for s in streams if not _attached(s) and s.codec_context is not None]
    if not real:
        if any(not _attached(s) for s in streams):
            raise MediaError("undecodable", "no decoder for the video stream's codec")
        what = "only cover art" if streams else "no video stream"
        sounds = len(container.streams.audio)
        raise MediaError("no_video", what + (f" (audio streams: {sounds})" if sounds else ""))
    best = container.streams.best("video")
    stream = best if best in real else real[0]
    width, height = stream.codec_context.width, stream.codec_context.height
    if width * height > MAX_PIXELS:
        raise MediaError("undecodable", f"`width × height <= {MAX_PIXELS}` must hold, the header says {width}×{height}")
    return stream


def _attached(stream: Any) -> bool:
    return bool(stream.disposition & Disposition.attached_pic)


def told_by_packets(container: Any, stream: Any) -> bool:
    """Whether container and codec are of the kinds where one packet is one displayed frame."""
    formats = set(container.format.name.split(","))
    return bool(formats & _TOLD_FORMATS) and stream.codec_context.codec.canonical_name in _TOLD_CODECS


def scan(
    container: Any,
    video: Any | None,
    cut: Cut | None,
    hear: Callable[[Any], None] | None,
    deadline: Deadline,
    *,
    keep_bytes: int,
) -> Listing:
    """Read a file once: list the packets of ``video``, hand those of other streams to ``hear``.

    What breaks the reading off is noted in ``damage``, never raised; MediaError only when the time is up.
    """
    listing = _empty(video)
    index = video.index if video is not None else -1
    ticks: dict[int, float] = {}  # a Fraction for each of many packets would take longer than reading them
    try:
        for packet in container.demux():
            deadline.check()
            if packet.size == 0:
                continue
            stream = packet.stream_index
            last = packet.pts if packet.pts is not None else packet.dts
            if last is not None:
                tick = ticks.get(stream) or ticks.setdefault(stream, float(packet.time_base))
                listing.end_s = max(listing.end_s, (last + (packet.duration or 0)) * tick)
            if stream == index:
                listing.add(packet, keep_bytes)
            elif hear is not None:
                hear(packet)
    except IndexError:
        pass  # all packets were seen: PyAV stumbles at the end over a stream that appeared while reading
    except (av.error.FFmpegError, OSError, ValueError) as error:
        deadline.check()
        listing.damage = f"reading stops after {len(listing.pts)} video packets: {brief(error)}"
        listing.stopped = listing.damage
    listing.damage = listing.damage or _damage(container, video, cut, listing)
    return listing


def _empty(video: Any | None) -> Listing:
    listing = Listing()
    if video is not None:
        rates = (video.average_rate, video.guessed_rate, video.base_rate)
        listing.rate = next((float(rate) for rate in rates if rate and 0.01 < float(rate) <= 1000), 0.0)
        listing.tick = float(video.time_base or 0) or listing.tick
    return listing


def _damage(container: Any, video: Any | None, cut: Cut | None, listing: Listing) -> str:
    """What is wrong with a file that could be read to its end, or to what its reader took for it."""
    stated = int(video.frames or 0) if video is not None else 0
    count = len(listing.pts)
    # A wrong frame count in the header alone proves nothing, nor does a wrong length when all frames are there.
    if cut is not None and (cut.header or not stated or count < stated):
        return cut.reason + (f", after {count} of {stated} frames" if stated > count else "")
    if listing.torn:
        return f"{len(listing.torn)} of {count} video packets are incomplete"
    stated_s = float(container.duration or 0) / 1e6
    if "matroska" in container.format.name and listing.end_s + max(0.5, 0.05 * stated_s) < stated_s:
        listing.stopped = f"the header says {stated_s:.1f} s, the last packet ends at {listing.end_s:.1f} s"
        return listing.stopped
    return ""
