"""What a study has taught beside its numbers: what mattered, how wide the best is, whether the gain is more than noise.

The plateau of a search is those of its trials that cannot be told from the best. Where trials are trained, that is
within two noise floors, the standard deviation between seeds of the chosen setup on validation. Where they are not, and
no seed plays a part, a paired test on the validation queries decides.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from lab.significance import holm, paired_test
from lab.studies.cached import Cached
from lab.studies.setups import OBJECTIVES, best_by, plain, quality
from lab.studies.space import Range

if TYPE_CHECKING:
    import optuna
    from optuna.trial import FrozenTrial

#: How sure intervals are, and verdicts.
LEVEL = 0.95
#: How many noise floors two values must be apart to be told from each other.
FLOORS = 2.0
#: Completed trials below which their importance is told with a caveat.
FEW_TRIALS = 10
#: Of the paired tests that find a plateau, of which there may be hundreds.
RESAMPLES = 1_000


def importance(study: optuna.Study) -> dict[str, float]:
    """How much of the objective's change each setting explains (PED-ANOVA), the most important first.

    Empty where there are too few different trials to say.
    """
    import optuna

    done = [trial for trial in study.get_trials(deepcopy=False) if trial.state.name == "COMPLETE"]
    if len(done) < 4 or len({trial.value for trial in done}) < 2 or not done[0].params:
        return {}
    if len(done[0].params) == 1:
        return dict.fromkeys(done[0].params, 1.0)
    from optuna.importance import get_param_importances  # here, because it loads scikit-learn

    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        return {key: round(float(value), 4) for key, value in get_param_importances(study).items()}
    except (ValueError, RuntimeError):
        return {}
    finally:
        optuna.logging.set_verbosity(level)


def few_trials(completed: int) -> str:
    """What is to be known of an importance that so many trials have told; '' of enough."""
    return "little to go by" if completed < FEW_TRIALS else ""


def noise_floor(metrics: Sequence[Mapping[str, float]], objective: str, queries: int) -> float | None:
    """The standard deviation of the objective between seeds; None for fewer than two.

    A few seeds may agree by luck: where the objective is in percent, it is at least what one query is worth.
    """
    values = [quality(each, objective) for each in metrics]
    least = 100 / queries if objective.startswith(("R@", "gm")) else 0.0
    return max(statistics.stdev(values), least) if len(values) > 1 else None


def within_noise(trials: Sequence[FrozenTrial], best: float, floor: float, objective: str) -> set[int]:
    """The numbers of the completed trials that lie within ``FLOORS`` noise floors of the best value."""
    sign = 1 if OBJECTIVES[objective] else -1
    return {
        trial.number
        for trial in trials
        if trial.state.name == "COMPLETE" and trial.value is not None and sign * (best - trial.value) <= FLOORS * floor
    }


def tied_with(best: FrozenTrial, trials: Sequence[FrozenTrial], cached: Cached, objective: str) -> set[int]:
    """The numbers of the completed trials that a paired test on the validation queries cannot tell from the best.

    Each test is by itself. Adjusted for how many trials there are, more would be tied.
    """
    mine, found = cached.ranks(best.params), {best.number}
    tried: dict[str, bool] = {}
    for trial in trials:
        if trial.state.name == "COMPLETE" and trial.number != best.number:
            key = repr(sorted(trial.params.items()))
            if key not in tried:
                test = paired_test(mine, cached.ranks(trial.params), cached.target, objective, resamples=RESAMPLES)
                tried[key] = test.p_value >= 1 - LEVEL
            if tried[key]:
                found.add(trial.number)
    return found


def plateau(trials: Sequence[FrozenTrial], space: Mapping[str, Range], tied: set[int]) -> dict[str, Any]:
    """For each setting the stretch of its range that is spanned by the trials that are tied with the best.

    ``width`` is that stretch's share of the range, on the range's own scale; choices list what is among them.
    """
    done = [trial for trial in trials if trial.state.name == "COMPLETE"]
    spans: dict[str, Any] = {}
    for key, each in space.items():
        values = [trial.params[key] for trial in done if trial.number in tied and key in trial.params]
        if not values:
            continue
        if each.kind == "choice":
            spans[key] = {"values": [value for value in each.choices if value in values]}
        else:
            low, high = min(values), max(values)
            width = each.place(high) - each.place(low)
            spans[key] = {"low": low, "high": high, "width": 1.0 if math.isnan(width) else round(width, 4)}
    return {"trials": len(tied), "of": len(done), "settings": spans}


def adjusted(rows: Sequence[Mapping[str, Any]], metric: str) -> dict[str, float]:
    """The p-values of a result's rows against the baseline in a metric, by name, adjusted for how many rows there are.

    See ``lab.significance.holm``.
    """
    tests = {row["name"]: row["against_baseline"][metric] for row in rows if metric in row["against_baseline"]}
    return dict(zip(tests, holm([test["p_value"] for test in tests.values()]), strict=True))


def verdicts(rows: Sequence[Mapping[str, Any]], baseline: str) -> list[str]:
    """A plain sentence for each of a result's rows: is its gain in R@1 over the baseline on test more than noise?

    The noise is that of the queries, by the adjusted p-value of a paired test, and the spread between seeds.
    """
    base, among = next(row for row in rows if row["name"] == baseline), adjusted(rows, "R@1")
    return [_verdict(row, base, among) for row in rows if row["name"] in among]


def _verdict(row: Mapping[str, Any], base: Mapping[str, Any], among: Mapping[str, float]) -> str:
    test, adjusted_p = row["against_baseline"]["R@1"], among[row["name"]]
    gain, p = test["difference"], test["p_value"]
    deviations = [each["test"]["R@1"]["std"] for each in (row, base) if each["test"]["R@1"]["std"] is not None]
    spread = math.hypot(*deviations)
    side = "above" if gain >= 0 else "below"
    many = f", {adjusted_p:.2g} adjusted for {len(among)} comparisons" if len(among) > 1 else ""
    told = (
        f"{row['name']} is {abs(gain):.1f} points of R@1 {side} {base['name']} on test "
        f"({100 * LEVEL:.0f} % interval {test['low']:+.1f} to {test['high']:+.1f}, p = {p:.2g}{many})"
    )
    told += f"; seeds spread by {spread:.1f}" if deviations else ""
    if p >= 1 - LEVEL:
        return f"{told}: no more than the noise of the test queries."
    if adjusted_p >= 1 - LEVEL:
        return f"{told}: no more than the noise where so many are compared."
    if abs(gain) < FLOORS * spread:
        return f"{told}: more than the noise of the queries, but not {FLOORS:g} times the spread between seeds."
    return f"{told}: {'a gain' if gain > 0 else 'a loss'} larger than the noise."


def learned_lines(result: Mapping[str, Any]) -> list[str]:
    """What the search taught, and what was left to validation, a sentence each."""
    lines = _search_lines(result) if result.get("search") else []
    for name, tried in result.get("choices", {}).items():
        best = best_by(result["objective"], tried, itemgetter("value"))["point"]
        point = ", ".join(f"{key} = {value}" for key, value in best.items())
        lines.append(f"{name}: {point} was chosen on validation among {len(tried)}")
    return lines


def _search_lines(result: Mapping[str, Any]) -> list[str]:
    told = result["search"]
    best = ", ".join(f"{key} = {plain(value)}" for key, value in told["best"]["params"].items()) or "no setting"
    lines = [
        f"{told['finished']} trials ({told['pruned']} pruned, {told['diverged']} diverged); the best on validation is "
        f"number {told['best']['number']} with {told['objective']} {told['best']['value']:.2f}: {best}"
    ]
    if told["exhausted"]:
        lines.append("every point of the space was tried")
    if len(told["importance"]) > 1:
        shares = ", ".join(f"{key} {value:.0%}" for key, value in told["importance"].items())
        few = few_trials(told["completed"])
        lines.append(f"importance: {shares}" + (f" ({told['completed']} trials: {few})" if few else ""))
    flat = told.get("plateau")
    if flat and flat["of"] > 1:
        spans = ", ".join(f"{key} {_span(span)}" for key, span in flat["settings"].items())
        many = f"{flat['trials']} of {flat['of']} completed trials cannot be told from the best"
        lines.append(f"{many}, {tied_by(result)}: {spans}")
    return lines


def tied_by(result: Mapping[str, Any]) -> str:
    """By what a search's trials are tied with the best: see ``noise_floor``."""
    floor = result["search"].get("noise_floor")
    if floor is None:
        return "by a paired test on validation"
    spread = result["rows"][-1]["val"][result["objective"]]["std"]
    apart = "that one query is worth" if floor > spread else "between seeds"
    return f"within twice the {floor:.2f} {apart}"


def _span(span: Mapping[str, Any]) -> str:
    if "values" in span:
        return " or ".join(map(str, span["values"]))
    return f"{plain(span['low'])} .. {plain(span['high'])} ({span['width']:.0%} of its range)"
