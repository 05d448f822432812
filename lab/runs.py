"""Trained heads on disk: a run is a directory, by default under ``studies/runs/``, which git ignores.

``head.safetensors``  the weights
``run.json``          what they are: head, keywords, dim, passport of the store, recipe, validation metrics, versions
``log.jsonl``         a line for each epoch

A run may come from somebody else, so nothing in it is executed: weights are plain tensors, and a head that is not the
lab's own (``"my_module:MyHead"``, which means to import a module) is built only if its name is given again by the one
who loads it.
"""

from __future__ import annotations

import json
import math
import platform
import re
import shutil
from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from secrets import token_hex
from typing import Any

import torch
from torch import Tensor, nn

from lab.atomic import replace_bytes, replace_text
from lab.errors import LabError
from lab.heads import HEADS, build_head, head_class
from lab.store import Store, passport
from lab.training.recipe import AUDIO_LEVELS, merged
from lab.training.stages import Epoch

RUNS = Path("studies/runs")
#: 2 has ``after``, which a reader of 1 would leave out.
FORMAT = 2


class UntrustedError(LabError):
    """A run wants a head, ``name``, which is code outside the lab that nobody has trusted."""

    def __init__(self, path: Path, name: str) -> None:
        super().__init__(
            f"{path} wants the head '{name}', which is code that the lab does not know: if you know it, "
            f"run the same with --trust {name}"
        )
        self.name = name


@dataclass(frozen=True)
class Run:
    """What ``run.json`` says. ``passport`` holds those sections of the store's that the head depends on.

    ``keywords`` are those of the training, with which it can be repeated; ``after`` those that were set when it was
    over, a fusion weight chosen on validation, say. Runs of format 1 have the latter among the former.
    """

    head: str
    keywords: dict[str, Any]
    dim: int
    dataset: str
    protocol: str
    store: str
    passport: dict[str, Any]
    recipe: dict[str, Any]
    kept: dict[str, Any]  # the epoch whose weights these are, and its metrics on validation
    chosen: str  # how that epoch was chosen
    parameters: int
    seconds: float
    time: str = field(default_factory=lambda: datetime.now(UTC).isoformat("T", "seconds"))
    versions: dict[str, str] = field(
        default_factory=lambda: {
            "python": platform.python_version(),
            **{name: version(name) for name in ("retrieval-lab", "torch", "numpy")},
        }
    )

    after: dict[str, Any] = field(default_factory=dict)
    format: int = FORMAT

    @property
    def settings(self) -> dict[str, Any]:
        """The keywords that the head has, those that were set after the training in place of those that it had."""
        return merged(self.keywords, self.after)

    @property
    def metrics(self) -> dict[str, float]:
        """Those of the kept epoch on the validation split; empty if the store has none."""
        return dict(self.kept["metrics"])

    @property
    def audio_level(self) -> str:
        """What it heard while it was trained: ``clip`` or ``segments``."""
        return str(self.recipe.get("audio_level", "clip"))


def sections(store: Store, head: nn.Module) -> dict[str, Any]:
    """The sections of a store's passport that a head's weights depend on: sound only if it hears."""
    silent = not getattr(head, "needs_audio", False)
    return {name: part for name, part in store.passport.items() if not (name == "audio" and silent)}


def save_run(head: nn.Module, run: Run, epochs: Collection[Epoch], runs: Path = RUNS, name: str | None = None) -> Path:
    """Writes a run, whole or not at all, and returns its directory, named after head, data set and time if not given.

    Raises ``LabError`` for a name that is taken, and for keywords that are no JSON.
    """
    from safetensors.torch import save

    require_free(runs, name)
    stem = file_name(name or f"{run.head}-{run.dataset}-{run.time[:19]}-s{run.recipe['seed']}")
    # Cloned, because two names may share one tensor (a layer used twice), which safetensors refuses.
    weights = {key: value.detach().cpu().contiguous().clone() for key, value in head.state_dict().items()}
    try:
        told = json.dumps({**asdict(run), "format": FORMAT, "kept": _finite(run.kept)}, indent=1, default=_no_json)
    except TypeError as error:
        raise LabError(f"a run's keywords must be plain values, so that they can be saved: {error}") from None
    log = "".join(json.dumps(_finite(asdict(epoch))) + "\n" for epoch in epochs)
    runs.mkdir(parents=True, exist_ok=True)
    fresh = runs / f".{stem}.new-{token_hex(4)}"
    try:
        fresh.mkdir()
        replace_bytes(fresh / "head.safetensors", save(weights))
        replace_text(fresh / "run.json", told + "\n")
        replace_text(fresh / "log.jsonl", log)
        return _placed(fresh, runs / stem)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def require_free(runs: Path, name: str | None) -> None:
    """Raises ``LabError`` for a name that is taken, which is better known before the training than after it."""
    if name is not None and (path := runs / file_name(name)).exists():
        raise LabError(f"{path} is there already: give the run another --name, or delete that one")


def file_name(name: str) -> str:
    """A name without what could lead to another directory, whoever chose it."""
    return re.sub(r"[^\w.+=-]", "-", name)[:200]


def _placed(fresh: Path, path: Path) -> Path:
    """Renames to ``path``, or where that is taken by then to ``path-2`` and so on."""
    for attempt in range(1, 1000):
        target = path if attempt == 1 else path.with_name(f"{path.name}-{attempt}")
        try:
            if not target.exists():  # an empty directory would be replaced by the rename
                return fresh.rename(target)
        except OSError:
            if not target.exists():
                raise
    raise LabError(f"{path} and 999 of its kind are there already: give the run a --name")


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


def load_run(path: str | Path, store: Store | None = None, *, trusted: Collection[str] = ()) -> tuple[nn.Module, Run]:
    """The trained head in eval mode on the CPU, and what is known of it.

    Raises ``LabError`` for what is no run or a damaged one, ``UntrustedError`` for a head outside the lab whose name is
    not in ``trusted``, and, if a store is given, ``LabError`` for one whose features were made under another passport.
    """
    path = Path(path)
    run = read_run(path)
    if store is not None:
        _require_passport(run, store, path)
    for name in own_code(run.head, run.settings):
        if name not in trusted:
            raise UntrustedError(path, name)
    weights = _weights(path / "head.safetensors")
    try:
        keywords = _without_start(run.head, run.settings)
        if not own_code(run.head, keywords):  # nothing of the size that a file claims is made before it is checked
            with torch.device("meta"):
                _require_shapes(build_head(run.head, run.dim, **keywords), weights, path)
        head = build_head(run.head, run.dim, **keywords)
        _require_shapes(head, weights, path)
        head.load_state_dict(weights)
    except (TypeError, ValueError, RuntimeError) as error:
        raise LabError(f"{path}: head '{run.head}' cannot be built as saved: {' '.join(str(error).split())}") from None
    return head.eval(), run


def read_run(path: Path) -> Run:
    """What ``run.json`` says. Raises ``LabError`` where it is none, damaged, or of a newer version of the lab."""
    file = path / "run.json"
    try:
        told = json.loads(file.read_bytes())
        if told["format"] > FORMAT:
            raise LabError(f"{file} has format {told['format']}, this version reads up to {FORMAT}: upgrade the lab")
        told.setdefault("after", {})  # format 1
        run = Run(**{key: told[key] for key in (f.name for f in fields(Run))})
        wrong = list(_mistyped(run))
        if wrong:
            raise TypeError(f"'{wrong[0]}' is of another type")
        if "multi_positive" in run.recipe:  # what is ``twins`` now
            run.recipe["twins"] = "positives" if run.recipe.pop("multi_positive") else "ignored"
    except FileNotFoundError:
        raise LabError(f"{path} is not a run: it has no run.json; python -m lab.train HEAD makes one") from None
    except (KeyError, ValueError, TypeError, RecursionError) as error:
        raise LabError(f"{file} is damaged ({type(error).__name__}: {error}): train the head again") from None
    return run


def _mistyped(run: Run) -> Iterator[str]:
    """The fields that are not of the type of their annotation, which ends at a bracket."""
    types = {"str": str, "int": int, "float": int | float, "dict": dict}
    for each in fields(Run):
        value = getattr(run, each.name)
        if not isinstance(value, types[str(each.type).partition("[")[0]]) or isinstance(value, bool):
            yield each.name
    if not isinstance(run.kept.get("metrics"), dict):
        yield "kept.metrics"
    if run.audio_level not in AUDIO_LEVELS:
        yield "recipe.audio_level"


def _require_passport(run: Run, store: Store, path: Path) -> None:
    remedy = f"Use the store that {path} was trained on ({run.store}), or train the head on this one"
    absent = [name for name in run.passport if name not in store.passport]
    if absent:
        raise LabError(f"{store.path} holds no {', '.join(absent)}, which {path} was trained on. {remedy}")
    passport.require_same(store.passport, run.passport, str(store.path), remedy)


def own_code(head: str, keywords: Mapping[str, Any]) -> list[str]:
    """All that could name a class outside the lab: a head that ``HEADS`` lacks, and any ``x:y`` among its keywords."""

    def names(value: Any) -> Iterator[str]:
        if isinstance(value, str) and ":" in value:
            yield value
        elif isinstance(value, Mapping):
            for inner in value.values():
                yield from names(inner)
        elif isinstance(value, list | tuple):
            for inner in value:
                yield from names(inner)

    return [*([head] if head not in HEADS and ":" in head else []), *names(keywords)]


def _without_start(head: str, keywords: Mapping[str, Any]) -> dict[str, Any]:
    """Without what only says where weights come from before training, such as a file that may have gone since."""
    only_at_start = getattr(head_class(head), "only_at_start", ())
    kept = {name: value for name, value in keywords.items() if name not in only_at_start}
    if isinstance(kept.get("video"), str) and isinstance(kept.get("video_keywords"), dict):
        kept["video_keywords"] = _without_start(kept["video"], kept["video_keywords"])
    return kept


def _weights(file: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        weights = load(file.read_bytes())
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise LabError(f"{file} is damaged ({' '.join(str(error).split())}): train the head again") from None
    broken = sorted(name for name, value in weights.items() if not torch.isfinite(value).all())
    if broken:
        raise LabError(f"{file} holds weights that are not finite, in {', '.join(broken[:5])}: train the head again")
    return weights


def _require_shapes(head: nn.Module, weights: Mapping[str, Tensor], path: Path) -> None:
    wanted = {name: tuple(value.shape) for name, value in head.state_dict().items()}
    found = {name: tuple(value.shape) for name, value in weights.items()}
    for name in sorted(wanted.keys() | found.keys()):
        if wanted.get(name) != found.get(name):
            raise LabError(
                f"{path}: the weights do not fit the head that run.json describes: '{name}' should be "
                f"{wanted.get(name, 'absent')}, it is {found.get(name, 'absent')}"
            )


def _no_json(value: Any) -> Any:
    raise TypeError(f"{value!r} is a {type(value).__name__}")


def _finite(row: dict[str, Any]) -> dict[str, Any]:
    """JSON knows no NaN."""
    return {key: None if isinstance(value, float) and not math.isfinite(value) else value for key, value in row.items()}
