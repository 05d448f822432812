"""A feature store, for reading: handed out as plain tensors. Needs zarr, NumPy and torch; no codec and no backbone."""

from __future__ import annotations

import json
import logging
import shlex
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
import zarr
from numpy.typing import NDArray

from lab.embeddings import RaggedWords, Texts, Videos
from lab.errors import LabError, unknown
from lab.store import chunks, thumbnails
from lab.store import passport as passports
from lab.store.ledger import Entry, Ledger

if TYPE_CHECKING:
    import polars

log = logging.getLogger(__name__)

#: Version of the layout. A store of a newer one is refused; older ones are read as long as this reader knows them.
SCHEMA = 1
#: Videos in a chunk: 64 × 12 × 512 × 2 bytes are 0.8 MB, where reading is fastest (one video a chunk is 9 × slower).
CHUNK_VIDEOS = 64
#: Videos in a unit of work, which is what a killed pass loses at most. Divides the chunk.
UNIT_VIDEOS = 16
#: Captions in a unit of work, and in a chunk.
UNIT_CAPTIONS = 512
#: The group of what is no array: tables, ledger, locks. A group of its own, so that zarr can list the arrays in peace.
TABLES = "tables"
#: What ``audio_presence`` holds. Papers that feed zeros for absent sound cannot tell these apart.
PRESENCE = {"unknown": 0, "absent": 1, "silent": 2, "present": 3}
#: The ground truth of a caption of which none is known. The table's file leaves out what is not known.
UNKNOWN: dict[str, Any] = {"start_s": None, "end_s": None, "needs_sound": None}


@dataclass(frozen=True)
class Coverage:
    """How much of a split the store holds, beside what its protocol lists."""

    videos: int
    videos_listed: int
    captions: int
    captions_listed: int

    @property
    def complete(self) -> bool:
        """Whether nothing is left out."""
        return self.videos == self.videos_listed and self.captions == self.captions_listed


def open_store(path: str | Path) -> Store:
    """Opens a store for reading. Raises ``LabError`` if there is none, or one that this version cannot read."""
    return Store(Path(path))


class Store:
    """One data set under one set of backbones and one sampling rule.

    ``videos`` and ``captions`` are the tables as lists of dicts; a protocol is a view on them.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        if not (path / "zarr.json").is_file():
            raise LabError(f"{path} is not a feature store: make one with python -m lab.cache --dataset NAME")
        try:
            self.group = zarr.open_group(path, mode="r", use_consolidated=False)
            attributes: dict[str, Any] = dict(self.group.attrs)
            schema = int(attributes["schema"])
            if schema > SCHEMA:  # before the other fields, which a newer schema may have renamed
                raise LabError(
                    f"{path} has schema {schema}, this version reads up to {SCHEMA}: upgrade the lab to open it"
                )
            self.passport: dict[str, Any] = dict(attributes["passport"])
            self.name: str = attributes["name"]
            self.protocols: tuple[str, ...] = tuple(attributes["protocols"])
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise LabError(f"{path} is damaged: {_told(error)}; restore zarr.json, or make the store again") from None

    # -- what is in it -------------------------------------------------------------------------------------------

    @cached_property
    def videos(self) -> list[dict[str, Any]]:
        """The video table: ``id``, ``file`` (below the root; empty if there is none), ``splits`` (protocol → split)."""
        return self._table("videos")

    @cached_property
    def captions(self) -> list[dict[str, Any]]:
        """The caption table: ``video`` (row of the video table), ``text``, ``splits``, and the ground truth.

        That is ``start_s`` and ``end_s``, between which the video shows what the caption tells (the end apart), and
        ``needs_sound``; None where unknown, and in all rows of a store that was made before there were any.
        """
        return [UNKNOWN | row for row in self._table("captions")]

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits of the default protocol, in the order train, val, test, others."""
        return self.splits_of(self.protocols[0])

    def splits_of(self, protocol: str | None = None) -> tuple[str, ...]:
        """The splits of a protocol. Raises ``LabError`` for an unknown one."""
        protocol = self._protocol(protocol)
        found = {video["splits"].get(protocol) for video in self.videos} - {None}
        first = ("train", "val", "test")
        return (*(name for name in first if name in found), *sorted(found - set(first)))

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the passport."""
        return passports.fingerprint(self.passport)

    @property
    def ledger(self) -> Ledger:
        """What became of every video, and why."""
        return Ledger(self.path / TABLES / "ledger")

    @property
    def warnings(self) -> tuple[str, ...]:
        """What must be said wherever numbers from this store are printed."""
        if passports.is_random(self.passport):
            return ("RANDOM WEIGHTS made these features: the numbers prove that the code runs, and nothing else",)
        return ()

    def table(self, name: Literal["videos", "captions", "ledger"]) -> polars.DataFrame:
        """A table as a polars frame (the only use of polars here, imported when it is asked for)."""
        import polars as pl

        if name == "ledger":
            return pl.DataFrame(list(self.ledger), schema=list(Entry.__dataclass_fields__), infer_schema_length=None)
        columns = {"videos": ("id", "file", "splits"), "captions": ("video", "text", "splits")}[name]
        file = self.path / TABLES / f"{name}.ndjson"
        # polars cannot read an empty file
        frame = pl.read_ndjson(file, infer_schema_length=None) if getattr(self, name) else pl.DataFrame(schema=columns)
        if name == "videos":
            return frame.with_columns(duration_s=pl.Series(self.read("duration_s")))
        types = {"start_s": pl.Float64, "end_s": pl.Float64, "needs_sound": pl.Boolean}
        held = {column: pl.col(column) if column in frame.columns else pl.lit(None) for column in types}
        return frame.with_columns(**{column: held[column].cast(types[column]) for column in types})

    # -- features ------------------------------------------------------------------------------------------------

    def coverage(self, split: str, protocol: str | None = None) -> Coverage:
        """How much of a split is here. Raises ``LabError`` for an unknown split or protocol."""
        return self._rows(split, self._protocol(protocol))[2]

    def load(
        self,
        split: str,
        protocol: str | None = None,
        device: torch.device | str = "cpu",
        *,
        audio: Literal["clip", "segments"] | None = "clip",
        words: bool = True,
        dtype: torch.dtype = torch.float32,
    ) -> tuple[Texts, Videos]:
        """One split, whole, in memory: its texts (T) and videos (V), with ``texts.video`` pointing into the latter.

        No read is logged: ``lab.load_split`` does that for a held-out split, whose reads are counted below results.
        A video without frames in the store is not in the gallery, nor are its captions among the texts; a warning
        counts them. ``audio``: one vector a clip (S = 1), the segments, or None to leave it out. ``dtype`` is that of
        sentences, frames and audio; words stay ragged and float16. Raises ``LabError`` if nothing of the split is
        there.
        """
        protocol = self._protocol(protocol)
        videos, texts, held = self._rows(split, protocol)
        if not held.complete:
            log.warning(
                "%s %s: %d of %d videos and %d of %d captions are here; python -m lab.inspect %s names the rest",
                *(self.name, split, held.videos, held.videos_listed, held.captions, held.captions_listed, self.path),
            )
        if not len(videos):
            raise self.nothing_of(split, protocol)
        return self._texts(texts, videos, words, dtype).to(device), self.videos_of(videos, audio, dtype).to(device)

    def nothing_of(self, split: str | None = None, protocol: str | None = None) -> LabError:
        """The error for a split, or a whole store, of which no video has frames: not begun, or no file was readable."""
        view = self._protocol(protocol)
        listed = {video["id"] for video in self.videos if split in (None, video["splits"].get(view))}
        failed = {entry.video for entry in self.ledger if entry.modality == "frames" and entry.failed}
        where = f"no video of split '{split}'" if split else "no video"
        if listed and listed <= failed:
            more = shlex.join(["python", "-m", "lab.inspect", str(self.path), "--all"])
            return LabError(
                f"{where} has features in {self.path}, of {len(listed):,} the pass could read none: mend what "
                f"{more} names, and run it again"
            )
        return LabError(f"{where} has features in {self.path}: run the pass on it first")

    def videos_of(
        self,
        rows: NDArray[np.int64],
        audio: Literal["clip", "segments"] | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> Videos:
        """Rows of the video table in memory, without captions; options as in ``load``. No sound: ``audio`` is None."""
        frames = torch.from_numpy(self._take("frames", rows)).to(dtype)
        mask = _counted(self._take("frame_count", rows), frames.shape[1])
        if audio is None or "audio" not in self.passport:
            return Videos(frames, mask, rows=torch.from_numpy(rows))
        if audio == "clip":
            sound = torch.from_numpy(self._take("audio", rows)).to(dtype)[:, None]
            present = _counted(self._take("audio_segment_count", rows) > 0, 1)
        else:
            sound = torch.from_numpy(self._take("audio_segments", rows)).to(dtype)
            present = _counted(self._take("audio_segment_count", rows), sound.shape[1])
        return Videos(frames, mask, sound, present, torch.from_numpy(rows))

    def frame_times_s(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Seconds from the start at which the frames (len(rows), F) are shown; NaN where a video has fewer."""
        return self._take("frame_times_s", rows)

    def thumbnails(self, row: int) -> list[bytes]:
        """A JPEG of every sampled frame of the video in a row; an empty list if it has none."""
        return thumbnails.read(self.thumbnail_file(row)).get(row, [])

    def thumbnail_file(self, row: int) -> Path:
        """The archive that holds the thumbnails of a video and of its unit."""
        return self.path / "thumbnails" / f"{row // UNIT_VIDEOS:06d}.zip"

    def _rows(self, split: str, protocol: str) -> tuple[NDArray[np.int64], NDArray[np.int64], Coverage]:
        if split not in self.splits_of(protocol):
            raise unknown(f"split of {self.name} {protocol}", split, self.splits_of(protocol))
        V, T = len(self.videos), len(self.captions)
        seen = self.read("frame_count") > 0 if "frames" in self.passport else np.zeros(V, bool)
        encoded = self.read("encoded") > 0 if "text" in self.passport else np.zeros(T, bool)
        if (len(seen), len(encoded)) != (V, T):
            raise LabError(
                f"{self.path} is damaged: its tables have {V} videos and {T} captions, "
                f"its arrays {len(seen)} and {len(encoded)}"
            )
        listed = np.fromiter((video["splits"].get(protocol) == split for video in self.videos), bool, V)
        asked = np.fromiter((caption["splits"].get(protocol) == split for caption in self.captions), bool, T)
        owner = np.fromiter((caption["video"] for caption in self.captions), np.int64, T)
        videos = np.flatnonzero(listed & seen)
        texts = np.flatnonzero(asked & encoded & np.isin(owner, videos))
        return videos, texts, Coverage(len(videos), int(listed.sum()), len(texts), int(asked.sum()))

    def _texts(self, rows: NDArray[np.int64], videos: NDArray[np.int64], words: bool, dtype: torch.dtype) -> Texts:
        owner = np.fromiter((self.captions[row]["video"] for row in rows), np.int64, len(rows))
        if not len(rows):
            dim = self.array("frames").shape[2]
            return Texts(torch.zeros(0, dim, dtype=dtype), video=torch.zeros(0, dtype=torch.int64))
        ragged = None
        if words:
            start, count = self._take("word_start", rows), self._take("word_count", rows).astype(np.int64)
            width = self.array("words").chunks[0]
            first = rows[0] // UNIT_CAPTIONS * width
            values = self.read("words", slice(first, (rows[-1] // UNIT_CAPTIONS + 1) * width))
            if 2 * count.sum() < len(values):  # a protocol that uses a few captions of many: keep only these
                values = values[token_rows(start - first, count)]
                start, first = np.cumsum(count) - count, 0
            ragged = RaggedWords(torch.from_numpy(values), torch.from_numpy(start - first), torch.from_numpy(count))
        sentences = torch.from_numpy(self._take("sentences", rows)).to(dtype)
        return Texts(sentences, ragged, None, torch.from_numpy(np.searchsorted(videos, owner)), torch.from_numpy(rows))

    # -- arrays --------------------------------------------------------------------------------------------------

    def array(self, name: str) -> Any:
        """A zarr array by name. Raises ``LabError`` if it is gone or its metadata cannot be read."""
        try:
            return self.group[name]
        except (KeyError, ValueError, TypeError) as error:
            raise LabError(
                f"{self.path}: array '{name}' is gone or damaged ({_told(error)}): "
                f"python -m lab.inspect {self.path} --verify tells more"
            ) from None

    def _take(self, name: str, rows: NDArray[np.int64]) -> NDArray[Any]:
        """Rows of an array, in any order, out of one slab: splits are nearly contiguous, a random read costs 1 ms."""
        first, end = (int(rows.min()), int(rows.max()) + 1) if len(rows) else (0, 0)
        slab = self.read(name, slice(first, end))
        return slab if np.array_equal(rows, np.arange(first, end)) else slab[rows - first]

    def read(self, name: str, rows: slice = slice(None)) -> NDArray[Any]:
        """Rows of an array, in memory. Raises ``LabError`` if its files are damaged."""
        array = self.array(name)
        try:
            if chunks.readable(array):
                first, end, _ = rows.indices(array.shape[0])
                return chunks.read_rows(array, self.path / name, first, end)
            return np.asarray(array[rows])
        except (ValueError, RuntimeError) as error:
            raise LabError(
                f"{self.path}: array '{name}' cannot be read ({_told(error)}): "
                f"python -m lab.inspect {self.path} --verify tells more"
            ) from None

    def _table(self, name: str) -> list[dict[str, Any]]:
        file = self.path / TABLES / f"{name}.ndjson"
        try:
            with file.open(encoding="utf-8") as lines:
                rows: list[dict[str, Any]] = json.loads(f"[{','.join(lines)}]")  # in one go: a third of the time
                return rows
        except (OSError, ValueError) as error:
            raise LabError(f"{file} is damaged or gone ({error}): the store cannot be read without it") from None

    def _protocol(self, protocol: str | None) -> str:
        if protocol is None:
            return self.protocols[0]
        if protocol not in self.protocols:
            raise unknown(f"protocol of {self.name}", protocol, self.protocols)
        return protocol


def token_rows(start: NDArray[Any], count: NDArray[Any]) -> NDArray[np.int64]:
    """The rows of the tokens of ragged texts, text after text: text t has ``count[t]`` of them from ``start[t]`` on."""
    before = np.cumsum(count, dtype=np.int64) - count
    return np.repeat(start - before, count) + np.arange(int(count.sum()))


def _counted(counts: NDArray[Any], width: int) -> torch.Tensor:
    return torch.arange(width) < torch.from_numpy(counts.astype(np.int64))[:, None]


def _told(error: Exception) -> str:
    """An error of a library in one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"
