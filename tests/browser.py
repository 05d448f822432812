"""A Chromium that is on this machine, for the tests of the page and for its picture in the README.

python tests/browser.py PAGE.html OUT.png [HASH]     # the top of a page as 1,400 pixels of width, few colours
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lab.figures.style import few_colours

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
#: With what a browser does; a busy machine is slow.
PATIENCE_MS = 240_000
#: Of the README's picture.
WIDTH, HEIGHT = 1400, 1350


def find_browser() -> str | None:
    """The path of a Chromium, or None."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


@contextmanager
def browser() -> Iterator[Any]:
    """A headless Chromium, driven by playwright. Root has no sandbox for it."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []
        given = [*sandbox, "--disable-gpu", "--disable-dev-shm-usage"]  # in a container /dev/shm may be small
        opened = driver.chromium.launch(executable_path=find_browser(), args=given, timeout=PATIENCE_MS)
        try:
            yield opened
        finally:
            opened.close()


def picture(page: Path, out: Path, what: str = "") -> None:
    """The top of an exported page as a PNG of 256 colours at most."""
    with browser() as chromium:
        tab = chromium.new_page(viewport={"width": WIDTH, "height": HEIGHT}, color_scheme="light")
        tab.goto(f"{page.resolve().as_uri()}#{what}")
        tab.wait_for_selector(".score")
        tab.wait_for_load_state("networkidle")
        out.write_bytes(few_colours(tab.screenshot()))


if __name__ == "__main__":
    if find_browser() is None:
        sys.exit(
            f"no browser to take the picture with: install chromium (apt-get install chromium); {sys.argv[2]} stays"
        )
    picture(Path(sys.argv[1]), Path(sys.argv[2]), *sys.argv[3:4])
