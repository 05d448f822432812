"""To a Ray cluster: how a process comes into one, and how it is told that the cluster went away."""

from __future__ import annotations

import atexit
import logging
import os
import secrets
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from lab.errors import LabError, first_line

log = logging.getLogger(__name__)

#: To start Ray here: it gives its own processes 15 s to start, and on a busy machine that is short.
_ATTEMPTS = 3
#: How often an encoder looks whether its cluster is there.
_LOOK_S = 5.0
#: How long Ray may take to leave a cluster.
_LEAVE_S = 10.0


@contextmanager
def connected(where: str, decoders: int | None = None) -> Iterator[Any]:
    """Ray, connected to the cluster at HOST:PORT, or to one of this machine alone (``local``) that ends with the body.

    ``decoders``: files that the latter decodes at once, at least. Raises ``LabError``.
    """
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    local = where == "local"
    if local:  # reached over the loopback interface alone, by who knows a word of this process
        ours = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "RAY_AUTH_MODE": "token"}
        os.environ |= {**ours, "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    try:
        ray = import_module("ray")
    except ImportError:
        raise LabError("--ray needs Ray: pip install 'retrieval-lab[ray]'") from None
    if where not in ("local", "auto") and not _answers(where):  # Ray would try for minutes
        raise LabError(f"--ray {where}: nobody is there: give HOST:PORT of `ray start --head`, or --ray alone")
    if ray.is_initialized():  # by a notebook, which keeps it
        yield ray
        return
    how: dict[str, Any] = {"address": where, "log_to_driver": False, "logging_level": "ERROR"}
    if local:
        cpus = max(os.cpu_count() or 1, (decoders or 0) + 1)
        how |= {"num_cpus": cpus, "include_dashboard": False, "_node_ip_address": "127.0.0.1"}
    with _quiet():
        for attempt in reversed(range(_ATTEMPTS if local else 1)):
            try:
                ray.init(**how)
                break
            except Exception as error:
                ray.shutdown()
                if not attempt:
                    remedy = (
                        "a busy machine is too slow for it"
                        if local
                        else f"the command runs on a machine of the cluster, and `ray start --address={where}` makes "
                        "this one such"
                    )
                    raise LabError(f"--ray {where}: {first_line(error)}: {remedy}") from None
        try:
            yield ray
        finally:
            _leave(ray)


@contextmanager
def _quiet() -> Iterator[None]:
    """Ray prints a paragraph to stdout for each process that dies, and no option of it says otherwise."""
    worker: Any = import_module("ray._private.worker")
    usual = getattr(worker, "print_to_stdstream", None)

    def say(data: dict[str, Any], **_: Any) -> None:
        for told in data["lines"]:
            log.debug("Ray: %s", told)

    worker.print_to_stdstream = say
    try:
        yield
    finally:
        worker.print_to_stdstream = usual


def _leave(ray: Any) -> None:
    """Ray's end, which waits for ever for a cluster that is cut off; then this process ends without it."""
    leaving = threading.Thread(target=ray.shutdown, daemon=True)
    leaving.start()
    leaving.join(_LEAVE_S)
    if leaving.is_alive():
        atexit.register(_end)  # what is registered last comes first: before Ray's own, which would wait, too


def _end() -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(2)


def gone(address: str) -> bool:
    """Whether nobody is at a cluster's address: within two seconds where that is told, within 17 if nothing is."""
    for attempt in range(3):
        time.sleep(0.5 * attempt)
        if _answers(address):
            return False
    return True


def end_without(address: str) -> None:
    """Ends this process when its cluster is gone. Ray does so after two minutes, for which its locks would be held."""
    while not gone(address):
        time.sleep(_LOOK_S)
    os._exit(1)


def _answers(address: str) -> bool:
    """Whether somebody listens at HOST:PORT."""
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=5.0):
            return True
    except (OSError, ValueError):
        return False
