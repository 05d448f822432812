"""The pictures of one video stream: list its packets without decoding, choose frames, decode as little as exactness allows.

The trap in every loader of the field: asking a container to seek to "frame i" yields another frame where there are
B-frames, a variable rate, an edit list or a wrong header. Here nothing is sought. The packets, read once, tell the
presentation time of every displayed frame; indices are chosen over those; then the same packets go to the decoder from
the last keyframe before each wanted frame. Where packets cannot tell (AVI has no presentation times, MPEG-4 hides
frames in others, files are damaged), frames are counted as the decoder delivers them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import av.error
import numpy as np
from av.sidedata.sidedata import Type as SideData
from numpy.typing import NDArray

from lab.media_file import MAX_PIXELS, Deadline, MediaError, brief

Picture = NDArray[np.uint8]

# One packet is one displayed frame, at its packet's time, only here. Elsewhere (MPEG-4 with packed B-frames, VP8 with
# invisible reference frames, field pairs in transport streams, any AVI) the decoder has to count.
_TOLD_CODECS = {"h264", "hevc", "vp9", "av1"}
_TOLD_FORMATS = {"mov", "mp4", "matroska", "webm"}


@dataclass
class Listing:
    """The packets of a video stream in file order, and which of them are displayed when."""

    pts: list[int | None] = field(default_factory=list)
    key: list[bool] = field(default_factory=list)
    shown: list[bool] = field(default_factory=list)
    packets: list[Any] | None = field(default_factory=list)  # None once they outgrew the memory allowed for them
    bytes: int = 0
    last_duration: int = 0
    damage: str = ""  # why the list ends early or has holes
    torn: int = 0  # packets that the demuxer knows to be incomplete

    def add(self, packet: Any, keep_bytes: int) -> None:
        """Note one packet, and keep it while all of them fit into ``keep_bytes``."""
        self.pts.append(packet.pts)
        self.key.append(packet.is_keyframe)
        self.shown.append(not packet.is_discard and not packet.is_corrupt)
        self.torn += packet.is_corrupt
        self.bytes += packet.size
        self.last_duration = packet.duration or self.last_duration
        if self.packets is not None:
            self.packets.append(packet)
            if self.bytes > keep_bytes:
                self.packets = None

    def told(self) -> bool:
        """Whether every displayed packet has a presentation time of its own."""
        times = [pts for pts, shown in zip(self.pts, self.shown, strict=True) if shown]
        return None not in times and len(set(times)) == len(times) > 0


@dataclass
class Frames:
    """What came of a stream: pictures in the order of the indices asked for, and their times."""

    pictures: list[Any]
    times_s: NDArray[np.float64]  # of each picture, from the first displayed frame
    start_s: float  # of the first displayed frame, on the file's own clock
    duration_s: float
    count: int  # displayed frames
    damage: str


Choose = Callable[[int, float], NDArray[np.int64]]
Convert = Callable[[Picture], Any]


class Decoder:
    """Decodes chosen frames of one stream. ``again`` yields its packets anew when they were not kept in memory."""

    def __init__(
        self, stream: Any, listing: Listing, again: Callable[[], Iterable[Any]], told: bool, deadline: Deadline
    ) -> None:
        self._stream = stream
        self._codec = stream.codec_context
        self._listing = listing
        self._again = again
        self._told = told and listing.told()
        self._deadline = deadline
        self._tick = float(stream.time_base or 0) or 1e-3
        self._convert_rgb = _Converter()
        self._errors = 0
        self._why = ""

    def frames(self, choose: Choose, convert: Convert) -> Frames:
        """Decode the frames that ``choose(count, fps)`` names and pass each, upright RGB, through ``convert``.

        MediaError("undecodable") where not one frame comes out.
        """
        if self._told:
            found = self._by_time(choose, convert)
            if found is not None:
                return found
        return self._by_counting(choose, convert)

    # -- frames whose times the packets tell ---------------------------------------------------------------------

    def _by_time(self, choose: Choose, convert: Convert) -> Frames | None:
        """Decode only what the chosen frames need; None where one of them does not come out as promised."""
        listing = self._listing
        ordinals = [i for i, shown in enumerate(listing.shown) if shown]
        times = np.array([listing.pts[i] for i in ordinals], dtype=np.int64)
        order = np.argsort(times, kind="stable")
        times = times[order]
        chosen = choose(len(times), self._rate(times))
        wanted = {int(times[i]): ordinals[int(order[i])] for i in chosen}
        got = self._deliver(wanted, convert)
        if got is None:
            return None
        end = int(times[-1]) + self._last_duration(times)
        return Frames(
            pictures=[got[int(times[i])] for i in chosen],
            times_s=(times[chosen] - times[0]) * self._tick,
            start_s=float(times[0]) * self._tick,
            duration_s=float(end - times[0]) * self._tick,
            count=len(times),
            damage=listing.damage,
        )

    def _deliver(self, wanted: dict[int, int], convert: Convert) -> dict[int, Any] | None:
        """The frames of ``wanted`` (time -> packet ordinal), converted; None if one is missing or marked corrupt.

        In presentation order, each frame is decoded from the last keyframe that precedes it in the file and in time,
        unless the decoder already stands between the two; packets that no other frame refers to are not decoded.
        """
        targets = set(wanted.values())
        got: dict[int, Any] = {}
        feed = self._feed()
        done = False
        for pts in sorted(wanted):
            if pts in got:
                continue
            start = self._keyframe(wanted[pts], pts)
            if done and start <= feed.position:
                return None  # the decoder ran to the end without delivering it
            if start > feed.position or feed.position == 0:
                self._codec.flush_buffers()
                feed.skip_to(start)
            while pts not in got and not done:
                packet = feed.next()
                done = packet is None
                if packet is not None:
                    self._codec.skip_frame = "DEFAULT" if feed.position - 1 in targets else "NONREF"
                for frame in self._decode(packet):
                    if frame.pts in wanted and frame.pts not in got:
                        if frame.is_corrupt:
                            return None
                        got[frame.pts] = convert(self._convert_rgb(frame))
            if pts not in got or self._errors:
                return None
        return got

    def _keyframe(self, ordinal: int, pts: int) -> int:
        """The packet to start from: a keyframe at or before ``ordinal``, itself displayed no later than ``pts``.

        The second condition passes over the keyframe of an open group of pictures, whose leading frames refer back.
        """
        listing = self._listing
        for i in range(ordinal, -1, -1):
            if listing.key[i]:
                own = listing.pts[i]
                if own is not None and own <= pts:
                    return i
        return 0

    # -- frames that only the decoder can count ------------------------------------------------------------------

    def _by_counting(self, choose: Choose, convert: Convert) -> Frames:
        """Decode everything; the frames are those that come out whole, in the order in which they come.

        The choice is first made over as many frames as there are packets, and made again, with a second decode, where
        the count turns out otherwise.
        """
        guess = max(1, sum(self._listing.shown))
        for _ in range(3):
            chosen = choose(guess, self._rate(None))
            got, times, corrupt = self._count(set(chosen.tolist()), convert)
            if not times:
                raise MediaError("undecodable", self._no_frames())
            if len(times) == guess:
                break
            guess = len(times)
        else:
            raise MediaError("undecodable", "the decoder delivers another number of frames each time")
        clock = self._clock(times)
        return Frames(
            pictures=[got[int(i)] for i in chosen],
            times_s=clock[chosen],
            start_s=times[0] * self._tick if times[0] is not None else 0.0,
            duration_s=float(clock[-1]) + self._step(clock),
            count=len(times),
            damage=self._damage(len(times), corrupt),
        )

    def _count(self, wanted: set[int], convert: Convert) -> tuple[dict[int, Any], list[int | None], int]:
        """(frames at the wanted places, the time of every whole frame, how many came out damaged) of a full decode."""
        self._errors, self._why = 0, ""
        self._codec.flush_buffers()
        self._codec.skip_frame = "DEFAULT"
        got: dict[int, Any] = {}
        times: list[int | None] = []
        corrupt = 0
        feed = self._feed()
        packet = feed.next()
        while True:
            for frame in self._decode(packet):
                if frame.is_corrupt:
                    corrupt += 1
                    continue
                if len(times) in wanted:
                    got[len(times)] = convert(self._convert_rgb(frame))
                times.append(frame.pts)
            if packet is None:
                return got, times, corrupt
            packet = feed.next()

    def _clock(self, times: list[int | None]) -> NDArray[np.float64]:
        """Seconds of each counted frame from the first: its timestamp, or its place at the nominal rate."""
        known = np.array([np.nan if t is None else t for t in times], dtype=np.float64) * self._tick
        if np.isfinite(known).all() and (np.diff(known) > 0).all():
            return known - known[0]
        return np.arange(len(times)) / self._rate(None)

    # -- shared --------------------------------------------------------------------------------------------------

    def _feed(self) -> _Feed:
        packets = self._listing.packets
        return _Feed(iter(packets if packets is not None else self._again()), len(self._listing.pts))

    def _decode(self, packet: Any) -> list[Any]:
        """The frames that one packet releases (None: drain); a packet that cannot be decoded is counted."""
        self._deadline.check()
        try:
            return list(self._codec.decode(packet))
        except (av.error.FFmpegError, ValueError) as error:
            if isinstance(error, av.error.EOFError):
                return []
            self._errors += 1
            self._why = self._why or brief(error)
            return []

    def _rate(self, times: NDArray[np.int64] | None) -> float:
        """Frames per second: what the stream states, else what its timestamps amount to."""
        for rate in (self._stream.average_rate, self._stream.guessed_rate, self._stream.base_rate):
            if rate and 0.01 < float(rate) <= 1000:
                return float(rate)
        if times is not None and len(times) > 1:
            return (len(times) - 1) / max(float(times[-1] - times[0]) * self._tick, 1e-3)
        return 25.0

    def _last_duration(self, times: NDArray[np.int64]) -> int:
        if len(times) > 1:
            return int(np.median(np.diff(times)))
        return self._listing.last_duration or round(1 / self._rate(None) / self._tick)

    def _step(self, clock: NDArray[np.float64]) -> float:
        return float(np.median(np.diff(clock))) if len(clock) > 1 else 1 / self._rate(None)

    def _damage(self, count: int, corrupt: int) -> str:
        """One line on what is damaged, empty when nothing is."""
        parts = [self._listing.damage] if self._listing.damage else []
        if self._errors:
            parts.append(f"{self._errors} of {len(self._listing.pts)} packets cannot be decoded: {self._why}")
        if corrupt:
            parts.append(f"{corrupt} frames are damaged and left out")
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
        if self.position >= self._total:
            return None
        packet = next(self._packets, None)
        self.position += 1
        return packet

    def skip_to(self, ordinal: int) -> None:
        """Leave out the packets before ``ordinal``."""
        while self.position < ordinal:
            self.next()


class _Converter:
    """Decoded frame to upright RGB at full size; one swscale context for all frames of a file."""

    def __init__(self) -> None:
        from av.video.reformatter import VideoReformatter

        self._reformatter = VideoReformatter()

    def __call__(self, frame: Any) -> Picture:
        """RGB (H, W, 3) with the display matrix applied; non-square pixels stay as they are, as in the papers' code."""
        if frame.width * frame.height > MAX_PIXELS:
            raise MediaError("undecodable", f"a picture of {frame.width}×{frame.height} is beyond {MAX_PIXELS} pixels")
        picture = self._reformatter.reformat(frame, format="rgb24").to_ndarray()
        return np.ascontiguousarray(_upright(picture, frame))


def _upright(picture: Picture, frame: Any) -> Picture:
    """Apply the frame's display matrix: any of the eight ways to turn and flip a rectangle."""
    matrix = next((d for d in frame.side_data if d.type == SideData.DISPLAYMATRIX), None)
    if matrix is None:
        return picture
    a, b, _, c, d = np.frombuffer(bytes(matrix), dtype=np.int32)[:5].tolist()
    # Stored (x, y) is shown at (a x + c y, b x + d y), y downwards. Swap the axes if they are swapped, then flip each
    # that ends up running backwards.
    if abs(b) + abs(c) > abs(a) + abs(d):
        picture = picture.transpose(1, 0, 2)
        a, d = c, b
    if a < 0:
        picture = picture[:, ::-1]
    if d < 0:
        picture = picture[::-1]
    return picture


def best_video(container: Any) -> Any:
    """The stream a player would show; cover art does not count. MediaError("no_video") where there is none."""
    streams = list(container.streams.video)
    real = [s for s in streams if not _attached(s) and s.codec_context is not None]
    if not real:
        what = "only cover art" if streams else "no video stream"
        sounds = len(container.streams.audio)
        raise MediaError("no_video", f"{what}" + (f" (audio streams: {sounds})" if sounds else ""))
    best = container.streams.best("video")
    stream = best if best in real else real[0]
    context = stream.codec_context
    if context.width * context.height > MAX_PIXELS:
        raise MediaError(
            "undecodable",
            f"`width × height <= {MAX_PIXELS}` must hold, the header says {context.width}×{context.height}",
        )
    return stream


def told_by_packets(container: Any, stream: Any) -> bool:
    """Whether container and codec are of the kinds where one packet is one displayed frame."""
    formats = set(container.format.name.split(","))
    return bool(formats & _TOLD_FORMATS) and stream.codec_context.name in _TOLD_CODECS


def _attached(stream: Any) -> bool:
    return "attached_pic" in str(stream.disposition).lower()
