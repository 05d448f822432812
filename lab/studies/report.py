"""A study's directory: ``result.json`` with tables in Markdown and LaTeX, the ranks of queries, and trials."""

from __future__ import annotations

import io
import json
import logging
import math
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lab.atomic import replace_bytes, replace_text
from lab.errors import LabError
from lab.runs import read_run, runs_below
from lab.store import Store
from lab.store.passport import differences
from lab.studies.final import Final
from lab.studies.setups import Study
from lab.studies.tables import SHOWN, latex, markdown

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

log = logging.getLogger(__name__)

#: Settings without bounds, as a temperature can be, in JSON.
INFINITE = {math.inf: "inf", -math.inf: "-inf"}

#: Forms of what is read: the type of a value, or the forms of some of a table's.
_METRIC = {"mean": (int, float)}
_ROW = {"name": str, "head": str, "test": dict.fromkeys(SHOWN, _METRIC), "against_baseline": dict}
_RESULT = {
    **dict.fromkeys(("study", "hash", "objective", "baseline"), str),
    "store": {**dict.fromkeys(("dataset", "path", "protocol"), str), "passport": {"dataset": dict}},
    "reads": {"before": int},
}


def require_same(home: Path, store: Store) -> None:
    """Raises ``LabError`` where a study's directory holds one on another collection or on other features.

    Two stores of a data set mean one place: the first one's runs and result would give way to the second's.
    """
    told = read_result(home)
    held = [] if told is None else [(told["store"]["path"], told["store"]["passport"])]
    for place in runs_below(home / "runs"):
        with suppress(LabError):  # a damaged one is nobody's
            run = read_run(place)
            held.append((run.store, run.passport))
    for path, passport in held:
        others = differences(store.passport, passport)
        if others:
            raise LabError(
                f"{home} holds a study on {path}, and {store.path} has another collection or other features: "
                f"{'; '.join(others[:4])}. Start a new one with --name NAME"
            )


def put_aside(home: Path, study: Study) -> Path | None:
    """Where a finished result moves that a study of other settings, or of fewer seeds, has left in its directory.

    So that no short trial under a name takes what a long study found under it. Runs give way to the new ones.
    """
    told = read_result(home)
    if told is None or (told["definition"] == study.definition() and told["seeds"] <= study.seeds):
        return None
    place = home / f"before-{told['time'][:19].replace(':', '')}"
    place.mkdir(exist_ok=True)
    for name in ("result.json", "result.md", "result.tex", "ranks.npz"):
        if (home / name).is_file():
            (home / name).rename(place / name)
    return place


def write_result(home: Path, result: Mapping[str, Any]) -> None:
    """``result.json``, ``result.md`` and ``result.tex``."""
    replace_text(home / "result.md", markdown(result))
    replace_text(home / "result.tex", latex(result))
    replace_text(home / "result.json", json.dumps(_finite(result), indent=1) + "\n")  # last: it says that all is there


def read_result(home: Path) -> dict[str, Any] | None:
    """What ``write_result`` wrote; None where it was not, or not to its end."""
    try:
        told = json.loads((home / "result.json").read_bytes(), object_hook=_as_was)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (ValueError, RecursionError) as error:
        raise LabError(f"{home / 'result.json'} is damaged ({error}): delete it and run the study again") from None
    if wrong := next(_wrong_in(told), None):
        raise LabError(
            f"{home / 'result.json'} is no result of a study ({wrong} is not what it is in one): "
            "delete it and run the study again"
        )
    return dict(told)


def _wrong_in(told: Any) -> Iterator[str]:
    """What is gone or of another type of that which tables, comparisons and figures take from a result."""
    yield from _unlike(told, _RESULT, "it")
    rows, objective = told.get("rows"), told.get("objective")
    if not (isinstance(rows, list) and rows):
        yield "rows"
    for i, row in enumerate(rows):
        yield from _unlike(row, _ROW | {"val": {"R@1": _METRIC, objective: _METRIC}}, f"rows.{i}")


def _unlike(value: Any, form: Any, place: str) -> Iterator[str]:
    if not isinstance(form, dict):
        if not isinstance(value, form):
            yield place
    elif not isinstance(value, dict):
        yield place
    else:
        for key, inner in form.items():
            yield from _unlike(value.get(key), inner, key if place == "it" else f"{place}.{key}")


def write_ranks(home: Path, final: Final) -> None:
    """``ranks.npz``: ``video`` and ``caption`` (T,), rows of the store's tables, and for row i ``t2v_i`` (R, T); the
    same of validation as ``val_...``.
    """
    blob = io.BytesIO()
    arrays: dict[str, Any] = {f"t2v_{i}": row.ranks["t2v"] for i, row in enumerate(final.rows)}
    arrays |= {"val_video": final.val_video, "val_caption": final.val_caption}
    arrays |= {f"val_t2v_{i}": row.val_ranks for i, row in enumerate(final.rows)}
    np.savez_compressed(blob, video=final.video, caption=final.caption, **arrays)
    replace_bytes(home / "ranks.npz", blob.getvalue())


class Ranks(NamedTuple):
    """A row's ranks (R, T), and its queries (T,): the rows that their videos and captions have in a store's tables."""

    ranks: NDArray[np.float64]
    video: NDArray[np.int64]
    caption: NDArray[np.int64]


def read_ranks(home: Path, row: int, split: str = "test") -> Ranks:
    """A row's ranks on ``test`` or ``val`` as ``write_ranks`` wrote them."""
    of = "" if split == "test" else f"{split}_"
    try:
        with np.load(io.BytesIO((home / "ranks.npz").read_bytes()), allow_pickle=False) as arrays:
            if of and f"{of}video" not in arrays:
                raise LabError(
                    f"{home} was made before ranks on '{split}' were kept: run the study anew under another name "
                    "(--name), which reads test once more"
                )
            ranks, video, caption = (arrays[f"{of}{name}"] for name in (f"t2v_{row}", "video", "caption"))
        if ranks.ndim != 2 or not ranks.shape[1:] == video.shape == caption.shape:
            raise ValueError(f"ranks {ranks.shape} of queries {video.shape} and {caption.shape}")
        return Ranks(ranks, video, caption)
    except (OSError, ValueError, KeyError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        raise LabError(f"{home / 'ranks.npz'} is gone or damaged ({error}): run the study again") from None


def write_trials(home: Path, trials: Sequence[FrozenTrial]) -> None:
    """``trials.parquet``: number, state, value, seconds, epoch, a column a setting, one a validation metric."""
    try:
        import polars as pl
    except ModuleNotFoundError:
        log.warning("polars is not installed, so the trials are not written as parquet")
        return
    settings = sorted({key for trial in trials for key in trial.params})
    metrics = sorted({key for trial in trials for key in trial.user_attrs.get("metrics", {})})
    columns: dict[str, list[Any]] = {
        "number": [trial.number for trial in trials],
        "state": [trial.state.name.lower() for trial in trials],
        "value": [trial.value for trial in trials],
        "seconds": [trial.user_attrs.get("seconds") for trial in trials],
        "epoch": [trial.user_attrs.get("epoch") for trial in trials],
        "host": [trial.user_attrs.get("owner", {}).get("host") for trial in trials],
    }
    columns |= {f"setting.{key}": [trial.params.get(key) for trial in trials] for key in settings}
    columns |= {f"val.{key}": [trial.user_attrs.get("metrics", {}).get(key) for trial in trials] for key in metrics}
    frame = pl.DataFrame({key: pl.Series(key, values, strict=False) for key, values in columns.items()})
    blob = io.BytesIO()
    frame.write_parquet(blob)
    replace_bytes(home / "trials.parquet", blob.getvalue())


def read_trials(home: Path) -> list[dict[str, Any]]:
    """What ``write_trials`` wrote, a row a trial. Raises ``LabError`` where it is gone or damaged."""
    import polars as pl

    file = home / "trials.parquet"
    try:
        return pl.read_parquet(io.BytesIO(file.read_bytes())).rows(named=True)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise LabError(f"{file} is gone or damaged ({error})") from None


def _finite(value: Any) -> Any:
    """JSON knows no NaN and no infinity: what is not known is null, and a setting without bounds a word."""
    if isinstance(value, dict):
        return {str(key): _finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else INFINITE[value]
    return value


def _as_was(told: dict[str, Any]) -> dict[str, Any]:
    """An object of a result's JSON, its settings without bounds numbers again."""
    words = {word: value for value, word in INFINITE.items()}
    return {key: words.get(value, value) if isinstance(value, str) else value for key, value in told.items()}
