"""A feature store, for reading: its tables, arrays and ledger, and its splits as plain tensors (``split``).

Needs zarr, NumPy and torch; no codec and no backbone.
"""

from __future__ import annotations

import logging
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
import zarr
from numpy.typing import NDArray

from lab.embeddings import Texts, Videos
from lab.errors import LabError, unknown
from lab.store import chunks, thumbnails
from lab.store import passport as passports
from lab.store.layout import SCHEMA, SHAPES, TABLES, UNIT_VIDEOS
from lab.store.ledger import Entry, Ledger
from lab.store.split import Coverage, load_texts, load_videos, nothing_of, rows_of
from lab.store.tables import read_captions, read_videos

if TYPE_CHECKING:
    import polars

log = logging.getLogger(__name__)

#: The ground truth of a caption of which none is known. The table's file leaves out what is not known.
UNKNOWN: dict[str, Any] = {"start_s": None, "end_s": None, "needs_sound": None}


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
            if wrong := _mistyped(attributes):
                raise TypeError(f"'{wrong}' is of another type")
        except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
            raise LabError(f"{path} is damaged: {_told(error)}; restore zarr.json, or make the store again") from None

    def __repr__(self) -> str:
        return f"Store({self.path}: {self.name}, {', '.join(self.passport) or 'empty'})"

    # -- what is in it -------------------------------------------------------------------------------------------

    @cached_property
    def videos(self) -> list[dict[str, Any]]:
        """The video table: ``id``, ``file`` (below the root; empty if there is none), ``splits`` (protocol → split)."""
        return read_videos(self.path / TABLES / "videos.ndjson")

    @cached_property
    def captions(self) -> list[dict[str, Any]]:
        """The caption table: ``video`` (row of the video table), ``text``, ``splits``, and the ground truth.

        That is ``start_s`` and ``end_s``, between which the video shows what the caption tells (the end apart), and
        ``needs_sound``; None where unknown, and in all rows of a store that was made before there were any.
        """
        rows = read_captions(self.path / TABLES / "captions.ndjson", len(self.videos))
        return [UNKNOWN | row for row in rows]

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
        return rows_of(self, split, self._protocol(protocol))[2]

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
        videos, texts, held = rows_of(self, split, protocol)
        if not held.complete:
            log.warning(
                "%s %s: %d of %d videos and %d of %d captions are here; python -m lab.inspect %s names the rest",
                *(self.name, split, held.videos, held.videos_listed, held.captions, held.captions_listed, self.path),
            )
        if not len(videos):
            raise self.nothing_of(split, protocol)
        captions = load_texts(self, texts, videos, words, dtype)
        return captions.to(device), self.videos_of(videos, audio, dtype).to(device)

    def nothing_of(self, split: str | None = None, protocol: str | None = None) -> LabError:
        """The error for a split, or a whole store, of which no video has frames: not begun, or no file was readable."""
        return nothing_of(self, split, self._protocol(protocol))

    def videos_of(
        self,
        rows: NDArray[np.int64],
        audio: Literal["clip", "segments"] | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> Videos:
        """Rows of the video table in memory, without captions; options as in ``load``. No sound: ``audio`` is None."""
        return load_videos(self, rows, audio, dtype)

    def frame_times_s(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Seconds from the start at which the frames (len(rows), F) are shown; NaN where a video has fewer."""
        return self.take("frame_times_s", rows)

    def thumbnails(self, row: int) -> list[bytes]:
        """A JPEG of every sampled frame of the video in a row; an empty list if it has none."""
        return thumbnails.read(self.thumbnail_file(row)).get(row, [])

    def thumbnail_file(self, row: int) -> Path:
        """The archive that holds the thumbnails of a video and of its unit."""
        return self.path / "thumbnails" / f"{row // UNIT_VIDEOS:06d}.zip"

    # -- arrays --------------------------------------------------------------------------------------------------

    def array(self, name: str) -> Any:
        """A zarr array by name. Raises ``LabError`` if it is gone, or another one than the layout has."""
        try:
            found: Any = self.group[name]
            axes, kind = SHAPES.get(name, (found.ndim, found.dtype.kind))
            if (found.ndim, found.dtype.kind) != (axes, kind):
                raise ValueError(f"{found.ndim} axes of {found.dtype}, {axes} of kind '{kind}' are wanted")
            return found
        except (KeyError, ValueError, TypeError, AttributeError, RecursionError) as error:
            raise LabError(
                f"{self.path}: array '{name}' is gone or damaged ({_told(error)}): "
                f"python -m lab.inspect {self.path} --verify tells more"
            ) from None

    def take(self, name: str, rows: NDArray[np.int64]) -> NDArray[Any]:
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

    def _protocol(self, protocol: str | None) -> str:
        if protocol is None:
            return self.protocols[0]
        if protocol not in self.protocols:
            raise unknown(f"protocol of {self.name}", protocol, self.protocols)
        return protocol


def _mistyped(attributes: dict[str, Any]) -> str | None:
    """The first of the attributes that is not what a store's are, as somebody may have edited them."""
    protocols = attributes["protocols"]
    if not isinstance(attributes["name"], str):
        return "name"
    if not (isinstance(protocols, list) and protocols and all(isinstance(name, str) for name in protocols)):
        return "protocols"
    sections = attributes["passport"].items()
    return next((f"passport.{name}" for name, section in sections if not isinstance(section, dict)), None)


def _told(error: Exception) -> str:
    """An error of a library in one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"
