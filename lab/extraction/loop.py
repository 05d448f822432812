"""The pass: files and captions in, features in a store out, in units of work that a crash cannot half-do.

Videos are decoded by processes while this process encodes, in units of 16 videos. A unit is done as a whole or done
again, so the batches that the networks see depend on which files there are and never on timing or on earlier runs:
a finished store does not show how often its pass was killed.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lab import cli
from lab.datasets import Collection
from lab.extraction.encode import Begun, audio_rows, begin, frame_rows
from lab.extraction.outcome import ledger_rows, writable
from lab.extraction.units import Share, Unit, caption_units, units
from lab.media import Clip, read_clip
from lab.preprocess import ImageSpec
from lab.sampling import Sampling
from lab.store import CHUNK_VIDEOS, UNIT_VIDEOS
from lab.store.ledger import Entry, videos_block
from lab.store.writer import StoreWriter, require_finite
from lab.workers import DecodePool

if TYPE_CHECKING:
    from lab.backbones.clip import ClipBackbone
    from lab.backbones.panns import PannsBackbone

log = logging.getLogger(__name__)

VIDEO_MODALITIES = ("frames", "audio")
#: A file is given up after so many times its CPU limit by the clock: it blocks, or a busy machine starves it.
BLOCKED_TIMES = 5


@dataclass
class Spent:
    """Where the time of a pass went, in seconds: decoding is CPU time of the decode processes, the others wall time."""

    decoding: float = 0.0
    encoding: float = 0.0
    writing: float = 0.0
    wall: float = 0.0
    videos: int = 0
    captions: int = 0


@dataclass(frozen=True)
class Decoding:
    """How a file is decoded: which frames, as what the image tower wants, and how long it may take or sound."""

    sampling: Sampling
    spec: ImageSpec
    deadline_s: float
    max_audio_s: float

    def job(self, frames: bool, audio_hz: int | None) -> Callable[[Path], Clip]:
        """What a decode process does with a file: of ``lab.media`` alone, so that none of them imports torch."""
        return partial(
            read_clip,
            sampling=self.sampling,
            spec=self.spec,
            frames=frames,
            audio_hz=audio_hz,
            deadline_s=self.deadline_s,
            max_audio_s=self.max_audio_s,
        )


@dataclass
class Pass:
    """One run over a collection. ``clip`` or ``panns`` may be None where their modality is not asked for."""

    collection: Collection
    writer: StoreWriter
    modalities: frozenset[str]
    clip: ClipBackbone | None
    panns: PannsBackbone | None
    decoding: Decoding
    share: Share = field(default_factory=Share)
    workers: int = 2
    spent: Spent = field(default_factory=Spent)
    #: What decodes, and what shows progress: their like in ``lab.cluster.shards`` may stand here.
    pool: Callable[..., Any] = DecodePool
    bar: Callable[[float, str, str], Any] = cli.bar
    _begun: tuple[Unit, list[Clip | Exception | None], Begun] | None = field(default=None, init=False)

    def run(self) -> Spent:
        """Does what is not done yet. May be interrupted anywhere; the next run goes on."""
        with timed(self.spent, "wall"):
            self._videos()
            if "text" in self.modalities:
                self._captions()
        return self.spent

    # -- videos --------------------------------------------------------------------------------------------------

    def _videos(self) -> None:
        wanted = [name for name in VIDEO_MODALITIES if name in self.modalities]
        todo = list(units(self.collection, self.writer.ledger, self.share, wanted)) if wanted else []
        total = sum(file is not None for unit in todo for file in unit.files)
        if not total:
            return
        if replaced := sum(unit.replaced for unit in todo):
            log.info("%d files are others than when they were read: they are read again", replaced)
        # Two kinds of units decode different things (a modality added later); each kind has its own job.
        for modalities in sorted({unit.modalities for unit in todo}, key=sorted):
            self._decode_and_encode([unit for unit in todo if unit.modalities == modalities], modalities)

    def _decode_and_encode(self, units: list[Unit], modalities: frozenset[str]) -> None:
        audio_hz = self.panns.sample_rate if self.panns is not None and "audio" in modalities else None
        job = self.decoding.job("frames" in modalities, audio_hz)
        files = [file for unit in units for file in unit.files if file is not None]
        ahead = UNIT_VIDEOS + 2 * self.workers  # one unit waits to be encoded while the next is being decoded
        with (
            self.pool(self.workers, job, deadline_s=BLOCKED_TIMES * self.decoding.deadline_s) as pool,
            self.bar(len(files), "videos", "video") as bar,
        ):
            results = pool.run(files, ahead)
            decoded = written = 0
            for unit in units:
                clips: list[Clip | Exception | None] = []
                for file in unit.files:
                    clips.append(next(results)[1] if file is not None else None)
                    decoded += file is not None
                    bar.set_postfix_str(_more(decoded - written), refresh=sys.stderr.isatty())
                # What is written counts, for that alone is there after a kill.
                done = self._commit(unit, clips)
                written += done
                bar.set_postfix_str(_more(decoded - written), refresh=False)
                bar.update(done)
            bar.set_postfix_str("", refresh=False)
            bar.update(self._finish())

    def _commit(self, unit: Unit, clips: list[Clip | Exception | None]) -> int:
        """Encodes and writes a unit. A GPU encodes it while the one before is written, and it is written later.

        Returns how many files were written.
        """
        self.spent.decoding += sum(clip.seconds for clip in clips if isinstance(clip, Clip))
        with timed(self.spent, "encoding"):
            begun = begin(unit.modalities, clips, self.clip, self.panns)
        written = self._finish()
        self._begun = (unit, clips, begun)
        return written if self._on_gpu() else written + self._finish()

    def _on_gpu(self) -> bool:
        return any(network is not None and network.device.type == "cuda" for network in (self.clip, self.panns))

    def _finish(self) -> int:
        """Waits for the unit that was begun, if there is one; writes it, then its ledger rows. Returns its files."""
        if self._begun is None:
            return 0
        (unit, clips, begun), self._begun = self._begun, None
        videos = self.collection.videos[unit.first : unit.first + UNIT_VIDEOS]
        rows: list[Entry] = []
        with timed(self.spent, "encoding"):
            frames = begun.frames() if begun.frames is not None else None
            audio = begun.audio() if begun.audio is not None else None
        if frames is not None:
            require_finite(frames, f"frames of the videos from row {unit.first}")
            written = writable(unit, clips, "frames")
            with timed(self.spent, "writing"):
                self.writer.write_frames(unit.first, frame_rows(written, frames))
            rows += ledger_rows(unit, videos, written, "frames")
        if audio is not None:
            for _, segments in audio:
                require_finite(segments, f"audio of the videos from row {unit.first}")
            written = writable(unit, clips, "audio")
            with timed(self.spent, "writing"):
                self.writer.write_audio(unit.first, audio_rows(written, audio))
            rows += ledger_rows(unit, videos, written, "audio")
        with timed(self.spent, "writing"):
            self.writer.record(videos_block(unit.first // CHUNK_VIDEOS), rows)
        self.spent.videos += len({entry.video for entry in rows})
        return sum(file is not None for file in unit.files)

    # -- captions ------------------------------------------------------------------------------------------------

    def _captions(self) -> None:
        """Encodes the captions of the videos with a file or with features: the others can be no query's answer yet."""
        if self.clip is None:
            raise ValueError("text needs a CLIP backbone")
        store = self.writer.store
        stored = store.read("frame_count") > 0 if "frames" in store.passport else False
        present = np.asarray([video.file is not None for video in self.collection.videos], bool) | stored
        todo = list(caption_units(self.collection, self.writer.ledger, self.share, present))
        if not todo:
            return
        with self.bar(sum(map(len, todo)), "captions", "caption") as bar:
            for rows in todo:
                with timed(self.spent, "encoding"):
                    encoded = self.clip.encode_texts([self.collection.captions[row].text for row in rows])
                    require_finite(encoded.sentences, f"captions {rows[0]} to {rows[-1]}")
                    require_finite(encoded.words, f"words of captions {rows[0]} to {rows[-1]}")
                with timed(self.spent, "writing"):
                    self.writer.write_text(rows, encoded.sentences, encoded.words)
                    self.writer.record_text(rows)
                self.spent.captions += len(rows)
                bar.update(len(rows))


def _more(videos: int) -> str:
    return f"{videos} more decoded" if videos else ""


@contextmanager
def timed(spent: Spent, stage: str) -> Iterator[None]:
    """Adds the wall time of its body to a stage."""
    start = time.perf_counter()
    try:
        yield
    finally:
        setattr(spent, stage, getattr(spent, stage) + time.perf_counter() - start)
