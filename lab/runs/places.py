"""Where runs are and what they may be called."""

from __future__ import annotations

import re
from pathlib import Path

from lab.errors import LabError

RUNS = Path("studies/runs")


def file_name(name: str) -> str:
    """A name without what could lead to another directory, whoever chose it."""
    return re.sub(r"[^\w.+=-]", "-", name)[:200]


def require_free(runs: Path, name: str | None) -> None:
    """Raises ``LabError`` for a name that is taken, which is better known before the training than after it."""
    if name is not None and (path := runs / file_name(name)).exists():
        raise LabError(f"{path} is there already: give the run another --name, or delete that one")


def find_run(name: str | Path, runs: Path = RUNS) -> Path | None:
    """The directory of a run, given as a path or as a name below ``runs``; None if there is none."""
    return next((path for path in (Path(name), runs / name) if (path / "run.json").is_file()), None)


def find_below(name: str | Path, runs: Path = RUNS) -> Path | None:
    """The directory of the run of that name anywhere below ``runs``, as studies have them. ``LabError`` for several."""
    named = [path for path in runs_below(runs) if path.name == str(name)]
    if len(named) > 1:
        raise LabError(f"{len(named)} runs are called '{name}', give one's path: {', '.join(map(str, named))}")
    return named[0] if named else None


def runs_below(runs: Path = RUNS) -> list[Path]:
    """The directories of all runs below one, without what a dot hides there: litter of a save that was killed."""
    files = (file for file in runs.rglob("run.json") if not re.search(r"(^|/)\.", file.relative_to(runs).as_posix()))
    return sorted(file.parent for file in files)
