"""Processes that share a search through a real PostgreSQL, started here; skipped where there is none."""

from __future__ import annotations

import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import optuna
import pytest
from forked import start_study
from postgres import await_server, database

from lab.studies.queue import Queue
from lab.studies.space import Range
from lab.studies.storage import open_storage
from lab.studies.workers import me

STUDY = """
kind = "search"
head = "softmax"
sampler = "random"
[search]
temperature = { log = [1e-3, 1.0] }
"""


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """The URL of a fresh server that listens on a socket of its own."""
    with database() as (serve, folder, quiet):
        settings = ["-c", "listen_addresses=", "-c", f"unix_socket_directories={folder}"]
        running = subprocess.Popen([*serve, *settings], **quiet)
        try:
            url = f"postgresql+psycopg://postgres@/postgres?host={folder}"
            await_server(folder, running)
            yield url
        finally:
            running.send_signal(signal.SIGINT)  # its fast way to stop: it does not wait for clients
            running.wait()


def test_dead_processes_and_the_gate(server: str) -> None:
    with open_storage(server) as storage:
        study = optuna.create_study(storage=storage.optuna, study_name="queue")
        space = {"x": Range("float", 0.0, 1.0)}
        one, other = (Queue(study, storage, space, sampler="auto", seed=0, target=4) for _ in range(2))
        lost = one.take(1)[0]
        lost.set_user_attr("owner", {**me(), "pid": 2**22 + 1})
        taken = other.take(9)
        assert len(taken) == 4
        assert taken[0].params == lost.params
        for trial in taken:
            other.finish(trial, 1.0, {})
        one.finish(lost, 0.0, {})
        assert other.counts().finished == 4
        assert one.take(1) == []


@pytest.mark.parametrize("workers", [2, 4])
def test_workers_on_a_database_end_with_what_was_asked(server: str, full: Path, tmp_path: Path, workers: int) -> None:
    shutil.copytree(full, tmp_path / "toy.zarr")
    (tmp_path / "mine.toml").write_text(STUDY)
    name = f"of{workers}"
    own = ["--store", str(tmp_path / "toy.zarr"), "--runs", str(tmp_path / "runs"), "--name", name, "--no-test"]
    more = ["--storage", server, "--trials", "60"]
    command, told = [str(tmp_path / "mine.toml"), *own, *more], tmp_path / "told.txt"
    running = [start_study(command, told, workers) for _ in range(workers)]
    for process in running:
        process.join(240)
        assert process.exitcode == 0, told.read_text()
    with open_storage(server) as storage:
        trials = optuna.load_study(study_name=name, storage=storage.optuna).trials
    assert [trial.state.name for trial in trials] == ["COMPLETE"] * 60
    assert len({trial.user_attrs["owner"]["pid"] for trial in trials}) > 1
