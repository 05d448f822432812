"""What rows leave to the validation split: each row's ranges are tried point by point, and the best is kept."""

from __future__ import annotations

from dataclasses import dataclass, field
from operator import itemgetter
from typing import Any

from lab import cli
from lab.errors import LabError
from lab.studies.cached import Cached, after_training
from lab.studies.setups import Setup, Study, best_by, quality
from lab.studies.space import points
from lab.studies.splits import Splits


@dataclass(frozen=True)
class Chosen:
    """A row with its settings, and what was tried for them: points with the objective on validation."""

    setup: Setup
    tried: list[tuple[dict[str, Any], float]] = field(default_factory=list)


def choose(study: Study, splits: Splits) -> list[Chosen]:
    """Every row of a study with its settings chosen on validation. Raises ``LabError`` where a training fails."""
    total = sum(len(points(row.search)) for row in study.rows if row.search)
    if not total:
        return [Chosen(row) for row in study.rows]
    with cli.bar(total, "choosing on validation", "setting") as bar:
        return [_chosen(study, row, splits, bar) if row.search else Chosen(row) for row in study.rows]


def _chosen(study: Study, row: Setup, splits: Splits, bar: Any) -> Chosen:
    free = after_training(row)
    cached = Cached(row, splits) if free else None
    tried: list[tuple[dict[str, Any], float]] = []
    for point in points(row.search):
        try:
            metrics = cached.metrics(point) if cached is not None else splits.fit(row.at(point)).metrics
        except LabError as error:
            raise LabError(f"row '{row.name}' at {point}: {error}") from None
        tried.append((point, quality(metrics, study.objective)))
        bar.update()
    best, _ = best_by(study.objective, tried, itemgetter(1))
    return Chosen(row.with_after(best) if free else row.at(best), tried)
