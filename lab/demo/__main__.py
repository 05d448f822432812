"""``python -m lab.demo``: the page of a store and its heads, live on loopback, or as files."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from lab import cli
from lab.errors import LabError
from lab.reads import require_split
from lab.runs import RUNS
from lab.store.find import given_store, store_options

log = logging.getLogger(__name__)


def main(argv: Sequence[str] | None = None) -> int:
    """The command."""
    parser = cli.parser(
        "lab.demo",
        "Show a store and its heads in a browser: search by text or by video, with attention, sound and ranks.",
        "python -m lab.demo --dataset toy --runs studies/runs/heads-toy/runs",
    )
    add = parser.add_argument
    store_options(parser)
    add("--split", default=None, help="the videos that are shown (default: val; reads of a test split are logged)")
    add("--runs", type=Path, default=RUNS, help="directory of runs, searched with all below it (default: %(default)s)")
    add("--head", action="append", default=[], metavar="HEAD", help="show these heads or runs only; may be repeated")
    add("--root", type=Path, help="where the videos' files are (default: where the store's pass saw them)")
    add("--port", type=int, default=8765, help="the next free one from here on (default: %(default)s)")
    add("--export", type=Path, metavar="DIR", help="write the page as files that open from disk, and stop")
    add("--captions", type=int, default=12, help="how many captions an export shows (default: %(default)s)")
    add("--seed", type=int, default=0, help="which captions an export draws (default: %(default)s)")
    add("--clip", metavar="CLIP", help="the text tower, where the store does not say where its weights are")
    add("--trust", action="append", default=[], metavar="NAME", help="let a run use this class of your own")
    given = parser.parse_args(argv)
    lacking = [name for name in ("starlette", "uvicorn") if find_spec(name) is None]
    if lacking:
        raise LabError(f"the page needs {' and '.join(lacking)}: pip install 'retrieval-lab[demo]'")
    if not 1 <= given.port <= 65535:
        raise LabError(f"1 <= port <= 65535 must hold, got --port {given.port}")
    from lab.choose import training
    from lab.demo.answers import Answers  # after the check, because these import the server
    from lab.demo.export import export
    from lab.demo.files import Files
    from lab.demo.heads import menu, require_known
    from lab.demo.server import HOST, application, listen, serve, warm

    store = given_store(given)
    known = store.splits_of(given.protocol)
    split = given.split or next((name for name in ("val", "all") if name in known), known[0])
    require_split(store, split, given.protocol)
    made = menu(store, given.runs, given.trust, given.protocol)
    if given.head:
        keys = require_known(made, given.head)
        made.entries = {key: made.entries[key] for key in keys}
    if not any(entry.run for entry in made.entries.values()):
        log.info("no run on %s in %s: heads without training alone%s", store.path, given.runs, training(store))
    command = cli.typed("lab.demo", argv)
    answers = Answers(
        store, made, split, given.protocol, command=command, clip=given.clip, files=Files(store, given.root)
    )
    if given.export is not None:
        count = export(answers, given.export, list(made.entries), given.captions, given.seed)
        cli.say(f"{count} captions under {len(made.entries)} heads: open {given.export / 'index.html'}")
        return 0
    if links := answers.files.told_of_links(answers.rows.tolist()):
        log.warning("%s", links)
    at = listen(given.port)
    warm(answers)
    cli.say(f"http://{HOST}:{at.getsockname()[1]}/    {store.path}, split '{split}'; Ctrl-C stops it")
    sys.stdout.flush()
    serve(application(answers), at)
    return 0


if __name__ == "__main__":
    sys.exit(cli.run(main))
