"""The search itself: trials taken, trained and told until as many are finished as were asked for.

Where nothing but settings after the training is searched (``lab.studies.cached``) trials are taken many at a time and
scored from products that are made once; all other trials train a head, as many at a time as the study's ``stack`` says,
are judged after each epoch, and may be pruned.
"""

from __future__ import annotations

import logging
import math
import os
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from lab import cli
from lab.errors import LabError
from lab.heads import head_class
from lab.studies.cached import Cached, after_training, settle
from lab.studies.learned import tied_with
from lab.studies.queue import Queue, count
from lab.studies.sampling import pruner_for
from lab.studies.setups import Setup, Study, best_by, changes, definition_on, direction, quality
from lab.studies.splits import Fitted, Splits
from lab.studies.storage import Storage

if TYPE_CHECKING:
    import optuna
    from optuna.trial import FrozenTrial, Trial

log = logging.getLogger(__name__)

#: Trials taken at a time where they need no training. TPE would learn nothing from those within one batch.
BATCH = 10
#: Seconds between two looks at trials that other processes work on.
PAUSE_S = 0.5


@dataclass(frozen=True)
class Found:
    """What a search found: its best trial, the setup at it, and all trials.

    ``tied``: numbers of trials that a paired test cannot tell from the best; None where trials are trained, whose
    noise is that between seeds.
    """

    best: FrozenTrial
    setup: Setup
    trials: list[FrozenTrial]
    queue: Queue
    tied: set[int] | None


def search(splits: Splits, storage: Storage, name: str, *, joined: bool = False) -> Found | None:
    """Runs the trials that are missing. ``joined``: take part in another process's search, and return nothing.

    Raises ``LabError`` where no trial could be completed, and if a study of that name is there which asked something
    else.
    """
    study = splits.study
    with storage.reached():
        opened = _opened(splits, storage, name)
        ranges = study.searched.search
        queue = Queue(opened, storage, ranges, sampler=study.sampler, seed=study.seed, target=study.trials)
        if (before := queue.counts().finished) and not joined:
            log.info("%s: %d trials are finished already", storage.where, before)
        free = after_training(study.searched)
        try:
            with queue.beating():
                cached = _work(splits, queue, free, joined)
        except BaseException as error:  # also Ctrl-C: what was not finished is there for whoever goes on
            if not storage.lost(error):
                queue.put_back()
            raise
        if joined:
            return None
        return _found(study, queue, cached or Cached(study.searched, splits) if free else None)


def _opened(splits: Splits, storage: Storage, name: str) -> optuna.Study:
    """The Optuna study of a search, which is made where there is none yet."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = splits.study
    mine = definition_on(study, splits.store, splits.store.protocol)
    with storage.gate():
        opened = optuna.create_study(
            storage=storage.optuna,
            study_name=name,
            direction=direction(study.objective),
            load_if_exists=True,
            pruner=pruner_for(study.pruner),
        )
        theirs = opened.user_attrs.get("definition")
        if theirs is None and not opened.trials:
            opened.set_user_attr("definition", mine)
            opened.set_user_attr("versions", {"optuna": optuna.__version__})
            return opened
    changed = list(changes(theirs or {}, mine))
    if changed:
        raise LabError(
            f"the study '{name}' in {storage.where} was begun with other settings, and trials of both cannot be "
            f"compared: {'; '.join(changed)}. Start a new one with --name NAME, or run it as it was"
        )
    return opened


def _work(splits: Splits, queue: Queue, free: bool, joined: bool) -> Cached | None:
    """Takes trials as long as there are any and time is left. Returns what trials without training are scored from."""
    study, cached = splits.study, None
    most = BATCH if free else 1 if hasattr(head_class(study.searched.head), "fit") else study.stack
    end, parent = time.monotonic() + (study.seconds or math.inf), os.getppid()
    with cli.bar(queue.target, f"search {study.name}", "trial", queue.counts().finished) as bar:
        while time.monotonic() < end:
            if joined and os.getppid() != parent:
                break  # whom it helped is gone
            trials = queue.take(most)
            if trials and not free:
                _train(splits, trials, queue)
            elif trials:
                cached = cached or Cached(study.searched, splits)
                for trial in trials:
                    metrics = cached.metrics(trial.params)
                    queue.finish(trial, quality(metrics, study.objective), {"metrics": metrics})
            _show(study, queue, bar)
            if not trials:
                counts = queue.counts()
                if joined or counts.finished >= queue.target or not counts.running:
                    break
                time.sleep(PAUSE_S)  # others are at the last ones; should they die, those are put back and taken here
        else:
            log.info("the time is over: %d of %d trials are finished", queue.counts().finished, queue.target)
    return cached


def _train(splits: Splits, trials: Sequence[Trial], queue: Queue) -> None:
    """Trains trials and finishes each as it ends: with its value, or None where it was pruned or diverged.

    ``seconds`` of a trial are its share of the time that had passed.
    """
    begun, study = time.perf_counter(), splits.study
    by_number = {trial.number: trial for trial in trials}

    def on_epoch(epoch: int, told: dict[int, dict[str, float]]) -> Collection[int]:
        return [number for number in told if _ends(by_number[number], epoch, quality(told[number], study.objective))]

    asked = {number: (study.searched.at(trial.params), None) for number, trial in by_number.items()}
    for number, ended in splits.fit_all(asked, on_epoch):
        told: dict[str, Any] = {"seconds": (time.perf_counter() - begun) / len(trials)}
        value = None
        if isinstance(ended, Fitted) and ended.setup.choose:
            try:
                ended = settle(ended.setup, splits, [ended])[0][0]
                told["after"] = ended.setup.after
            except LabError as error:
                ended = error
        if isinstance(ended, LabError):
            log.warning("trial %d: %s", number, ended)
            told["diverged"] = str(ended)
        elif ended is not None:
            told |= {"metrics": ended.metrics, "epoch": ended.run.kept["epoch"]}
            value = quality(ended.metrics, study.objective)
        queue.finish(by_number[number], value, told)


def _ends(trial: Trial, epoch: int, value: float) -> bool:
    """Tells Optuna of a trial's epoch, and whether the trial ends with it."""
    from optuna.exceptions import UpdateFinishedTrialError

    try:
        trial.report(value, epoch)
    except UpdateFinishedTrialError:  # it was put back, as this process seemed dead
        return True
    return trial.should_prune()


def _show(study: Study, queue: Queue, bar: Any) -> None:
    """Moves the bar of a search, which counts what other processes finish, too."""
    trials = queue.trials()
    bar.update(count(trials).finished - bar.n)
    if best := best_of(trials, study.objective):
        bar.set_postfix({f"best {study.objective}": f"{best.value:.4g}"})


def best_of(trials: list[FrozenTrial], objective: str) -> FrozenTrial | None:
    """The best trial that was trained to its end; the first of several that are level. None where there is none."""
    ended = [trial for trial in trials if trial.state.name == "COMPLETE" and trial.value is not None]
    return best_by(objective, ended, attrgetter("value")) if ended else None


def _found(study: Study, queue: Queue, cached: Cached | None) -> Found:
    trials = queue.trials()
    best = best_of(trials, study.objective)
    if best is None:
        said = [t.user_attrs["diverged"] for t in trials if "diverged" in t.user_attrs]
        raise LabError(
            f"none of {len(trials)} trials was completed{': the last said: ' + said[-1] if said else ''}: "
            "raise --trials, or narrow the ranges"
        )
    if queue.exhausted:
        log.info("all %d points of the space were tried", queue.points)
    setup = study.searched.with_after(best.params) if cached else study.searched.at(best.params)
    tied = tied_with(best, trials, cached, study.objective) if cached else None
    return Found(best, setup, trials, queue, tied)
