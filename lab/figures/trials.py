"""What a search did and taught: which settings mattered, its history, and how wide the best is."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, MaxNLocator
from numpy.typing import NDArray

from lab.figures import marks, room, style, tidy
from lab.figures.finished import Finished, Studies, Trial
from lab.figures.material import NoData
from lab.figures.style import Figure
from lab.studies.learned import few_trials, tied_by

log = logging.getLogger(__name__)

#: What pooling and fusion leave to choose: these settings come first, under their names in the papers.
POOLING = {"top_k": "k frames averaged", "temperature": "temperature", "fusion_weight": "weight of the sound"}
#: Panels in a row; a search of more settings shows those that mattered most.
PANELS = 3


@style.styled
def importance_bars(shares: Mapping[str, float], colour: str, source: str = "") -> Figure:
    """How much of the objective's change each setting explains, the most important on top."""
    figure = style.new(style.COLUMN, 0.5 + 0.24 * len(shares), source, tidy.rows(shares, "setting", leaf="share"))
    axes = figure.subplots()
    rows = range(len(shares))[::-1]
    axes.barh(rows, [100 * share for share in shares.values()], height=0.62, color=colour)
    for row, share in zip(rows, shares.values(), strict=True):
        marks.note(axes, f"{100 * share:.0f} %", (100 * share, row), (3, 0), va="center")
    axes.set(xlim=(0, 112), xticks=range(0, 101, 20))
    axes.set_xlabel("share of the objective's change (%)", loc="right")  # beside long names it is wider than the axis
    axes.set_yticks(rows, room.names(list(shares), 1.1), linespacing=0.95)
    axes.tick_params(axis="y", length=0)
    return figure


@style.styled
def history_dots(
    trials: Sequence[Trial],
    objective: str,
    colour: str,
    *,
    highest: bool = True,
    flat: tuple[str, float, str] | None = None,
    source: str = "",
) -> Figure:
    """The objective of each trial in their order and the best so far as a line; pruned trials are crosses.

    A trial that ended without a value stands at the lower edge. ``flat``: a row's name, its value and its head, as a
    dashed line.
    """
    told = {"metric": objective, "unit": tidy.unit(objective)}
    table = [{"trial": one.number, "state": one.state, **told, "value": one.value, **one.settings} for one in trials]
    if flat is not None:
        table.append({"trial": None, "state": "baseline", **told, "value": flat[1], "row": flat[0], "head": flat[2]})
    figure = style.new(style.COLUMN, 2.15, source, table)
    axes = figure.subplots()
    done = [(one.number, one.value) for one in trials if one.state == "complete" and one.value is not None]
    ended = [one for one in trials if one.state in ("pruned", "fail")]
    numbers, values = zip(*done, strict=True)
    best = list(accumulate(values, max if highest else min))
    last = max(one.number for one in trials)
    axes.step([*numbers, last], [*best, best[-1]], where="post", color=colour, lw=1.3, label="best so far", zorder=3)
    axes.plot(numbers, values, "o", color=colour, label="trial", **_points(len(numbers)))
    if flat is not None:
        label = f"{room.cut(flat[0], 1.6)}: {flat[1]:.1f}"
        axes.axhline(flat[1], color=style.colour(flat[2]), lw=1, ls="--", label=label)
    axes.margins(x=0.04, y=0.2)
    edge = axes.get_ylim()
    lost = [edge[0] if one.value is None or not edge[0] < one.value < edge[1] else one.value for one in ended]
    if ended:
        ways = " or ".join(sorted({"failed" if one.state == "fail" else "pruned" for one in ended}, reverse=True))
        cross: dict[str, Any] = {"color": style.CHANCE, "ms": 4.5, "mew": 1.2, "clip_on": False, "label": ways}
        axes.plot([one.number for one in ended], lost, "x", **cross)
    axes.set_ylim(edge)
    axes.autoscale(enable=False)
    top = int(np.argmax(values) if highest else np.argmin(values))
    marks.best(axes, numbers[top], values[top], colour, f"{values[top]:.1f}", below=not highest)
    axes.set(xlabel="trial", ylabel=f"val {marks.with_unit(objective)}")
    axes.grid(axis="y")
    marks.plain_ticks(axes, range(last + 1))
    marks.legend(figure, axes)
    return figure


def _points(many: int) -> dict[str, Any]:
    """How points look: so many that they cover each other are smaller, and seen through."""
    return {"ms": 3.5, "mec": "white", "mew": 0.3} if many <= 40 else {"ms": 3.0, "mew": 0, "alpha": 0.5}


@dataclass(frozen=True)
class Tried:
    """What was tried of one setting: its values and the objective at each, which are level with the best, the scale.

    ``level``: the lowest and the highest value among those that cannot be told from the best, if that is known.
    """

    setting: str
    values: Sequence[Any]
    objective: Sequence[float]
    level: tuple[float, float] | None = None
    log: bool = False
    head: str = ""
    alone: bool = True  # nothing else varied, so that a line through the points tells the truth


@style.styled
def tried_panels(panels: Sequence[Tried], objective: str, *, highest: bool = True, source: str = "") -> Figure:
    """The objective over each setting, a panel a setting, with a ring at the best; shaded is what is level with it."""
    told = {"metric": objective, "unit": tidy.unit(objective)}
    table = [
        {"head": panel.head, "setting": panel.setting, "setting_value": tried, **told, "value": value}
        for panel in panels
        for tried, value in zip(panel.values, panel.objective, strict=True)
    ]
    figure = style.new(style.TEXT if len(panels) > 1 else style.COLUMN, 2.0, source, table)
    heads = list(dict.fromkeys(panel.head for panel in panels))
    wide = (figure.get_size_inches()[0] - 0.7) / len(panels) - 0.3
    for axes, panel in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        _tried(axes, panel, highest, wide)
        of = f"{room.MODULE.sub('', panel.head)}: " if len(heads) > 1 else ""
        axes.set_xlabel(room.cut(of + _words(panel.setting), wide, 8))
    figure.axes[0].set_ylabel(f"val {marks.with_unit(objective)}")
    return figure


def _tried(axes: Axes, panel: Tried, highest: bool, wide: float) -> None:
    """One panel, some ``wide`` inches."""
    choices = any(isinstance(value, str | bool) for value in panel.values)
    names = sorted({str(value) for value in panel.values}) if choices else []
    x = np.array([names.index(str(value)) if choices else value for value in panel.values], float)
    y, order, colour = np.asarray(panel.objective), np.argsort(x, kind="stable"), style.colour(panel.head)
    if panel.level is not None and not choices:
        axes.axvspan(*panel.level, color=colour, alpha=0.13, lw=0, zorder=0)
        for end in panel.level:
            axes.axvline(end, color=colour, lw=0.7, ls=":", zorder=1)
    line = "-" if panel.alone and not choices else ""
    axes.plot(x[order], y[order], f"{line}o", color=colour, **_points(len(x)))
    axes.margins(x=0.06, y=0.2)
    axes.grid(axis="y")
    if choices:
        axes.set_xlim(-0.5, len(names) - 0.5)
        axes.set_xticks(range(len(names)), room.names(names, wide / len(names)))
    elif panel.log:
        axes.set_xscale("log")
    top = int(np.argmax(y) if highest else np.argmin(y))
    told = f"{y[top]:.1f}" if choices else f"{y[top]:.1f} at {panel.values[top]:.3g}"
    marks.best(axes, x[top], y[top], colour, told, below=not highest)
    if not choices:
        axes.set_xticks(_ticks(x, axes.get_xlim(), panel.log, wide))
        marks.plain_ticks(axes)


def _ticks(x: NDArray[Any], ends: tuple[float, float], log: bool, wide: float) -> list[float]:
    """Ticks between the ends of an axis: the values that were tried if they are few, else round ones, as many as fit.

    They fit where their labels stand apart on so many inches.
    """
    tried = sorted(set(x.tolist()))
    whole = all(value.is_integer() for value in tried)
    choices: list[Sequence[float]] = [tried] if len(tried) <= 8 else []
    if log:
        choices += [LogLocator(subs=subs).tick_values(*ends) for subs in ((1, 2, 5), (1, 3), (1,))]
        choices += [LogLocator(numticks=many).tick_values(*ends) for many in (4, 3, 2)]
    else:
        choices += [MaxNLocator(many, integer=whole).tick_values(*ends) for many in (12, 9, 7, 6, 5, 4, 3, 2)]
    at = np.log if log else np.asarray
    for choice in choices:
        ticks = [float(tick) for tick in choice if ends[0] <= tick <= ends[1]]
        places = (at(np.array(ticks)) - at(ends[0])) / (at(ends[1]) - at(ends[0]))
        if len(ticks) > 1 and room.apart(places.tolist(), [f"{tick:g}" for tick in ticks], wide):
            return ticks
    return [tried[0], tried[-1]]


def _words(setting: str) -> str:
    return POOLING.get(setting.rpartition(".")[2], setting)


# -- from finished studies -------------------------------------------------------------------------------------------


def importance(studies: Studies) -> Figure:
    """How much each setting of a search mattered to what it reached."""
    one = studies.first(
        lambda one: len((one.searched or {}).get("importance", {})) > 1, "search of two settings or more", "xpool_head"
    )
    told = one.searched or {}
    few = few_trials(told["completed"])
    more = f"PED-ANOVA over {told['completed']} completed trials{few and f' ({few})'}"
    more += f"; objective {told['objective']} on validation"
    return importance_bars(told["importance"], style.colour(one.head), one.source("val", more))


def history(studies: Studies) -> Figure:
    """A search's trials in their order, with the best so far and those that were pruned."""
    one = studies.first(lambda one: 1 + (len(one.searched["space"]) > 1) if one.searched else 0, "search", "xpool_head")
    told, objective = one.searched or {}, one.result["objective"]
    base = next(row for row in one.rows if row["name"] == one.result["baseline"])
    best = ", ".join(f"{key} = {_plain(value)}" for key, value in told["best"]["params"].items())
    more = f"{told['finished']} trials, {told['pruned']} pruned; the best: {best}"
    flat = (base["name"], base["val"][objective]["mean"], base["head"])
    options: dict[str, Any] = {"highest": one.highest, "flat": flat, "source": one.source("val", more)}
    return history_dots(one.trials, objective, style.colour(one.head), **options)


def plateau(studies: Studies) -> Figure:
    """The objective over k, temperature, fusion weight or others, shaded what is level with the best."""

    def fits(one: Finished) -> int:
        try:
            panels = _panels(one)
        except NoData as error:
            log.warning("left out: %s", error)
            return 0
        pools = any(_pooling(panel.setting) for panel in panels)
        return bool(panels) + 2 * pools + (pools and any(panel.level is not None for panel in panels))

    one = studies.first(fits, "study that tried a setting's values", "topk")
    flat = (one.searched or {}).get("plateau")
    more = "ring: the best"
    if flat and flat["of"] > 1:
        how = tied_by(one.result)
        many = f"shaded: spanned by the {flat['trials']} of {flat['of']} trials that are level with it {how}"
        more += f"; {many if flat['trials'] > 1 else 'no other trial is level with it ' + how}"
    options: dict[str, Any] = {"highest": one.highest, "source": one.source("val", more)}
    return tried_panels(_panels(one)[:PANELS], one.result["objective"], **options)


def _panels(one: Finished) -> list[Tried]:
    """What a study tried of each setting, pooling's first, then by importance."""
    if one.searched is None:
        rows = {row["name"]: row["head"] for row in one.rows}
        return [
            Tried(
                key, [each["point"][key] for each in tried], [each["value"] for each in tried], None,
                _spread([each["point"][key] for each in tried]), rows[name], len(tried[0]["point"]) == 1,
            )
            for name, tried in one.result.get("choices", {}).items()
            for key in tried[0]["point"]
        ]  # fmt: skip
    space, shares = one.searched["space"], one.searched["importance"]
    spans = (one.searched.get("plateau") or {}).get("settings", {})
    found = []
    for key in sorted(space, key=lambda key: (not _pooling(key), -shares.get(key, 0.0))):
        done = [
            (each.settings[key], each.value)
            for each in one.trials
            if each.state == "complete" and each.value is not None and each.settings.get(key) is not None
        ]
        span = spans.get(key, {})
        level = (span["low"], span["high"]) if "low" in span else None
        if done:
            values, objective = zip(*done, strict=True)
            found.append(Tried(key, values, objective, level, space[key].startswith("log"), one.head, len(space) == 1))
    return found


def _pooling(setting: str) -> bool:
    return setting.rpartition(".")[2] in POOLING


def _spread(values: Sequence[Any]) -> bool:
    """Whether numbers that were chosen one by one are spread over orders of magnitude, which a log axis shows best."""
    plain = all(isinstance(value, int | float) and not isinstance(value, bool) and value > 0 for value in values)
    return plain and max(values) / min(values) >= 20 and not math.isinf(max(values))


def _plain(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
