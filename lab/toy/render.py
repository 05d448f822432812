"""A world of toy clips as files: ``python -m lab.toy.render --world 1 --root data/toy-1`` makes one.

The command is for development worlds; ``python -m lab.cache --dataset toy`` renders the release world by itself. What
is there already is not rendered again, so a render that was killed goes on.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from lab import cli
from lab.errors import LabError
from lab.toy.film import render_to
from lab.toy.sprites import sprite
from lab.toy.world import RELEASE, SPLITS, VERSION, world
from lab.workers import DecodePool, WorkerError

LONGEST_S = 600.0  # for one clip, which takes a second


def read_world(root: Path) -> tuple[int, dict[str, int]]:
    """Which world a folder holds, and how many clips of each split; the whole release world where it says nothing.

    Raises ``LabError`` for a world of another version, whose clips would not fit these captions.
    """
    file = root / "world.json"
    if not file.exists():
        return RELEASE, dict(SPLITS)
    try:
        said = json.loads(file.read_text(encoding="utf-8"))
        version, number, sizes = said["version"], int(said["world"]), {k: int(said["sizes"][k]) for k in SPLITS}
    except (ValueError, KeyError, TypeError) as error:
        raise LabError(
            f"{file} does not tell which world it is ({error}): delete the folder, it is made again"
        ) from None
    if version != VERSION:
        raise LabError(
            f"{root} holds version {version} of the toy world and this lab makes {VERSION}: delete the folder, "
            "or give another --root"
        )
    return number, sizes


def render_world(
    root: Path, number: int | None = None, sizes: Mapping[str, int] | None = None, workers: int = 0
) -> int:
    """Renders what ``root`` lacks of a world, by default the one that it holds; returns how many clips that was.

    Raises ``LabError`` where the folder holds another world already.
    """
    asked = (RELEASE if number is None else number, {**SPLITS, **(sizes or {})})
    if (root / "world.json").exists():
        held = read_world(root)
        if number is not None and held != asked:
            raise LabError(f"{root} holds world {held[0]} with {held[1]} clips already: give another --root")
        asked = held
    lacking = [clip for clip in world(*asked) if not (root / f"{clip.id}.mp4").exists()]
    if not lacking:
        return 0
    sprite("dog")  # a missing package is one line here, not a traceback out of a worker
    root.mkdir(parents=True, exist_ok=True)
    for leftover in root.glob("*.part.mp4"):
        with suppress(OSError):
            leftover.unlink()
    (root / "world.json").write_text(json.dumps({"version": VERSION, "world": asked[0], "sizes": asked[1]}) + "\n")
    workers = workers or os.cpu_count() or 1
    with (
        DecodePool(workers, render_to, deadline_s=LONGEST_S) as pool,
        cli.bar(len(lacking), "rendering the toy world", "clip") as bar,
    ):
        for (clip, _), made in pool.run([(clip, root / f"{clip.id}.mp4") for clip in lacking], ahead=4 * workers):
            if isinstance(made, WorkerError):
                raise LabError(f"clip {clip.id} was not rendered ({made}): run the same command again")
            if isinstance(made, Exception):
                raise made
            bar.update()
    return len(lacking)


def main(argv: Sequence[str] | None = None) -> int:
    """The command."""
    parser = cli.parser(
        "lab.toy.render",
        "Render a world of toy clips. World 0 is the release, 1 to 99 are for development.",
        "python -m lab.toy.render --world 1 --root data/toy-1",
    )
    parser.add_argument("--world", type=int, default=RELEASE, help="which world (default: %(default)s)")
    parser.add_argument("--root", type=Path, help="folder to write into (default: data/toy)")
    for split, count in SPLITS.items():
        parser.add_argument(f"--{split}", type=int, default=count, help=f"clips of {split} (default: %(default)s)")
    parser.add_argument("--workers", type=int, default=0, help="processes (default: one a core)")
    given: dict[str, Any] = vars(parser.parse_args(argv))
    for split in SPLITS:
        if not 1 <= given[split] <= SPLITS[split]:
            raise LabError(f"1 <= --{split} <= {SPLITS[split]} must hold, got {given[split]}")
    root = given["root"] or Path("data") / "toy"
    made = render_world(root, given["world"], {split: given[split] for split in SPLITS}, given["workers"])
    cli.say(f"{made} clips rendered into {root}: cache them with python -m lab.cache --dataset toy --root {root}")
    return 0


if __name__ == "__main__":
    sys.exit(cli.run(main, goes_on=True))
