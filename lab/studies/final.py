"""The final step: chosen setups are trained with several seeds, then the test split is read, once for all of them.

Nothing else in ``lab.studies`` unseals a store. The seeds are not the search's own: the trial that was the best of many
owes some of that to its seed. Trained heads are saved as runs as they are made, so a study that is stopped here goes on
where it was.
"""

from __future__ import annotations

import logging
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lab import cli
from lab.errors import LabError
from lab.evaluate import evaluate
from lab.reads import Reader, count_reads, require_split
from lab.recipe import divide, merged
from lab.runs import load_run, read_run, save_run
from lab.store.ledger import replace_bytes
from lab.studies.cached import settle
from lab.studies.diversity import diversity
from lab.studies.grid import Chosen
from lab.studies.guard import SealedStore
from lab.studies.setups import Setup, Study
from lab.studies.splits import Fitted, Row, Split, Splits, load_levels
from lab.studies.trainings import is_side
from lab.studies.workers import claimed

log = logging.getLogger(__name__)

#: What a sweep does with the test split, by its name.
SWEEPS = {"diversity": diversity}


@dataclass(frozen=True)
class Final:
    """All rows on the test split. ``video`` and ``caption`` (T,) are the queries' rows in the store's tables;
    ``val_video`` says which of the validation split's videos each of its captions is of.
    """

    rows: tuple[Row, ...]
    video: NDArray[np.int64]
    caption: NDArray[np.int64]
    val_video: NDArray[np.int64]
    videos: int
    reads_before: int
    protocol: str
    sweep: dict[str, Any]

    def row(self, name: str) -> Row:
        """A row by its name."""
        return next(row for row in self.rows if row.setup.name == name)


def train_all(
    study: Study, chosen: Sequence[Chosen], splits: Splits, runs: Path
) -> tuple[list[Chosen], list[list[tuple[Fitted, str]]]]:
    """Each setup trained with every seed (untrained heads once), and the directory of its run, "" where it has none.

    What setups leave to be chosen after their training is chosen here, on validation, and told of in ``Chosen``.
    """
    done: list[list[tuple[Fitted, str]]] = []
    told: list[Chosen] = []
    with cli.bar(len(chosen) * study.seeds, "final", "training") as bar:
        for each in chosen:
            setup = each.setup
            fits: list[tuple[Fitted, str]] = []
            for seed in seeds_of(study):
                bar.set_postfix_str(setup.name)
                fits.append(_fit(setup, seed, splits, runs))
                bar.update()
                if not fits[-1][0].trained:
                    bar.update(study.seeds - 1)
                    break
            if setup.choose:
                settled, tried = settle(setup, splits, [fitted for fitted, _ in fits], study.objective)
                fits = [(new, _replaced(old, new, run)) for (old, run), new in zip(fits, settled, strict=True)]
                each = replace(each, setup=settled[0].setup, tried=[*each.tried, *tried])
            told.append(each)
            done.append(fits)
    shutil.rmtree(runs.parent / "claims", ignore_errors=True)
    return told, done


def take_part(study: Study, splits: Splits, runs: Path) -> None:
    """A helper's part in the trainings of a grid or a sweep: those that nobody else has begun, as the rows stand.

    Rows whose settings are still to be chosen are left to the first process.
    """
    rows = [row for row in study.rows if not row.search]
    for setup in rows:
        if not any(parameter.requires_grad for parameter in splits.build(setup)[0].parameters()):
            continue
        side = next((row for row in rows if row is not setup and is_side(row, setup)), None)
        for seed in seeds_of(study):
            if side is not None:
                _fit(side, seed, splits, runs)  # read, or waited for: it is not to be trained once more
            path = _path(setup, seed, runs)
            with claimed(path, wait=False) as mine:
                if mine and not (path / "run.json").is_file():
                    _train(setup, seed, splits, path)


def seeds_of(study: Study) -> range:
    """The seeds of the final step."""
    return range(study.seed + 1, study.seed + 1 + study.seeds)


def _replaced(old: Fitted, new: Fitted, path: str) -> str:
    """The run of a head whose settings after the training were chosen; one that says so already stays."""
    if not path or read_run(Path(path)).after == new.run.after:
        return path
    with claimed(Path(path)):
        told = Path(path) / "log.jsonl"
        epochs = told.read_bytes() if told.is_file() else b""  # what was read from disk knows none
        _remove(Path(path))
        saved = save_run(new.head, new.run, old.epochs, Path(path).parent, Path(path).name)
        replace_bytes(saved / "log.jsonl", epochs)
        return str(saved)


def read_test(
    study: Study, trained: Sequence[Sequence[tuple[Fitted, str]]], splits: Splits, sealed: SealedStore, command: str
) -> Final:
    """Opens the store, reads the test split once, and ranks with every head. From here on nothing can be chosen.

    A sweep changes the videos that were read, and ranks again.
    """
    require_split(sealed, "test", splits.protocol)
    val = {
        level: splits.load("val", level) for level in {fit.recipe.audio_level for fits in trained for fit, _ in fits}
    }
    with cli.bar(sum(map(len, trained)), "validation split", "head") as bar:
        on_val = [np.stack([_ranks(fit, val, bar)["t2v"] for fit, _ in fits]) for fits in trained]
    before = count_reads(sealed, "test")
    names = ", ".join(fits[0][0].setup.name for fits in trained)
    store = sealed.unseal()
    levels = {fit.recipe.audio_level for fits in trained for fit, _ in fits} if splits.needs.needs_audio else {"clip"}
    test = load_levels(
        store, "test", splits.protocol, splits.needs, levels, splits.device, Reader(command, names, study.name)
    )
    rows = []
    with cli.bar(sum(map(len, trained)), "test split", "head") as bar:
        for fits, chosen_on in zip(trained, on_val, strict=True):
            ranks = [_ranks(fit, test, bar) for fit, _ in fits]
            together = {name: np.stack([each[name] for each in ranks]) for name in ranks[0]}
            rows.append(Row(tuple(fit for fit, _ in fits), tuple(run for _, run in fits if run), together, chosen_on))
    texts, videos = next(iter(test.values()))
    if texts.video is None or texts.rows is None or videos.rows is None:
        raise ValueError("a split of a store knows its rows")
    owner = videos.rows[texts.video.to(videos.rows.device)]
    sweep = SWEEPS[study.sweep](study, rows, store, texts, videos) if study.kind == "sweep" else {}
    queries = owner.cpu().numpy(), texts.rows.cpu().numpy()
    target = next(iter(val.values()))[0].video
    val_video = target.cpu().numpy() if target is not None else queries[0]
    return Final(tuple(rows), *queries, val_video, len(videos), before, splits.protocol, sweep)


def _ranks(fit: Fitted, splits: Mapping[str, Split], bar: Any) -> dict[str, NDArray[np.float64]]:
    level = fit.recipe.audio_level
    split = splits[level] if level in splits else next(iter(splits.values()))
    ranks = evaluate(fit.head, *split)
    bar.update()
    return ranks


def _path(setup: Setup, seed: int, runs: Path) -> Path:
    return runs / f"{_stem(setup.name)}-s{seed}"


def _fit(setup: Setup, seed: int, splits: Splits, runs: Path) -> tuple[Fitted, str]:
    """A run that is there already if it was made from the same, otherwise a new one."""
    path = _path(setup, seed, runs)
    with claimed(path):
        return _read_or_train(setup, seed, splits, path)


def _read_or_train(setup: Setup, seed: int, splits: Splits, path: Path) -> tuple[Fitted, str]:
    if (path / "run.json").is_file():
        again = _again(setup, seed, splits, path)
        if again is not None:
            return again, str(path)
        log.info("%s is of other settings, its place is taken by a new one", path)
        _remove(path)
    return _train(setup, seed, splits, path)


def _train(setup: Setup, seed: int, splits: Splits, path: Path) -> tuple[Fitted, str]:
    """A new run. What is in its place without a ``run.json`` was left by a removal that was killed."""
    if path.exists():
        _remove(path)
    try:
        fitted = splits.fit(setup, seed)
    except LabError as error:
        raise LabError(f"'{setup.name}' with seed {seed}: {error}") from None
    if not fitted.trained:
        return fitted, ""
    try:
        return fitted, str(save_run(fitted.head, fitted.run, fitted.epochs, path.parent, path.name))
    except ModuleNotFoundError as error:
        log.warning("%s is not installed, so the trained heads are not saved", error.name)
        return fitted, ""


def _again(setup: Setup, seed: int, splits: Splits, path: Path) -> Fitted | None:
    try:
        run = read_run(path)
        _, keywords, recipe = splits.build(setup, seed)
        held, wanted = run.after, setup.after
        for key in setup.choose:  # what it holds of these is chosen anew
            held, wanted = (merged(each, divide(setup.head, {key: 0})[1]) for each in (held, wanted))
        same = (run.head, run.keywords, run.recipe, held) == (setup.head, keywords, asdict(recipe), wanted)
        if not same or run.passport.keys() - splits.store.passport.keys():
            return None
        head, run = load_run(path, splits.store, trusted=list(_names(setup)))
    except LabError as error:
        log.warning("%s", error)
        return None
    log.info("%s was trained before", path)
    if not run.after:  # as it was trained
        splits.trainings.remember(setup.head, keywords, recipe, head, run)
    return Fitted(setup, head.to(splits.device), recipe, run.metrics, run.seconds, run)


def _names(setup: Setup) -> Iterator[str]:
    """The heads that the study's own file names, which its user therefore trusts."""
    yield setup.head
    yield from (value for value in setup.keywords.values() if isinstance(value, str))


def _remove(path: Path) -> None:
    """Out of the way at once, with all that stands beside the weights; a kill on the way leaves nothing in the way.

    Only for who has ``claimed`` the run.
    """
    gone = path.with_name(f".{path.name}.gone")
    shutil.rmtree(gone, ignore_errors=True)  # of one who was killed below
    path.rename(gone)
    (gone / "run.json").unlink(missing_ok=True)  # first, for what has one is a run
    shutil.rmtree(gone)


def _stem(name: str) -> str:
    return re.sub(r"[^\w.+-]", "-", name)
