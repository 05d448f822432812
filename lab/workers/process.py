"""What runs in a process of the pool: items in, results out, over a socket; and an end when the parent ends.

Imports little, because every process of the pool does.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import pickle
import signal
import socket
import struct
import sys
import threading
import time
from typing import Any

#: Workers give way to the process that uses their results: on shared cores a network's threads wait for each other, so
#: a decoder that takes half a core from one of them holds up all.
NICE = 10


class WorkerError(Exception):
    """Why an item has no result although the job itself raised nothing: its process died or had to be ended."""


# -- messages: a count, the sizes, the parts; the first part is a pickle, the others are the bytes of its arrays ------


def write(pipe: socket.socket, parts: list[Any]) -> None:
    views = [memoryview(part).cast("B") for part in parts]
    pipe.sendall(struct.pack(f"<I{len(views)}Q", len(views), *(view.nbytes for view in views)))
    for view in views:
        pipe.sendall(view)


def read(pipe: socket.socket, until: float | None = None) -> list[bytearray]:
    """One message; TimeoutError when its last byte is not there at ``until`` (monotonic), OSError at the end."""
    (count,) = struct.unpack("<I", _exactly(pipe, 4, until))
    sizes = struct.unpack(f"<{count}Q", _exactly(pipe, 8 * count, until))
    return [_exactly(pipe, size, until) for size in sizes]


def _exactly(pipe: socket.socket, size: int, until: float | None) -> bytearray:
    buffer = bytearray(size)
    view = memoryview(buffer)
    while view:
        if until is not None:
            pipe.settimeout(max(until - time.monotonic(), 1e-3))
        got = pipe.recv_into(view)
        if got == 0:
            raise ConnectionResetError("the other end is gone")
        view = view[got:]
    return buffer


# -- the process ------------------------------------------------------------------------------------------------------


def serve(fd: int, parent: int) -> None:
    """The life of a worker process: the job, then one item after the other until the pipe closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _die_with(parent)
    os.nice(NICE)
    pipe = socket.socket(fileno=fd)
    try:
        job = pickle.loads(read(pipe)[0])  # noqa: S301 - from our own parent
        _reply(pipe, True, None)
    except Exception as error:  # the job's module cannot be imported here
        _reply(pipe, False, error)
        return
    with contextlib.suppress(ConnectionError):
        while True:
            message = read(pipe)[0]
            try:
                succeeded, value = True, job(pickle.loads(message))  # noqa: S301 - from our own parent
            except Exception as error:
                succeeded, value = False, error
            _reply(pipe, succeeded, value)


def _reply(pipe: socket.socket, succeeded: bool, value: Any) -> None:
    """Send an outcome, its arrays beside the pickle: their bytes are copied into the pipe once and out once."""
    buffers: list[pickle.PickleBuffer] = []
    try:
        head = pickle.dumps((succeeded, value), protocol=5, buffer_callback=buffers.append)
        if not succeeded:
            pickle.loads(head)  # noqa: S301 - an exception whose arguments differ from its __init__'s fails only here
    except Exception:
        buffers = []
        head = pickle.dumps((False, WorkerError(f"{type(value).__name__}: {value}")), protocol=5)
    write(pipe, [head, *(buffer.raw() for buffer in buffers)])


def _die_with(parent: int) -> None:
    """End this process when the parent ends, even where it is deep in a decoder and reads no pipe."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG; the thread it watches lives as long as the pool
    threading.Thread(target=end_with, args=(parent,), daemon=True).start()


def end_with(parent: int) -> None:
    """Ends this process when its parent has: elsewhere than on Linux, or when that died before we asked."""
    while os.getppid() == parent:
        time.sleep(1.0)
    os._exit(1)
