"""The page in a real browser: queries, lists and videos by mouse and keyboard, on a phone, live and from disk."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browser import PATIENCE_MS, browser, find_browser
from paged import CMFI, MGFI, SCRIPT, XPOOL, Paged, served
from searchable import EVIL, THINGS

pytest.importorskip("starlette", reason="the page needs the extra 'demo'")
pytest.importorskip("uvicorn", reason="the page needs the extra 'demo'")

from lab.demo.export import export

needs_browser = pytest.mark.skipif(
    find_browser() is None, reason="no Chromium on this machine: apt-get install chromium"
)


@pytest.fixture(scope="module")
def page(paged: Paged) -> Iterator[str]:
    """The address of a running server."""
    with served(paged.answers) as address:
        yield address


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    pytest.importorskip("playwright", reason="the browser's driver is in the extra 'test'")
    with browser() as opened:
        yield opened


class Tab:
    """A page in the browser; when it closes, nothing may have been asked elsewhere, failed, or been complained of."""

    def __init__(self, chromium: Any, home: str, **options: Any) -> None:
        self.home, self.seen, self.wrong = home, [], []  # type: ignore[var-annotated]
        self.page = chromium.new_page(**({"viewport": {"width": 1300, "height": 900}} | options))
        self.page.set_default_timeout(PATIENCE_MS)
        self.page.on("request", lambda request: self.seen.append(request.url))
        self.page.on(
            "console", lambda line: self.wrong.append(line.text) if line.type in ("error", "warning") else None
        )
        self.page.on("pageerror", lambda error: self.wrong.append(str(error)))
        self.page.on("dialog", lambda dialog: (self.wrong.append(dialog.message), dialog.dismiss()))

    def __enter__(self) -> Any:
        return self.page

    def __exit__(self, kind: Any, *_: Any) -> None:
        title = self.page.title()
        self.page.close()
        if kind is None:
            assert self.wrong == []
            assert title != "owned"
            assert self.seen
            assert [url for url in self.seen if not url.startswith(self.home)] == []


def settled(tab: Any, quote: str) -> None:
    tab.locator(".quote", has_text=quote).wait_for()
    tab.locator("#answer[aria-busy=true]").wait_for(state="detached")


@needs_browser
def test_query_pick_switch_and_video_to_text(page: str, paged: Paged, chromium: Any) -> None:
    evil = next(row for row in paged.answers.captions.rows if paged.answers.store.captions[row]["text"] == SCRIPT)
    with Tab(chromium, page) as tab:
        tab.goto(f"{page}#caption={paged.answers.captions.rows[0]}&a=topk&b=mean")
        settled(tab, paged.answers.store.captions[paged.answers.captions.rows[0]]["text"])
        # a typed query, by keyboard alone
        tab.locator("#query").focus()
        tab.keyboard.type(THINGS[2])
        tab.keyboard.press("Enter")
        settled(tab, THINGS[2])
        assert tab.locator(".truly").count() == 0  # nothing is known of a typed text
        assert tab.locator(".cards").first.locator(".card").count() == 5
        # a caption that looks like markup, by keyboard from the list
        tab.locator("#open-captions").press("Enter")
        tab.locator("#filter-captions").fill("bell rings")
        tab.locator(f"#caption-list button[data-row='{evil}']").wait_for()
        tab.locator("#caption-count", has_text="2 captions").wait_for()
        for _ in range(2):
            tab.keyboard.press("ArrowDown")
            if tab.evaluate("() => document.activeElement.dataset.row") == str(evil):
                break
        tab.keyboard.press("Enter")
        settled(tab, "“<script>document.title='owned'</script> & a bell rings”")
        assert tab.locator("main script").count() == 0
        assert tab.locator(".truly").inner_text() == "ground truth"
        assert tab.locator(".card.true").count() >= 1
        # other heads
        tab.locator("#head-a").select_option(CMFI)
        tab.locator(f".score[data-head='{CMFI}']").wait_for()
        told = tab.locator(f".score[data-head='{CMFI}']").inner_text()
        rank = paged.answers.picked(evil, [CMFI])["heads"][CMFI]["rank"]
        assert f"\n{rank:g}\nof 7 videos" in told.replace("of 7", "\nof 7").replace("\n\n", "\n")
        assert all(f"without {what}" in told for what in ("sound", "pictures"))
        assert tab.locator(".chart").first.locator(".column").count() == 12  # six frames, two heads
        tab.locator("#head-b").select_option("")
        tab.locator(".score").nth(1).wait_for(state="detached")
        # another of the five, then back from the video to its captions
        tab.locator(".card:not(.true)").first.click()
        tab.locator("h2", has_text="of its own video, which is not the one shown").wait_for()
        tab.locator("#mode-video").click()
        tab.locator("#video-list button").nth(1).wait_for()
        tab.locator("#video-list button[data-row='5']").click()
        settled(tab, EVIL)
        assert tab.locator(".ranked .own").count() >= 1
        tab.locator(".ranked button").first.click()
        tab.locator(".chart").first.wait_for()
        assert tab.locator("#mode-text").get_attribute("aria-pressed") == "true"


@needs_browser
def test_a_video_is_played_from_the_attended_second(page: str, paged: Paged, chromium: Any) -> None:
    caption = next(row for row in paged.answers.captions.rows if paged.answers.store.captions[row]["video"] == 6) + 1
    with Tab(chromium, page) as tab:
        tab.goto(f"{page}#caption={caption}&a=topk&b=")
        settled(tab, "“")
        start = paged.answers.picked(caption, ["topk"])["heads"]["topk"]["shown"]["attended"][0][0]
        assert start > 1
        tab.wait_for_function("() => document.querySelector('video').readyState >= 2")
        assert tab.evaluate("() => document.querySelector('video').currentTime") == pytest.approx(start, abs=0.2)
        tab.locator(".frame").first.click()
        assert tab.evaluate("() => document.querySelector('video').currentTime") == pytest.approx(0.25, abs=0.1)


@needs_browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_in_either_scheme(page: str, paged: Paged, chromium: Any, scheme: str) -> None:
    with Tab(chromium, page, viewport={"width": 360, "height": 700}, color_scheme=scheme) as tab:
        tab.goto(f"{page}#caption={paged.answers.captions.rows[3]}&a={CMFI}&b={MGFI}")
        settled(tab, "“")
        assert tab.evaluate("() => document.documentElement.scrollWidth") <= 360
        paper = tab.evaluate("() => getComputedStyle(document.body).backgroundColor")
        assert (int(paper.split("(")[1].split(",")[0]) > 128) == (scheme == "light")
        unlabelled = (
            "() => [...document.querySelectorAll('button, input, select')].filter(e => !e.textContent.trim() && \
            !e.getAttribute('aria-label') && !(e.labels && e.labels.length)).length"
        )
        assert tab.evaluate(unlabelled) == 0


@needs_browser
def test_errors_are_shown_in_the_page(page: str, paged: Paged, chromium: Any) -> None:
    tab = chromium.new_page()
    tab.set_default_timeout(PATIENCE_MS)
    tab.goto(f"{page}#caption={paged.answers.captions.rows[0]}&a=mean&b=")
    settled(tab, "“")
    tab.locator("#query").fill("   ")
    tab.locator("#query").press("Enter")
    tab.locator("#error", has_text="a query must have at least one word").wait_for()
    tab.close()


@needs_browser
@pytest.mark.parametrize("control", ["another", "open-captions", "mode-video"])
def test_a_list_that_does_not_come_is_an_error_in_the_page(
    page: str, paged: Paged, chromium: Any, control: str
) -> None:
    tab = chromium.new_page()
    tab.set_default_timeout(PATIENCE_MS)
    faults: list[str] = []
    tab.on("pageerror", lambda error: faults.append(str(error)))
    tab.goto(f"{page}#caption={paged.answers.captions.rows[0]}&video=6&a=mean&b=")
    settled(tab, "“")
    for name in ("captions", "videos"):
        tab.route(f"**/api/{name}*", lambda route: route.abort())
    tab.locator(f"#{control}").click()
    tab.locator("#error", has_text="is python -m lab.demo still running?").wait_for()
    tab.close()
    assert faults == []


@needs_browser
def test_an_export_opens_from_disk(paged: Paged, tmp_path: Path, chromium: Any) -> None:
    out = tmp_path / "out"
    assert export(paged.answers, out, [XPOOL, "mean"], captions=14) == 14  # all of the split, the one with markup too
    assert export(paged.answers, out, [XPOOL, "mean"], captions=14) == 14  # again in the same place
    assert "<script>document" not in (out / "data.js").read_text()
    with Tab(chromium, out.as_uri()) as tab:
        tab.goto((out / "index.html").as_uri())
        tab.locator(".score").first.wait_for()
        assert tab.locator("#typed").is_hidden()
        tab.locator("#open-captions").click()
        tab.locator("#filter-captions").fill("bell rings")
        tab.locator("#caption-list button").first.click()
        settled(tab, "<script>")
        tab.locator("#head-a").select_option("mean")
        tab.locator(".score[data-head='mean']").wait_for()
        tab.wait_for_function("() => [...document.images].every(one => one.complete && one.naturalWidth)")
        tab.locator("#mode-video").click()
        tab.locator(".ranked").first.wait_for()
