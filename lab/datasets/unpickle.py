"""Plain data out of a pickle without Python's unpickler: a stack machine that knows no opcode that could run something.

``pickle.Unpickler`` with ``find_class`` closed runs nothing either, but a few hostile bytes still make it reserve
gigabytes for its memo. ``pickletools.genops`` only parses, and what is left to do for dicts and lists is short.
"""

from __future__ import annotations

import pickletools
from typing import Any

_MARK = object()
_SKIPPED = {"PROTO", "FRAME"}
_VALUES = {
    *("STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
}
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_EMPTY = {"EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_TUPLE": tuple}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


class NotPlainError(ValueError):
    """The pickle asks for more than dicts, lists, tuples, numbers and strings; the message names what."""


def plain(data: bytes) -> Any:
    """What a pickle holds. Raises NotPlainError where it asks for a global, and any other error where it is damaged."""
    stack: list[Any] = []
    memo: dict[Any, Any] = {}
    for opcode, argument, _ in pickletools.genops(data):
        name = opcode.name
        if name in _VALUES:
            stack.append(argument)
        elif name in {"MEMOIZE", "PUT", "BINPUT", "LONG_BINPUT"}:
            memo[len(memo) if name == "MEMOIZE" else argument] = stack[-1]
        elif name in {"GET", "BINGET", "LONG_BINGET"}:
            stack.append(memo[argument])
        elif name == "STOP":
            return stack.pop()
        elif name not in _SKIPPED:
            _build(name, argument, stack)
    raise ValueError("it has no end")


def _build(name: str, argument: Any, stack: list[Any]) -> None:
    """One opcode that makes or fills a container."""
    if name == "MARK":
        stack.append(_MARK)
    elif name in _CONSTANTS:
        stack.append(_CONSTANTS[name])
    elif name in _EMPTY:
        stack.append(_EMPTY[name]())
    elif name in _TUPLES:
        stack[-_TUPLES[name] :] = [tuple(stack[-_TUPLES[name] :])]
    elif name == "APPEND":
        stack[-2].append(stack.pop())
    elif name == "SETITEM":
        key, value = stack[-2:]
        del stack[-2:]
        stack[-1][key] = value
    elif name in {"APPENDS", "LIST", "TUPLE", "SETITEMS", "DICT"}:
        items = _above_mark(stack)
        if name in {"LIST", "TUPLE"}:
            stack.append(items if name == "LIST" else tuple(items))
        elif name == "APPENDS":
            stack[-1].extend(items)
        else:
            pairs = dict(zip(items[::2], items[1::2], strict=True))
            stack.append(pairs) if name == "DICT" else stack[-1].update(pairs)
    else:
        wanted = stack[-2:] if name == "STACK_GLOBAL" else str(argument).split(" ")
        asked = ".".join(map(str, wanted)) if name in {"GLOBAL", "INST", "STACK_GLOBAL"} else f"the opcode {name}"
        raise NotPlainError(asked)


def _above_mark(stack: list[Any]) -> list[Any]:
    """Take off what was pushed since the last mark, and the mark."""
    place = len(stack) - 1
    while stack[place] is not _MARK:
        place -= 1
        if place < 0:
            raise ValueError("it has no mark")
    items = stack[place + 1 :]
    del stack[place:]
    return items
