"""Tables of a result, as ``lab.studies.result`` makes it: for the screen, in Markdown and in LaTeX."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from lab import cli
from lab.studies.learned import adjusted, learned_lines
from lab.studies.published import published_for
from lab.studies.setups import plain

SHOWN = ("R@1", "R@5", "R@10", "MdR", "MnR")


def table(result: Mapping[str, Any]) -> str:
    """The rows on the test split, for the screen: means over seeds, R@1 with its interval, the paired test's p.

    Where several rows are tested, p stands there as it is and adjusted by Holm's procedure.
    """
    header, rows = _on_test(result)
    return cli.table([*header[:-1], "seconds"], rows)


def _on_test(result: Mapping[str, Any], spread: str = "±") -> tuple[list[str], list[list[str]]]:
    """The header and a line of cells for each row."""
    among = adjusted(result["rows"], "R@1")
    several = ["p, Holm"] if len(among) > 1 else []
    header = ["head", *SHOWN, "R@1 95 %", "p", *several, "val R@1", "val 95 %", "parameters", "s"]
    lines = []
    for row in result["rows"]:
        test, val, against = row["test"], row["val"], row["against_baseline"].get("R@1")
        own = [against["p_value"], among[row["name"]]] if against else [None, None]
        lines.append(
            [
                row["name"],
                *(_number(test[name], spread) for name in SHOWN),
                _interval(test["R@1"]),
                *("-" if p is None else f"{p:.4f}" for p in own[: 1 + len(several)]),
                _number(val["R@1"], spread),
                _interval(val["R@1"]),
                f"{row['parameters']:,}",
                f"{sum(row['seconds']) / len(row['seconds']):.1f}",
            ]
        )
    return header, lines


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
    tested = len(adjusted(result["rows"], "R@1"))
    many = f", each by itself; 'p, Holm' is adjusted for {tested} comparisons" if tested > 1 else ""
    lines = [
        f"# {result['study']} on {store['dataset']}",
        "",
        f"`{result['command']}`",
        "",
        f"Test split of `{store['protocol']}`: {held['captions']:,} captions, {held['videos']:,} videos, read "
        f"{_times(result['reads']['before'] + 1)} so far; {result['time']}. Means over seeds ± their standard "
        "deviation; intervals and p-values (against the row "
        f"`{result['baseline']}`) from resampling videos{many}.",
        "",
        *_piped(*_on_test(result)),
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
            [each["method"], *(plain(each[name]) for name in SHOWN), each["how"], each["source"]] for each in known
        ]
        lines += _piped(["method", *SHOWN, "trained", "table"], cells)
        notes = [f"- {note}" for note in _notes(known)]
        lines += ["", *notes] if notes else []
    settings = [[row["name"], row["head"], f"`{json.dumps(row['keywords'])}`"] for row in result["rows"]]
    lines += ["", *_piped(["row", "head", "keywords"], settings)]
    lines += ["", f"Study `{result['hash']}`, store passport `{store['fingerprint'][:16]}`."]
    return "\n".join(lines) + "\n"


def latex(result: Mapping[str, Any]) -> str:
    """The rows as a booktabs table."""
    header, rows = _on_test(result, r"$\pm$")
    header = header[:-2]
    lines = [
        f"% {result['command']}  (study {result['hash']}, {result['time']})",
        r"\begin{tabular}{l" + "r" * (len(header) - 1) + "}",
        r"\toprule",
        "Head & " + " & ".join(_escaped(name) for name in header[1:]) + r" \\",
        r"\midrule",
    ]
    for name, *cells, _, _ in rows:
        lines.append(" & ".join([_escaped(name), *(cell.replace(" .. ", "--") for cell in cells)]) + r" \\")
    known = published_for(result["store"]["dataset"], result["store"]["protocol"])
    if known:
        lines.append(r"\midrule")
        for each in known:
            cells = [f"{_escaped(each['method'])} ({_escaped(each['how'])})", *(plain(each[m]) for m in SHOWN)]
            cells += [""] * (len(header) - len(cells))
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


def _escaped(text: str) -> str:
    return "".join("\\" + c if c in "_&%#${}" else c for c in text)
