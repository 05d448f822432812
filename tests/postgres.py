"""A PostgreSQL for tests, ready to be started; where there is none they are skipped."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest


@contextmanager
def database(*trusted: str) -> Iterator[tuple[list[str], Path, dict[str, Any]]]:
    """A fresh one: the command that serves it (to be given more settings), its directory, how to start it.

    ``trusted``: networks from which anybody may come.
    """
    pytest.importorskip("psycopg", reason="psycopg, SQLAlchemy's driver of PostgreSQL, is not installed")
    initdb, postgres = _binary("initdb"), _binary("postgres")
    if initdb is None or postgres is None:
        pytest.skip("PostgreSQL is not installed (Debian: apt install postgresql)")
    options: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="pg", dir="/tmp") as folder:  # a socket's path must be short
        if os.geteuid() == 0:  # which PostgreSQL refuses
            try:
                shutil.chown(folder, "postgres")
            except LookupError:
                pytest.skip("there is no user 'postgres' to run the server as, and root may not")
            options["user"] = "postgres"
        quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": folder, **options}
        data = f"{folder}/data"
        subprocess.run([initdb, "-D", data, "-U", "postgres", "--auth=trust", "--no-sync"], check=True, **quiet)
        with Path(data, "pg_hba.conf").open("a") as stream:
            stream.writelines(f"host all all {place} trust\n" for place in trusted)
        yield [postgres, "-D", data, "-c", "fsync=off"], Path(folder), quiet


def await_server(folder: Path, running: subprocess.Popen[Any], within_s: float = 240.0) -> None:
    """Waits until a server that was started there takes connections, as it says in its directory."""
    end, told = time.monotonic() + within_s, folder / "data" / "postmaster.pid"
    while not (told.exists() and told.read_text().rstrip().endswith("ready")):
        assert running.poll() is None, "the server ended"
        assert time.monotonic() < end, "the server does not begin"
        time.sleep(0.02)


def _binary(name: str) -> str | None:
    places = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return shutil.which(name) or next((str(p / name) for p in places if (p / name).is_file()), None)
