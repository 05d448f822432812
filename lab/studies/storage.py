"""Where the trials of a search are kept, and a gate that lets one process at a time take new ones.

A path is a journal file, which processes of one machine share, or machines that share a file system. A URL
(``postgresql://...``) is any database that Optuna knows. The gate is a lock that dies with its holder, however that
ends: the kernel's file lock beside a journal, an advisory lock of a database that has them. Optuna's own journal lock
is a file, which after a SIGKILL stops everybody for 30 s, so the journal is guarded by a kernel lock, too.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from lab import cli
from lab.errors import LabError
from lab.studies.workers import locked

if TYPE_CHECKING:
    from optuna.storages import BaseStorage

log = logging.getLogger(__name__)

#: A machine that loses its power or its cable says nothing, and TCP waits two hours for it, in which a server keeps the
#: gate for it, and a process waits for its server. Here both ask after each other: given up after some 25 seconds.
_IDLE_S, _INTERVAL_S, _COUNT = 10, 5, 3
_PATIENCE_MS = 1000 * (_IDLE_S + _INTERVAL_S * _COUNT)
_ASK = {"keepalives_idle": _IDLE_S, "keepalives_interval": _INTERVAL_S, "keepalives_count": _COUNT,
        "tcp_user_timeout": _PATIENCE_MS, "connect_timeout": 10,
        "options": f"-c tcp_keepalives_idle={_IDLE_S} -c tcp_keepalives_interval={_INTERVAL_S} "
                   f"-c tcp_keepalives_count={_COUNT} -c tcp_user_timeout={_PATIENCE_MS}"}  # fmt: skip


@dataclass(frozen=True)
class Storage:
    """Optuna's storage, what a user calls it, and its gate, which waits until no other process is inside."""

    optuna: BaseStorage
    where: str
    gate: Callable[[], AbstractContextManager[object]]
    database: bool = False

    def __enter__(self) -> Storage:
        return self

    def __exit__(self, *_: object) -> None:
        """Closes its connections, if it is a database."""
        if self.database:
            held: Any = self.optuna
            held.remove_session()
            held.engine.dispose()

    def lost(self, error: BaseException) -> bool:
        """Whether an error says that the database is gone."""
        if not self.database:
            return False
        from optuna.exceptions import StorageInternalError
        from sqlalchemy.exc import SQLAlchemyError

        return isinstance(error, StorageInternalError | SQLAlchemyError)

    @contextmanager
    def reached(self) -> Iterator[None]:
        """A database that goes away meanwhile is a ``LabError``."""
        try:
            yield
        except BaseException as error:
            if self.lost(error):
                raise LabError(
                    f"the storage {self.where} went away ({type(error).__name__}): start it and run the same command"
                ) from None
            raise


def open_storage(where: str | Path) -> Storage:
    """The storage at a URL or in a journal file, which is made if it is not there.

    Raises ``LabError`` for what cannot be reached or read.
    """
    return _database(str(where)) if "://" in str(where) else _journal(Path(where))


# -- a journal file --------------------------------------------------------------------------------------------------


class _JournalLock:
    """What Optuna holds while it writes: a kernel lock. Whoever gets it cuts off a line that a killed writer left."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.held: IO[bytes] | None = None

    def acquire(self) -> bool:
        """Waits for the lock."""
        stream = self.file.with_name(self.file.name + ".write").open("ab")
        fcntl.flock(stream, fcntl.LOCK_EX)
        self.held = stream
        _cut_torn_line(self.file)
        return True

    def release(self) -> None:
        """Gives it back."""
        stream, self.held = self.held, None
        if stream is not None:
            stream.close()


def _cut_torn_line(file: Path) -> None:
    with file.open("ab+") as stream:
        end = stream.seek(0, os.SEEK_END)
        if not end:
            return
        stream.seek(end - 1)
        if stream.read(1) == b"\n":
            return
        stream.seek(0)
        whole = stream.read().rfind(b"\n") + 1
        log.warning("%s ends within a line, as after a kill: the line is cut off", file)
        stream.truncate(whole)


def _journal(file: Path) -> Storage:
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    if file.is_dir():
        raise LabError(f"{file} is a directory: --storage names a journal file, or a URL such as postgresql://...")
    file.parent.mkdir(parents=True, exist_ok=True)
    lock = _JournalLock(file)
    if file.exists():
        lock.acquire()
        lock.release()
    try:
        _check(file)
        opened = JournalStorage(JournalFileBackend(str(file), lock))  # type: ignore[arg-type]
    except (ValueError, KeyError, TypeError, AttributeError, AssertionError) as error:
        raise LabError(
            f"{file} is damaged, or no journal of Optuna ({type(error).__name__}: {_line(error)}): restore it from a "
            "copy, or delete it and the search begins anew"
        ) from None
    return Storage(opened, str(file), _gate_beside(file))


def _gate_beside(file: Path) -> Callable[[], AbstractContextManager[object]]:
    return partial(locked, file.with_name(file.name + ".gate"))


def _check(file: Path) -> None:
    """Raises ``ValueError`` for the first line that is none of Optuna's, which it would only meet later."""
    for number, line in enumerate(file.read_bytes().splitlines() if file.exists() else [], 1):
        try:
            fine = "op_code" in json.loads(line)
        except (ValueError, TypeError, RecursionError):
            fine = False
        if not fine:
            raise ValueError(f"line {number} is no entry")


# -- a database ------------------------------------------------------------------------------------------------------


def _database(url: str) -> Storage:
    from optuna.storages import RDBStorage
    from sqlalchemy import create_engine, make_url, text
    from sqlalchemy.exc import SQLAlchemyError
    from sqlalchemy.pool import NullPool

    # Where the database is gone Optuna tells so in ten lines, tries another way, and raises what we tell in one.
    logging.getLogger("optuna.storages._rdb.storage").setLevel(logging.ERROR)
    shown = cli.unsecret(url)
    try:
        known = make_url(url)
        libpq = known.get_backend_name() == "postgresql" and known.get_driver_name() in ("psycopg", "psycopg2")
        more = {key: value for key, value in _ASK.items() if libpq and key not in known.query}
        how = {"pool_pre_ping": True, "connect_args": more}
        opened = RDBStorage(url, engine_kwargs=how, skip_compatibility_check=False)
        engine = create_engine(url, poolclass=NullPool, connect_args=more)
    except (SQLAlchemyError, ImportError, ValueError, RuntimeError) as error:
        raise LabError(
            f"the storage {shown} cannot be reached ({_line(error)}): start it, install its driver, or leave --storage "
            "out for a journal file"
        ) from None
    kind = known.get_backend_name()
    if kind == "sqlite":
        log.warning("SQLite locks up where several processes write: leave --storage out for a journal file")
        return Storage(opened, shown, _gate_beside(Path(known.database or "study")), database=True)
    number = int.from_bytes(hashlib.sha256(b"lab.studies").digest()[:7], "big")
    named = f"GET_LOCK('lab.studies.{number}', -1)", f"RELEASE_LOCK('lab.studies.{number}')"
    locks = {"postgresql": (f"pg_advisory_lock({number})", f"pg_advisory_unlock({number})"), "mysql": named,
             "mariadb": named}  # fmt: skip
    if kind not in locks:
        raise LabError(f"the storage {shown} has no lock that this lab knows: use postgresql://, mysql:// or a journal")

    @contextmanager
    def advisory() -> Iterator[None]:
        lock, unlock = (text(f"SELECT {call}") for call in locks[kind])
        with engine.connect() as connection:
            connection.execute(lock)
            try:
                yield
            finally:
                connection.execute(unlock)

    return Storage(opened, shown, advisory, database=True)


def _line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines or [type(error).__name__])[0]
