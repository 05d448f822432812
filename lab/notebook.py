"""What a notebook begins with, a store and the heads that were trained on it, and tables that it can show."""

from __future__ import annotations

import copy
import html
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab import cli
from lab.choose import Candidate, plain_heads, trained_heads
from lab.errors import LabError
from lab.figures import style
from lab.figures.material import Material, NoData
from lab.reads import OPEN
from lab.runs.fitting import newest_runs
from lab.search import Hit, told
from lab.store import open_store
from lab.studies.compare import most_moved
from lab.training.task import head_for

# A library that a backbone imports misses a widget for its progress bars, which the lab draws as text.
warnings.filterwarnings("ignore", "IProgress not found")


def begin(
    store: str | Path, runs: str | Path | None = None, split: str | None = None, trust: Sequence[str] = ()
) -> Material:
    """A split of a store with the heads that need no training and the newest run of each head in ``runs``.

    Without ``split``: ``val``, or ``all`` in a store without splits; a held-out split must be asked for. One's own
    head is among them if ``trust`` names it, as in ``["my_head:MyHead"]``: its code is run. Says what was found. Raises
    ``LabError`` where there is no store, with the command that makes one.
    """
    path = Path(store)
    if not path.exists():
        raise LabError(
            f"there is no store {path}: `make demo` leaves one, `python -m lab.cache --dataset toy` makes it; "
            "or name one of yours in STORE"
        )
    opened = open_store(path)
    found = newest_runs(opened, Path(runs), trust=trust) if runs is not None else []
    split = split or next((name for name in ("val", *OPEN) if name in opened.splits), "val")
    heads = [*plain_heads(opened).values(), *trained_heads(opened, found, trust)]
    material = Material(opened, heads, split, command="notebook")
    cli.say(material.source())
    cli.say(f"heads: {', '.join(material.heads)}")
    if runs is not None and not found:
        cli.say(f"no trained head of {opened.name} in {runs}: python -m lab.train xpool --store {path}")
    return material


@dataclass(frozen=True)
class Table:
    """Rows under a header, as HTML in a notebook and as text elsewhere."""

    header: Sequence[str]
    rows: Sequence[Sequence[object]]

    def __str__(self) -> str:
        return cli.table(self.header, self.rows)

    def _repr_html_(self) -> str:
        def line(tag: str, cells: Sequence[object]) -> str:
            style = 'style="text-align:left"'  # notebooks set all of a table to the right
            return "<tr>" + "".join(f"<{tag} {style}>{html.escape(str(cell))}</{tag}>" for cell in cells) + "</tr>"

        return f"<table>{line('th', self.header)}{''.join(line('td', row) for row in self.rows)}</table>"


def changed(material: Material, before: str, after: str, most: int = 4) -> Table:
    """The captions whose video rises most from one head to another, and those whose video falls most.

    A caption's number is its row in the split: what notebooks call TEXT. Raises ``NoData`` where none moves.
    """
    first, second = (material.ranks(require(material, label)) for label in (before, after))
    shown = most_moved(first, second, most)
    if not shown:
        raise NoData(f"no caption changes its rank from {before} to {after}")
    rows = [[text, material.captions[text]["text"], f"{first[text]:g}", f"{second[text]:g}"] for text in shown]
    return Table(["TEXT", "caption", f"rank under {before}", f"rank under {after}"], rows)


def found(hits: Sequence[Hit]) -> Table:
    """What a search found."""
    rows = [[place, hit.video, f"{hit.score:.3f}", told(hit)] for place, hit in enumerate(hits, 1)]
    return Table(["", "video", "score", "seconds that the text looks at"], rows)


def studies(runs: str | Path) -> list[str]:
    """The names of the studies that have a result. Raises ``LabError`` where there are none."""
    names = sorted(file.parent.name for file in Path(runs).glob("*/result.json"))
    if not names:
        raise LabError(f"no study in {runs} has a result: `make demo` leaves two, `python -m lab.study` makes others")
    return names


# -- other heads -----------------------------------------------------------------------------------------------------


def top_k(material: Material, *values: int) -> Material:
    """The same split under top-k pooling of each of these k, untrained. Raises ``LabError`` for k beyond the frames."""
    store = material.store
    heads = {f"topk k={k}": head_for(store, "topk", {"top_k": k})[0] for k in values}
    return Material(store, heads, material.split, material.protocol, material.command)


def fusion_weights(material: Material, *values: float) -> Material:
    """The same split under the trained CMFI with each of these weights of the sound; 0 is deaf.

    Raises ``LabError`` where CMFI is not among the heads.
    """
    heads = []
    one = material.heads[require(material, "cmfi")]
    for value in values:
        head: Any = copy.deepcopy(one.head)
        head.fusion_weight = value
        heads.append(Candidate(head, f"cmfi w={value:g}", one.run, one.audio_level))
    return Material(material.store, heads, material.split, material.protocol, material.command)


def require(material: Material, name: str) -> str:
    """The label that is, or begins with, a head's name. Raises ``LabError`` where there is none."""
    for label in material.heads:
        if name in (label, style.head_of(label)):
            return label
    raise LabError(
        f"'{name}' is not among {', '.join(material.heads)}: python -m lab.train {name} --store {material.store.path}"
    )
