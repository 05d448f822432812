"""The pool of decode processes: order, crashes, hangs, interrupts, and the parent's death."""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from worker_jobs import job, modules_after

from lab.errors import LabError
from lab.workers import DecodePool, WorkerCrash, WorkerTimeout

HERE = Path(__file__).resolve().parent


def alive(pid: int) -> bool:
    """Whether a process runs still; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def until(condition: Any, seconds: float = 60.0) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.02)
    return False


@pytest.fixture(scope="module")
def pool() -> Any:
    with DecodePool(2, job, deadline_s=120.0) as made:
        yield made


def test_results_come_in_the_order_of_the_items(pool):
    items = [("sleep", 0.2), 3, ("sleep", 0.05), *range(20)]
    assert list(pool.run(items, ahead=6)) == list(zip(items, [0.2, 9, 0.05, *(i * i for i in range(20))], strict=True))


def test_no_more_than_ahead_items_are_taken_and_an_endless_source_is_fine(pool):
    taken = itertools.count()
    drawn = []

    def source():
        for i in taken:
            drawn.append(i)
            yield i

    run = pool.run(source(), ahead=3)
    for k in range(5):
        assert next(run) == (k, k * k)
        assert len(drawn) <= k + 3
    run.close()
    assert list(pool.run([7], ahead=1)) == [(7, 49)]  # nothing of the abandoned run surfaces


def test_an_exception_of_the_job_is_the_items_result_and_no_more(pool):
    results = dict(
        enumerate(r for _, r in pool.run([2, ("raise", "rule, value"), ("odd", 0), ("lambda", 0), 3], ahead=5))
    )
    assert (results[0], results[4]) == (4, 9)
    assert isinstance(results[1], ValueError)
    assert str(results[1]) == "rule, value"
    assert str(results[2]) == "OddError: ab"
    assert "lambda" in str(results[3])


@pytest.mark.parametrize(
    ("item", "said"),
    [
        (("kill", signal.SIGSEGV), "killed by SIGSEGV"),
        (("kill", signal.SIGKILL), "killed by SIGKILL"),
        (("exit", 3), "exited with code 3"),
        (("exit", 0), "exited with code 0"),
    ],
)
def test_a_crash_costs_its_item_alone(pool, item, said):
    before = set(pool.pids)
    results = [r for _, r in pool.run([1, item, 2, 3, 4], ahead=4)]
    assert isinstance(results[1], WorkerCrash)
    assert str(results[1]) == f"the worker process was {said}" or str(results[1]) == f"the worker process {said}"
    assert [results[0], *results[2:]] == [1, 4, 9, 16]
    assert len(before & set(pool.pids)) <= 1


def test_a_hang_is_ended_at_the_deadline():
    with DecodePool(2, job, deadline_s=5.0) as pool:
        list(pool.run(range(2), ahead=2))
        began = time.monotonic()
        results = [r for _, r in pool.run([1, ("sleep", 600), 3, 4], ahead=2)]
        assert time.monotonic() - began < 120  # of 600
        assert isinstance(results[1], WorkerTimeout)
        assert isinstance(results[1], TimeoutError)
        assert str(results[1]) == "no result after 5 s: the worker process was ended"
        assert (results[0], *results[2:]) == (1, 9, 16)


def test_results_are_fetched_while_the_caller_is_busy(pool, tmp_path):
    run = pool.run([("array", (2_000_000, tmp_path / str(i))) for i in range(6)], ahead=6)
    next(run)
    # 8 MB each is more than a socket holds: the processes get to the last item only if somebody reads meanwhile
    assert until(lambda: len(list(tmp_path.iterdir())) == 6)
    rest = [result for _, result in run]
    assert all(np.array_equal(r["x"], np.arange(2_000_000, dtype=np.float32)) and r["text"] == b"jpeg" for r in rest)
    rest[0]["x"][0] = 5  # writable, like any array


def test_the_real_job_brings_no_torch():
    with DecodePool(1, functools.partial(modules_after, "lab.media"), deadline_s=60.0) as pool:
        (_, modules), *_ = pool.run([0], ahead=1)
    assert "lab.media" in modules
    assert not {"torch", "polars", "open_clip", "zarr"} & set(modules)


def test_workers_are_deaf_to_interrupts(pool):
    pids = [r for _, r in pool.run([("pid", 0)] * 2, ahead=2)]
    for pid in pids:
        os.kill(pid, signal.SIGINT)
    assert [r for _, r in pool.run(range(4), ahead=4)] == [0, 1, 4, 9]
    assert set(pids) & set(pool.pids) == set(pids)


def test_a_worker_killed_while_idle_is_replaced_without_loss(pool):
    list(pool.run(range(4), ahead=4))
    for pid in pool.pids:
        os.kill(pid, signal.SIGKILL)
    assert until(lambda: not pool.pids)
    assert [r for _, r in pool.run(range(4), ahead=4)] == [0, 1, 4, 9]


def test_close_is_prompt_and_leaves_no_process():
    pool = DecodePool(2, job, deadline_s=600.0)
    list(pool.run(range(2), ahead=2))
    run = pool.run([("sleep", 600)] * 5, ahead=5)
    assert until(lambda: len(pool.pids) == 2)  # one process may have done both items before the other started
    pids = pool.pids
    threading.Timer(0.3, pool.close).start()
    began = time.monotonic()
    with contextlib.suppress(RuntimeError):
        list(run)
    assert time.monotonic() - began < 120  # of 600
    assert until(lambda: not any(alive(pid) for pid in pids))
    pool.close()


PARENT = """
import sys, time
sys.path[:0] = {path!r}
from worker_jobs import job
from lab.workers import DecodePool
pool = DecodePool(2, job, deadline_s=600.0)
list(pool.run([("sleep", 0.3)] * 2, ahead=2))
print(*pool.pids, flush=True)
for _ in pool.run([("sleep", 600)] * 2, ahead=2):
    pass
"""


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_workers_die_with_the_parent(how):
    code = PARENT.format(path=[str(HERE), str(HERE.parent)])
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as parent:
        pids = {int(pid) for pid in parent.stdout.readline().split()}
        time.sleep(0.2)
        assert pids
        assert all(alive(pid) for pid in pids)
        parent.send_signal(how)
        parent.wait(60)
        assert until(lambda: not any(alive(pid) for pid in pids))


def test_what_a_pool_needs_is_said():
    with pytest.raises(LabError, match=r"`workers >= 1` must hold, got 0"):
        DecodePool(0, job, deadline_s=1.0)
    with pytest.raises(LabError, match=r"`deadline_s > 0` must hold, got 0"):
        DecodePool(1, job, deadline_s=0)


def test_a_job_that_a_process_cannot_import_fails_its_items():
    with DecodePool(1, functools.partial(job), deadline_s=60.0) as pool:
        assert list(pool.run([3], ahead=1)) == [(3, 9)]
    sys.modules["only_here"] = type(sys)("only_here")
    exec("def lost(item): return item", sys.modules["only_here"].__dict__)  # noqa: S102 - a module without a file
    with DecodePool(1, sys.modules["only_here"].lost, deadline_s=60.0) as pool:
        (_, error), *_ = pool.run([3], ahead=1)
    assert isinstance(error, ModuleNotFoundError)
    del sys.modules["only_here"]
