"""Tables of a result, as ``lab.studies.result`` makes it: for the screen, in Markdown and in LaTeX."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from lab import cli
from lab.studies.learned import adjusted, learned_lines
from lab.studies.published import published_for
from lab.studies.setups import plain, times

SHOWN = ("R@1", "R@5", "R@10", "MdR", "MnR")


def table(result: Mapping[str, Any]) -> str:
    """The rows on the test split, for the screen: means over seeds, R@1 with its interval, the paired test's p.

    Where several rows are tested, p stands there as it is and adjusted by Holm's procedure.
    """
    return cli.table(*_on_test(result))


def sweep_table(sweep: Mapping[str, Any]) -> str:
    """A line for each number of inserted videos: MdR of each row, mean over draws ± their deviation."""
    return cli.table(*_of_sweep(sweep))


def _on_test(result: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """The header and a line of cells for each row."""
    among = adjusted(result["rows"], "R@1")
    several = len(among) > 1
    header = ["head", *SHOWN, "R@1 95 %", "p", *["p, Holm"] * several, "val R@1", "val 95 %", "parameters", "seconds"]
    lines = []
    for row in result["rows"]:
        test, val, name = row["test"], row["val"], row["name"]
        p = [row["against_baseline"]["R@1"]["p_value"], among[name]] if name in among else [None, None]
        lines.append(
            [
                name,
                *(_number(test[metric]) for metric in SHOWN),
                _interval(test["R@1"]),
                *("-" if each is None else f"{each:.4f}" for each in p[: 1 + several]),
                _number(val["R@1"]),
                _interval(val["R@1"]),
                f"{row['parameters']:,}",
                f"{sum(row['seconds']) / len(row['seconds']):.1f}",
            ]
        )
    return header, lines


def _on_validation(result: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    header = ["head", *(f"{metric}{each}" for metric in SHOWN for each in ("", " 95 %"))]
    cells = [
        [
            row["name"],
            *(cell for metric in SHOWN for cell in (_number(row["val"][metric]), _interval(row["val"][metric]))),
        ]
        for row in result["rows"]
    ]
    return header, cells


def _of_sweep(sweep: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    draws = [row["MdR"] for row in sweep["rows"].values()]
    cells = [
        [str(inserted), *(f"{np.mean(each[i]):.1f} ± {np.std(each[i]):.1f}" for each in draws)]
        for i, inserted in enumerate(sweep["inserted"])
    ]
    return ["MdR, inserted", *sweep["rows"]], cells


def _number(value: Mapping[str, Any]) -> str:
    return f"{value['mean']:.1f}" + (f" ± {value['std']:.1f}" if value["std"] is not None else "")


def _interval(value: Mapping[str, Any]) -> str:
    return f"{value['low']:.1f} .. {value['high']:.1f}" if "low" in value else "-"


# -- Markdown --------------------------------------------------------------------------------------------------------


def markdown(result: Mapping[str, Any]) -> str:
    """The whole result to read."""
    store, sweep = result["store"], result.get("sweep")
    held, chosen_on = store["splits"]["test"], store["splits"].get("val")
    tested = len(adjusted(result["rows"], "R@1"))
    many = f", each by itself; 'p, Holm' is adjusted for {tested} comparisons" if tested > 1 else ""
    parts = [
        f"# {result['study']} on {store['dataset']}",
        f"`{result['command']}`",
        f"Test split of `{store['protocol']}`: {held['captions']:,} captions, {held['videos']:,} videos, read "
        f"{times(result['reads']['before'] + 1)} so far; {result['time']}. Means over seeds ± their standard "
        "deviation; intervals and p-values (against the row "
        f"`{result['baseline']}`) from resampling videos{many}.",
        _piped(*_on_test(result)),
        _listed([*result["verdicts"], *learned_lines(result), *result["caveats"]]),
    ]
    if result["rows"][0]["val"].keys() >= set(SHOWN):
        parts.append(f"Validation split, by which was chosen: {chosen_on['captions']:,} captions, "
                     f"{chosen_on['videos']:,} videos.")  # fmt: skip
        parts.append(_piped(*_on_validation(result)))
    if sweep:
        parts.append(f"MdR by inserted videos, mean and deviation of {sweep['draws']} draws; {sweep['note']}.")
        parts.append(_piped(*_of_sweep(sweep)))
    if known := published_for(store["dataset"], store["protocol"]):
        cells = [
            [each["method"], *(plain(each[name]) for name in SHOWN), each["how"], each["source"]] for each in known
        ]
        parts.append(f"Published on {known[0]['data']} (not on frozen features):")
        parts.append(_piped(["method", *SHOWN, "trained", "table"], cells))
        parts.append(_listed(_notes(known)))
    settings = [[row["name"], row["head"], f"`{json.dumps(row['keywords'])}`"] for row in result["rows"]]
    parts.append(_piped(["row", "head", "keywords"], settings))
    parts.append(f"Study `{result['hash']}`, store passport `{store['fingerprint'][:16]}`.")
    return "\n\n".join(filter(None, parts)) + "\n"


def _piped(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    escaped = [[cell.replace("|", r"\|") for cell in row] for row in rows]
    return "\n".join("| " + " | ".join(row) + " |" for row in [list(header), ["---"] * len(header), *escaped])


def _listed(lines: Sequence[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def _notes(known: Sequence[Mapping[str, Any]]) -> list[str]:
    """What must be known of published rows, a line each."""
    return [f"{each['method']} ({each['source']}): {each['note']}" for each in known if each["note"]]


# -- LaTeX -----------------------------------------------------------------------------------------------------------


def latex(result: Mapping[str, Any]) -> str:
    """The rows as a booktabs table, without their parameters and seconds; published rows below them."""
    (head, *names), rows = _on_test(result)
    header, width = [head.capitalize(), *names[:-2]], len(names) - 1
    known = published_for(result["store"]["dataset"], result["store"]["protocol"])
    theirs = [[f"{each['method']} ({each['how']})", *(plain(each[name]) for name in SHOWN)] for each in known]
    below = [*(line.removeprefix("! ") for line in result["caveats"]), *_notes(known)]
    lines = [
        f"% {result['command']}  (study {result['hash']}, {result['time']})",
        r"\begin{tabular}{l" + "r" * (width - 1) + "}",
        r"\toprule",
        _ampersands(header, width),
        r"\midrule",
        *(_ampersands(row[:-2], width) for row in rows),
        *([r"\midrule"] if theirs else []),
        *(_ampersands(row, width) for row in theirs),
        r"\bottomrule",
        r"\end{tabular}",
        *(rf"\par{{\footnotesize {_escaped(line)}\par}}" for line in below),
    ]
    return "\n".join(lines) + "\n"


def _ampersands(cells: Sequence[str], width: int) -> str:
    filled = [*map(_escaped, cells), *[""] * (width - len(cells))]
    return " & ".join(filled).replace(" .. ", "--").replace("±", r"$\pm$") + r" \\"


def _escaped(text: str) -> str:
    return "".join("\\" + c if c in "_&%#${}" else c for c in text)
