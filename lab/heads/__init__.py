"""Heads: each weighs a video's frames by what a text asks for. One file a family, one table for all.

A head of your own is any ``torch.nn.Module`` class that takes ``dim`` and has ``forward(texts, videos)``; name it as
``"my_module:MyHead"`` wherever a head is named, and again with ``--trust`` where a file names it (a run, a study).
"""

from __future__ import annotations

import importlib
import inspect
import re
from typing import Any

from torch import nn

from lab.errors import LabError, unknown
from lab.heads.cmfi import CMFI
from lab.heads.mgfi import MGFI, SentenceFrame, WordFrame
from lab.heads.pooling import MeanPooling, SoftmaxPooling, TopKPooling
from lab.heads.temporal import SeqLSTM, SeqTransf
from lab.heads.xpool import XPool

HEADS: dict[str, type[nn.Module]] = {
    "mean": MeanPooling,
    "topk": TopKPooling,
    "softmax": SoftmaxPooling,
    "seqlstm": SeqLSTM,
    "seqtransf": SeqTransf,
    "xpool": XPool,
    "sf": SentenceFrame,
    "wf": WordFrame,
    "mgfi": MGFI,
    "cmfi": CMFI,
}


def build_head(name: str, dim: int = 512, **keywords: Any) -> nn.Module:
    """A head by its name in ``HEADS``, or one's own by ``"my_module:MyHead"``.

    Raises ``LabError`` with the nearest name for an unknown head or keyword, and for a module that has no such class.
    """
    head = head_class(name)
    if isinstance(dim, bool) or not isinstance(dim, int) or dim < 1:
        raise LabError(f"dim >= 1 must hold, a whole number, got dim={dim!r}")
    for keyword in keywords:
        if keyword not in (known := head_keywords(head)) and known != ANY:
            raise unknown(f"keyword of head '{name}'", keyword, known)
    return head(dim, **keywords)


#: The keywords of a class that takes ``**keywords``: no name can be judged.
ANY = ["..."]


def head_class(name: str) -> type[nn.Module]:
    """The class that a head's name stands for; ``LabError`` if there is none."""
    if ":" not in name:
        if name not in HEADS:
            raise unknown("head", name, HEADS)
        return HEADS[name]
    module_name, _, attribute = name.partition(":")
    try:
        found = getattr(importlib.import_module(module_name), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise LabError(f"no head '{name}' ({error}): it must name a class in a module that Python finds") from None
    if not (inspect.isclass(found) and issubclass(found, nn.Module)):
        raise LabError(f"'{name}' must be a class derived from torch.nn.Module, it is {found!r}")
    return found


def head_keywords(head: type[nn.Module]) -> list[str]:
    """Names of a head's keywords, ``dim`` left out; ``ANY`` if it takes whatever it is given."""
    parameters = list(inspect.signature(head.__init__).parameters.values())[2:]
    if any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters):
        return ANY
    return [parameter.name for parameter in parameters]


def head_settings(head: type[nn.Module]) -> dict[str, tuple[Any, str]]:
    """A head's keywords: the default of each (None if it must be given), and what it is ('' where nobody says).

    That stands in the docstring of the class, or of one that it is derived from, in lines of ``keyword``, two spaces
    or more and some words, which may go on below, indented.
    """
    told: dict[str, str] = {}
    for origin in reversed(head.__mro__):
        for row in _TOLD.finditer(inspect.cleandoc(vars(origin).get("__doc__") or "")):
            told[row[1]] = " ".join(row[2].replace("``", "").split()).rstrip(".")
    taken = inspect.signature(head.__init__).parameters
    return {
        name: (None if taken[name].default is inspect.Parameter.empty else taken[name].default, told.get(name, ""))
        for name in (head_keywords(head) if head_keywords(head) != ANY else [])
    }


_TOLD = re.compile(r"^``(\w+)``  +(\S.*(?:\n +.+)*)", re.MULTILINE)
