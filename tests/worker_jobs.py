"""What the tests of the pool have its processes do; a module of its own, so that they import little."""

from __future__ import annotations

import os
import sys
import time
from typing import Any

import numpy as np


class OddError(Exception):
    """Pickles, but cannot be unpickled: its __init__ wants two arguments and args has one."""

    def __init__(self, one: str, two: str) -> None:
        super().__init__(one + two)


def job(item: Any) -> Any:
    """Does what the item says; lives in this importable module, as a job must."""
    kind, value = item if isinstance(item, tuple) else ("square", item)
    match kind:
        case "square":
            return value * value
        case "sleep":
            time.sleep(value)
            return value
        case "raise":
            raise ValueError(value)
        case "odd":
            raise OddError("a", "b")
        case "kill":
            os.kill(os.getpid(), value)
        case "exit":
            os._exit(value)
        case "lambda":
            return lambda: None
        case "array":
            size, mark = value
            mark.touch()
            return {"x": np.arange(size, dtype=np.float32), "text": b"jpeg"}
        case "pid":
            return os.getpid()
    return None


def modules_after(name: str, _item: int) -> list[str]:
    """The modules of the process once ``name`` is imported."""
    __import__(name)
    return sorted(sys.modules)
