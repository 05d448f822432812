"""A precomputed-feature lab for text-video retrieval.

    videos + captions ──► media ──► backbones ──► FEATURE STORE ──► heads ──► similarity ──► ranks, R@k
       datasets           decode     frozen        zarr + passport   light     texts × videos   metrics

Frozen networks run once over a collection and leave a store (``python -m lab.cache``); everything after that reads the
store. What is named here is the public part of the second half, and imports no codec and no backbone; files of the lab
are attributes, too (``lab.figures.Material``), and imported where they are first named.
"""

import sys
from importlib import import_module
from itertools import pairwise
from pkgutil import iter_modules
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lab.embeddings import RaggedWords, Texts, Videos
    from lab.errors import LabError
    from lab.heads import HEADS, build_head
    from lab.metrics import retrieval_metrics, v2t_metrics
    from lab.reads import load_split
    from lab.runs import load_run
    from lab.search import search
    from lab.significance import bootstrap_interval, paired_test
    from lab.similarity import similarity_matrix
    from lab.store import Store, open_store
    from lab.training.recipe import Recipe

__all__ = [
    "HEADS",
    "LabError",
    "RaggedWords",
    "Recipe",
    "Store",
    "Texts",
    "Videos",
    "bootstrap_interval",
    "build_head",
    "load_run",
    "load_split",
    "open_store",
    "paired_test",
    "retrieval_metrics",
    "search",
    "similarity_matrix",
    "v2t_metrics",
]

_HOMES = {
    "HEADS": "lab.heads",
    "LabError": "lab.errors",
    "RaggedWords": "lab.embeddings",
    "Recipe": "lab.training.recipe",
    "Store": "lab.store",
    "Texts": "lab.embeddings",
    "Videos": "lab.embeddings",
    "bootstrap_interval": "lab.significance",
    "build_head": "lab.heads",
    "load_run": "lab.runs",
    "load_split": "lab.reads",
    "open_store": "lab.store",
    "paired_test": "lab.significance",
    "retrieval_metrics": "lab.metrics",
    "search": "lab.search",
    "similarity_matrix": "lab.similarity",
    "v2t_metrics": "lab.metrics",
}


def __getattr__(name: str) -> Any:
    # On demand, because a decode process imports lab.media and with it this file: torch would cost it two seconds.
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    try:
        return import_module(f"lab.{name}")
    except ModuleNotFoundError as error:
        if error.name != f"lab.{name}":  # the file is there, and what it needs is not
            raise
    raise AttributeError(f"module 'lab' has no attribute '{name}'")


def _interrupted(otherwise: Any) -> Any:
    """An ``excepthook`` to which Ctrl-C is one line and exit code 130, and all else is left to the one before."""

    def hook(kind: Any, value: Any, trace: Any) -> None:
        if issubclass(kind, KeyboardInterrupt):
            sys.stderr.write("interrupted\n")
            sys.exit(130)
        otherwise(kind, value, trace)

    return hook


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *(found.name for found in iter_modules(__path__))})


# ``-m`` is what Python calls itself while ``python -m lab.X`` imports this package. The imports of a command take
# seconds, and until they are done ``lab.cli.run`` cannot catch anything.
if sys.argv[:1] == ["-m"] and ("-m", "lab.") in ((word, next_[:4]) for word, next_ in pairwise(sys.orig_argv)):
    sys.excepthook = _interrupted(sys.excepthook)
