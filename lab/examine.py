"""One file, looked at as the pass will look at it: what a process of ``lab.doctor`` does. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lab.media import MediaError, Probe, Sampling, probe, read_clip
from lab.preprocess import ImageSpec

HOURS_S = 2 * 3600.0
HUGE_BYTES = 4 * 2**30
HUGE_PIXELS = 3840 * 2160
SHORT_S = 0.3


@dataclass(frozen=True)
class Finding:
    """What is to be expected of a file. ``status`` is the ledger's word: ok, truncated, missing, undecodable, ..."""

    video: str
    file: str
    status: str
    reason: str = ""
    audio: str = (
        ""  # present | absent; after a deep look also silent, too_short, truncated, undecodable. "" if not known
    )
    remarks: tuple[str, ...] = ()
    bytes: int = 0
    duration_s: float = 0.0
    codec: str = ""
    width: int = 0
    height: int = 0
    fps: float = 0.0
    frames: int = 0

    @property
    def fails(self) -> bool:
        """Whether the pass will leave this video without frames."""
        return self.status not in ("ok", "truncated")


def examine(item: tuple[str, str], *, deep: bool = False, deadline_s: float = 60.0) -> Finding:
    """The finding on ``item``, a video's id and file: headers, all packets, and the first frame decoded.

    ``deep`` also decodes the last frame and all of the sound. Whatever is wrong with the file is in the finding; only
    a crash of the decoder itself surfaces, as an exception of the pool that runs this.
    """
    video, file = item
    try:
        seen = probe(file, deadline_s=deadline_s)
    except MediaError as error:
        return Finding(video, file, error.status, error.reason, bytes=_size(Path(file)))
    status, reason, audio = seen.status, seen.reason, "present" if seen.has_audio else "absent"
    if deep:
        try:
            clip = read_clip(file, Sampling("uniform", 2), ImageSpec(size=32), deadline_s=deadline_s)
        except MediaError as error:
            return Finding(video, file, error.status, error.reason, audio, bytes=seen.size)
        status, reason = clip.frames_status, clip.frames_reason
        audio = {"ok": "present", "no_audio": "absent"}.get(clip.audio_status, clip.audio_status)
    remarks = tuple(_remarks(seen))
    return Finding(
        video, file, status, reason, audio, remarks, seen.size, round(seen.duration_s, 3), seen.codec,
        seen.width, seen.height, round(seen.fps, 3), seen.frames,
    )  # fmt: skip


def _remarks(seen: Probe) -> list[str]:
    """What a pass survives, and a person may want to know before it."""
    checks = (
        (seen.duration_s <= 0, "duration 0"),
        (0 < seen.duration_s < SHORT_S, f"only {seen.duration_s:.2f} s long"),
        (seen.duration_s > HOURS_S, f"{seen.duration_s / 3600:.1f} hours long"),
        (seen.frames == 1, "a single frame"),
        (seen.size > HUGE_BYTES, f"{seen.size / 2**30:.1f} GB"),
        (seen.width * seen.height > HUGE_PIXELS, f"{seen.width}×{seen.height} pixels"),
        (seen.video_streams > 1, f"{seen.video_streams} video streams"),
    )
    return [text for holds, text in checks if holds]


def _size(file: Path) -> int:
    try:
        return file.stat().st_size if file.is_file() else 0
    except OSError:
        return 0
