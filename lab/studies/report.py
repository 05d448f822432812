"""A result on disk and on the screen: ``result.json``, tables in Markdown and LaTeX, each query's ranks, the trials."""

from __future__ import annotations

import io
import json
import logging
import math
from collections.abc import Mapping, Sequence
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lab import cli
from lab.atomic import replace_bytes, replace_text
from lab.errors import LabError
from lab.studies.final import Final
from lab.studies.published import published_for
from lab.studies.setups import Study, best_by

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

log = logging.getLogger(__name__)

SHOWN = ("R@1", "R@5", "R@10", "MdR", "MnR")
COLUMNS = (*SHOWN, "R@1 95 %", "p", "val R@1", "val 95 %", "parameters")
#: Settings without bounds, as a temperature can be, in JSON.
INFINITE = {math.inf: "inf", -math.inf: "-inf"}


# -- files -----------------------------------------------------------------------------------------------------------


def write_result(home: Path, result: Mapping[str, Any]) -> None:
    """``result.json``, ``result.md`` and ``result.tex``."""
    home.mkdir(parents=True, exist_ok=True)
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
    if not isinstance(told, dict) or not {"study", "rows", "hash", "store"} <= told.keys():
        raise LabError(f"{home / 'result.json'} is no result of a study: delete it and run the study again")
    return told


def write_ranks(home: Path, final: Final) -> None:
    """``ranks.npz``: ``video`` and ``caption`` (T,), rows of the store's tables, and for row i ``t2v_i`` (R, T)."""
    blob = io.BytesIO()
    arrays: dict[str, Any] = {f"t2v_{i}": row.ranks["t2v"] for i, row in enumerate(final.rows)}
    np.savez_compressed(blob, video=final.video, caption=final.caption, **arrays)
    home.mkdir(parents=True, exist_ok=True)
    replace_bytes(home / "ranks.npz", blob.getvalue())


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
    home.mkdir(parents=True, exist_ok=True)
    replace_bytes(home / "trials.parquet", blob.getvalue())


def read_trials(home: Path) -> list[dict[str, Any]]:
    """What ``write_trials`` wrote, a row a trial. Raises ``LabError`` where it is gone or damaged."""
    import polars as pl

    file = home / "trials.parquet"
    try:
        return pl.read_parquet(io.BytesIO(file.read_bytes())).rows(named=True)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise LabError(f"{file} is gone or damaged ({error})") from None


def resolved(study: Study) -> str:
    """A study as it would run, as JSON: all that its file leaves out is filled in."""
    kind = {key: getattr(study, key) for key in ("trials", "seconds")} if study.kind == "search" else {}
    return json.dumps({**study.definition(), **kind, "stack": study.stack, "seeds": study.seeds}, indent=1)


# -- tables ----------------------------------------------------------------------------------------------------------


def table(result: Mapping[str, Any]) -> str:
    """The rows on the test split, for the screen: means over seeds, R@1 with its interval, the paired test's p."""
    return cli.table(["head", *COLUMNS, "seconds"], [_cells(row) for row in result["rows"]])


def _cells(row: Mapping[str, Any], spread: str = "±") -> list[str]:
    test, val, against = row["test"], row["val"], row["against_baseline"].get("R@1")
    return [
        row["name"],
        *(_number(test[name], spread) for name in SHOWN),
        _interval(test["R@1"]),
        f"{against['p_value']:.4f}" if against else "-",
        _number(val["R@1"], spread),
        _interval(val["R@1"]),
        f"{row['parameters']:,}",
        f"{sum(row['seconds']) / len(row['seconds']):.1f}",
    ]


def _number(value: Mapping[str, Any], spread: str) -> str:
    return f"{value['mean']:.1f}" + (f" {spread} {value['std']:.1f}" if value["std"] is not None else "")


def _on_validation(row: Mapping[str, Any]) -> list[str]:
    values = [row["val"][name] for name in SHOWN]
    return [row["name"], *(cell for value in values for cell in (_number(value, "±"), _interval(value)))]


def _interval(value: Mapping[str, Any]) -> str:
    return f"{value['low']:.1f} .. {value['high']:.1f}" if "low" in value else "-"


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def sweep_table(sweep: Mapping[str, Any], metric: str = "MdR") -> str:
    """A line for each number of inserted videos: the metric of each row, mean over draws ± their deviation."""
    return cli.table([f"{metric}, inserted", *sweep["rows"]], _sweep_cells(sweep, metric))


def _sweep_cells(sweep: Mapping[str, Any], metric: str) -> list[list[str]]:
    return [
        [
            str(n),
            *(
                f"{np.mean(draws):.1f} ± {np.std(draws):.1f}"
                for draws in (r[metric][i] for r in sweep["rows"].values())
            ),
        ]
        for i, n in enumerate(sweep["inserted"])
    ]


def markdown(result: Mapping[str, Any]) -> str:
    """The whole result to read."""
    store = result["store"]
    held = store["splits"]["test"]
    lines = [
        f"# {result['study']} on {store['dataset']}",
        "",
        f"`{result['command']}`",
        "",
        f"Test split of `{store['protocol']}`: {held['captions']:,} captions, {held['videos']:,} videos, read "
        f"{_times(result['reads']['before'] + 1)} so far; {result['time']}. Means over seeds ± their standard "
        "deviation; intervals and p-values (against the row "
        f"`{result['baseline']}`) from resampling videos.",
        "",
        *_piped(["head", *COLUMNS, "s"], map(_cells, result["rows"])),
        "",
        *(f"- {line}" for line in [*result["verdicts"], *learned_lines(result), *result["caveats"]]),
    ]
    if result["rows"][0]["val"].keys() >= set(SHOWN):
        part = store["splits"]["val"]
        lines += [
            "",
            f"Validation split, by which was chosen: {part['captions']:,} captions, {part['videos']:,} videos.",
            "",
        ]
        header = ["head", *(f"{name}{each}" for name in SHOWN for each in ("", " 95 %"))]
        lines += _piped(header, [_on_validation(row) for row in result["rows"]])
    sweep = result.get("sweep")
    if sweep:
        cells = _sweep_cells(sweep, "MdR")
        lines += ["", f"MdR by inserted videos, mean and deviation of {sweep['draws']} draws; {sweep['note']}.", ""]
        lines += _piped(["inserted", *sweep["rows"]], cells)
    known = published_for(store["dataset"], store["protocol"])
    if known:
        lines += ["", f"Published on {known[0]['data']} (not on frozen features):", ""]
        cells = [
            [each["method"], *(_plain(each[name]) for name in SHOWN), each["how"], each["source"]] for each in known
        ]
        lines += _piped(["method", *SHOWN, "trained", "table"], cells)
        notes = [f"- {note}" for note in _notes(known)]
        lines += ["", *notes] if notes else []
    settings = [[row["name"], row["head"], f"`{json.dumps(row['keywords'])}`"] for row in result["rows"]]
    lines += ["", *_piped(["row", "head", "keywords"], settings)]
    lines += ["", f"Study `{result['hash']}`, store passport `{store['fingerprint'][:16]}`."]
    return "\n".join(lines) + "\n"


def learned_lines(result: Mapping[str, Any]) -> list[str]:
    """What the search taught, a sentence each."""
    told = result.get("search")
    choices = [
        f"{name}: {', '.join(f'{key} = {value}' for key, value in best['point'].items())} was chosen on validation "
        f"among {len(tried)}"
        for name, tried in result.get("choices", {}).items()
        for best in [best_by(result["objective"], tried, itemgetter("value"))]
    ]
    if not told:
        return choices
    best = ", ".join(f"{key} = {_plain(value)}" for key, value in told["best"]["params"].items()) or "no setting"
    lines = [
        f"{told['finished']} trials ({told['pruned']} pruned, {told['diverged']} diverged); the best on validation is "
        f"number {told['best']['number']} with {told['objective']} {told['best']['value']:.2f}: {best}"
    ]
    if told["exhausted"]:
        lines.append("every point of the space was tried")
    if len(told["importance"]) > 1:
        lines.append("importance: " + ", ".join(f"{key} {value:.0%}" for key, value in told["importance"].items()))
    flat = told.get("plateau")
    if flat and flat["of"] > 1:
        spans = ", ".join(f"{key} {_span(span)}" for key, span in flat["settings"].items())
        many = f"{flat['trials']} of {flat['of']} completed trials cannot be told from the best"
        lines.append(f"{many}, {what_is_level(result)}: {spans}")
    return lines + choices


def what_is_level(result: Mapping[str, Any]) -> str:
    """By what a search's trials are level with the best: see ``lab.studies.learned.noise_floor``."""
    floor = result["search"].get("noise_floor")
    if floor is None:
        return "by a paired test on validation"
    spread = result["rows"][-1]["val"][result["objective"]]["std"]
    apart = "that one query is worth" if floor > spread else "between seeds"
    return f"within twice the {floor:.2f} {apart}"


def _span(span: Mapping[str, Any]) -> str:
    if "values" in span:
        return " or ".join(map(str, span["values"]))
    return f"{_plain(span['low'])} .. {_plain(span['high'])} ({span['width']:.0%} of its range)"


def latex(result: Mapping[str, Any]) -> str:
    """The rows as a booktabs table."""
    lines = [
        f"% {result['command']}  (study {result['hash']}, {result['time']})",
        r"\begin{tabular}{l" + "r" * (len(COLUMNS) - 1) + "}",
        r"\toprule",
        "Head & " + " & ".join(_escaped(name) for name in COLUMNS[:-1]) + r" \\",
        r"\midrule",
    ]
    for row in result["rows"]:
        cells = [_escaped(row["name"]), *(cell.replace(" .. ", "--") for cell in _cells(row, r"$\pm$")[1:-2])]
        lines.append(" & ".join(cells) + r" \\")
    known = published_for(result["store"]["dataset"], result["store"]["protocol"])
    if known:
        lines.append(r"\midrule")
        for each in known:
            cells = [f"{_escaped(each['method'])} ({_escaped(each['how'])})", *(_plain(each[m]) for m in SHOWN)]
            cells += [""] * (len(COLUMNS) - len(cells))
            lines.append(" & ".join(cells) + r" \\")
    below = [*(line.removeprefix("! ") for line in result["caveats"]), *_notes(known)]
    told = [rf"\par{{\footnotesize {_escaped(line)}\par}}" for line in below]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", *told]) + "\n"


def _notes(known: Sequence[Mapping[str, Any]]) -> list[str]:
    """What must be known of published rows, a line each."""
    return [f"{each['method']} ({each['source']}): {each['note']}" for each in known if each["note"]]


def _piped(header: Sequence[str], rows: Any) -> list[str]:
    escaped = [[cell.replace("|", r"\|") for cell in row] for row in rows]
    return ["| " + " | ".join(row) + " |" for row in [list(header), ["---"] * len(header), *escaped]]


def _plain(value: Any) -> str:
    return "-" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)


def _escaped(text: str) -> str:
    return "".join("\\" + c if c in "_&%#${}" else c for c in text)


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
