"""Taking trials so that exactly as many are finished as were asked for, whoever takes part and however they end.

A process takes trials inside the storage's gate: it puts back what dead processes left running, counts what is finished
or running, and takes no more than are missing. Each trial says who runs it. On the same machine a process is looked up
by its number and its start; of one on another machine only its beat is known, which it repeats as long as it lives.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from lab.errors import LabError
from lab.studies.sampling import sampler_for
from lab.studies.space import MANY, Range, size
from lab.studies.storage import Storage
from lab.studies.workers import alive, me

if TYPE_CHECKING:
    import optuna
    from optuna.trial import FrozenTrial, Trial

#: Seconds between two beats.
BEAT_S = 30.0


class Counts(NamedTuple):
    """How many trials of a search are finished, and how many are being worked on."""

    finished: int
    running: int


class Queue:
    """The trials of one Optuna study, for one process that takes part in it.

    Raises ``LabError`` where each point of an endless space is to be tried.
    """

    def __init__(
        self,
        study: optuna.Study,
        storage: Storage,
        space: Mapping[str, Range],
        *,
        sampler: str,
        seed: int,
        target: int,
    ) -> None:
        self.study, self.storage, self.space = study, storage, space
        self.sampler, self.seed = sampler, seed
        self.points = size(space)
        if sampler == "each" and self.points is None:
            raise LabError(
                "sampler=each must have ranges that can be tried one by one (int, choice, or a step) and at most "
                f"{MANY} points, got {'; '.join(f'{key}: {each}' for key, each in space.items())}: take sampler=auto"
            )
        #: Whether each point is taken once. All other samplers draw with replacement.
        self.once = sampler == "each" or (sampler == "auto" and self.points is not None and self.points <= target)
        #: How many trials there will be: as many as were asked for, or as there are points to take.
        self.target = min(target, self.points or target) if self.once else target
        self.mine: dict[int, Trial] = {}
        self._distributions = {key: each.distribution() for key, each in space.items()}

    @property
    def exhausted(self) -> bool:
        """Whether all points of the space have a value. Those of trials that were pruned or diverged have none."""
        done = [trial.params for trial in self.trials() if trial.state.name == "COMPLETE"]
        return self.points is not None and len({tuple(at.get(key) for key in self.space) for at in done}) >= self.points

    def trials(self) -> list[FrozenTrial]:
        """All trials, as they are in the storage now."""
        return self.study.get_trials(deepcopy=False)

    def take(self, most: int = 1) -> list[Trial]:
        """Up to so many trials to work on, with their settings; none where enough are finished or running."""
        with self.storage.gate():
            self._put_back_dead()
            trials = self.trials()
            room = min(most, self.target - sum(count(trials)))
            taken = []
            for number in range(len(trials), len(trials) + max(0, room)):
                # Its seed is the trial's own, so that a search that was interrupted goes on as if it had not been.
                self.study.sampler = sampler_for(self.sampler, self.space, self.once, self.seed, number)
                trial = self.study.ask(self._distributions)
                trial.set_user_attr("owner", me())
                self.mine[trial.number] = trial
                taken.append(trial)
        return taken

    def finish(self, trial: Trial, value: float | None, told: Mapping[str, Any]) -> None:
        """Ends a trial with its value, or pruned where that is None.

        One that somebody put back meanwhile, who took this process for dead, stays as it is.
        """
        from optuna.exceptions import UpdateFinishedTrialError
        from optuna.trial import TrialState

        state = TrialState.PRUNED if value is None else TrialState.COMPLETE
        try:
            for key, what in told.items():
                trial.set_user_attr(key, what)
            self.study.tell(trial, value, state)
        except (UpdateFinishedTrialError, ValueError):  # ValueError: "Cannot tell a FAIL trial"
            if not self.study.get_trials(deepcopy=False)[trial.number].state.is_finished():
                raise
        self.mine.pop(trial.number, None)

    def put_back(self) -> None:
        """Gives back what this process has taken and not finished."""
        with self.storage.gate():
            for number in list(self.mine):
                self._put_back(self.study.get_trials(deepcopy=False)[number])

    def counts(self) -> Counts:
        """How far the search is."""
        return count(self.trials())

    @contextmanager
    def beating(self) -> Iterator[None]:
        """Lets other machines know that this process lives, as long as it is in here."""
        from optuna.exceptions import UpdateFinishedTrialError

        def beat() -> None:
            for trial in list(self.mine.values()):
                with suppress(UpdateFinishedTrialError):  # it has just ended
                    trial.set_user_attr("beat", time.time())

        with self._every(BEAT_S, beat):
            yield

    @contextmanager
    def final(self) -> Iterator[Mapping[str, Any] | None]:
        """Claims the final step, which one process does; gives who does it if that is another one, otherwise None."""

        def claim() -> None:
            self.study.set_user_attr("final", {"owner": me(), "beat": time.time()})

        with self.storage.reached(), self.storage.gate():
            held = self.study.user_attrs.get("final") or {}
            owner = held.get("owner")
            taken = owner and owner != me() and alive(owner, held["beat"])
            if not taken:
                claim()
        if taken:
            yield owner
            return
        try:
            with self._every(BEAT_S, claim):
                yield None
        finally:  # a claim that cannot be given back ends with this process
            with self._unless_lost():
                self.study.set_user_attr("final", {})

    @contextmanager
    def _every(self, seconds: float, action: Callable[[], None]) -> Iterator[None]:
        over = threading.Event()

        def repeat() -> None:
            while not over.wait(seconds):
                with self._unless_lost():
                    action()

        thread = threading.Thread(target=repeat, daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    @contextmanager
    def _unless_lost(self) -> Iterator[None]:
        """What may be left undone where the storage went away: whoever needs it next will say so."""
        try:
            yield
        except Exception as error:
            if not self.storage.lost(error):
                raise

    def _put_back_dead(self) -> None:
        for trial in self.trials():
            if trial.state.name == "RUNNING" and trial.number not in self.mine:
                owner = trial.user_attrs.get("owner")
                since = trial.datetime_start.timestamp() if trial.datetime_start else 0.0
                # Without an owner it was left inside the gate, where nobody else is now.
                if owner is None or not alive(owner, trial.user_attrs.get("beat", since)):
                    self._put_back(trial)

    def _put_back(self, trial: FrozenTrial) -> None:
        from optuna.trial import TrialState

        self.mine.pop(trial.number, None)
        if trial.state.is_finished():
            return
        self.study.tell(trial.number, state=TrialState.FAIL)
        if trial.params.keys() == self.space.keys():
            self.study.enqueue_trial(trial.params, user_attrs={"put_back": trial.number})


def count(trials: Sequence[FrozenTrial]) -> Counts:
    """Counts trials. A pruned one is finished: it was asked for, and it answered."""
    names = [trial.state.name for trial in trials]
    return Counts(names.count("COMPLETE") + names.count("PRUNED"), names.count("RUNNING"))
