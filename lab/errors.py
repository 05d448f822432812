"""What a user did wrong, or what the machine lacks, said in one line: rule, value, remedy."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class LabError(Exception):
    """A failure that its message explains and tells how to mend.

    Commands print it as one line on stderr and exit with 2; a traceback is for bugs, and these are not.
    """

    def _render_traceback_(self) -> list[str]:
        """What IPython shows in a notebook in place of a traceback."""
        return [f"error: {self}"]


def first_line(error: BaseException) -> str:
    """The first line of what a library says, which may have twenty; its kind where it says nothing."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")


def unknown(kind: str, name: str, options: Iterable[str]) -> LabError:
    """The error for a name that is in no table: it suggests the nearest and lists all.

    >>> str(unknown("dataset", "mvsd", ["msvd", "msrvtt"]))
    "unknown dataset 'mvsd': did you mean 'msvd'? known: msvd, msrvtt"
    """
    known = list(options)
    near = difflib.get_close_matches(name.lower(), known, n=1, cutoff=0.5)
    hint = f": did you mean '{near[0]}'?" if near else ";"
    return LabError(f"unknown {kind} '{name}'{hint} known: {', '.join(known)}")
