"""The tables of a store, read and held against what their rows are: who reads a row behind this need not ask."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import NoneType
from typing import Any

from lab.errors import LabError

_KNOWN = (int, float, NoneType)
_VIDEO = "'id' and 'file' must be texts and 'splits' a table of texts"
_CAPTION = (
    "'text' must be a text, 'splits' a table of texts, 'video' one of the {videos} rows of videos.ndjson, and start_s, "
    "end_s and needs_sound no texts"
)


def read_videos(file: Path) -> list[dict[str, Any]]:
    """The video table. Raises ``LabError`` where it is gone or damaged."""
    return _read(file, _is_video, _VIDEO)


def read_captions(file: Path, videos: int) -> list[dict[str, Any]]:
    """The caption table beside a table of so many videos. Raises ``LabError`` where it is gone or damaged."""
    return _read(file, lambda row: _is_caption(row, videos), _CAPTION.format(videos=videos))


def _read(file: Path, keeps: Callable[[dict[str, Any]], bool], rule: str) -> list[dict[str, Any]]:
    try:
        with file.open(encoding="utf-8") as lines:
            rows: list[dict[str, Any]] = json.loads(f"[{','.join(lines)}]")  # in one go: a third of the time
        wrong = next((n for n, row in enumerate(rows, 1) if not (isinstance(row, dict) and keeps(row))), None)
        if wrong is not None:
            raise ValueError(f"line {wrong}: {rule}")
    except (OSError, ValueError, RecursionError) as error:
        raise LabError(f"{file} is damaged or gone ({error}): the store cannot be read without it") from None
    return rows


def _is_video(row: dict[str, Any]) -> bool:
    return isinstance(row.get("id"), str) and isinstance(row.get("file"), str) and _are_splits(row.get("splits"))


def _is_caption(row: dict[str, Any], videos: int) -> bool:
    video = row.get("video")
    return (
        type(video) is int  # not bool
        and 0 <= video < videos
        and isinstance(row.get("text"), str)
        and _are_splits(row.get("splits"))
        and (len(row) == 3 or all(isinstance(row.get(name), _KNOWN) for name in ("start_s", "end_s", "needs_sound")))
    )


def _are_splits(value: Any) -> bool:
    return isinstance(value, dict) and {*map(type, value.values())} <= {str}
