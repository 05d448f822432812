"""The page that tests look at: a small store with its heads, what answers for it, and a server of it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from searchable import HEADS, THINGS, make, save_heads

from lab.demo.answers import Answers
from lab.demo.heads import menu
from lab.store import Store, open_store

#: Keys of the heads in the menu.
XPOOL, MGFI, CMFI = (f"a-study/runs/{name}-s0" for name in ("xpool", "mgfi", "cmfi"))
#: A caption that would be a script in a page that took it for markup.
SCRIPT = next(text for text in THINGS if "<script>" in text)


@dataclass(frozen=True)
class Paged:
    """A store by its path, runs of it, and the answers of a page. Read only: copy the store to change it."""

    path: Path
    store: Store
    runs: Path
    answers: Answers


def make_paged(root: Path, full: Path) -> Paged:
    """All of it below a directory; one of the runs was trained on the ``full`` store, and does not fit."""
    path, runs = make(root), root / "runs"
    save_heads(path, runs / "a-study" / "runs", HEADS)
    save_heads(full, runs / "elsewhere", {"mean": {"projection": "linear"}})
    told = runs / "elsewhere" / "mean-s0" / "run.json"
    told.write_text(told.read_text().replace('"dataset": "toy"', '"dataset": "made"'))  # same name, other features
    store = open_store(path)
    return Paged(path, store, runs, Answers(store, menu(store, runs)))


@contextmanager
def served(answers: Answers) -> Iterator[str]:
    """The address of a running server. It needs the extra ``demo``."""
    import uvicorn

    from lab.demo.server import application, listen

    at = listen(18765)
    server = uvicorn.Server(uvicorn.Config(application(answers), log_level="warning"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [at]}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{at.getsockname()[1]}/"
    finally:
        server.should_exit = True
        thread.join(60)
