"""The page: what it says is what the heads say, it answers only itself, and it works in a real browser."""

from __future__ import annotations

import json
import logging
import shutil
import socket
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import zarr
from searchable import EVIL, HEADS, THINGS, make, save_heads

pytest.importorskip("starlette", reason="the page needs the extra 'demo'")
pytest.importorskip("uvicorn", reason="the page needs the extra 'demo'")
import uvicorn
from browser import browser, find_browser

from lab import cli
from lab.demo import looking
from lab.demo.__main__ import main
from lab.demo.answers import Answers
from lab.demo.export import export
from lab.demo.files import Files
from lab.demo.heads import by_night, menu
from lab.demo.server import application, listen, warm
from lab.errors import LabError
from lab.figures import style
from lab.heads import build_head
from lab.metrics import ranks
from lab.reads import count_reads, log_file
from lab.similarity import similarity_matrix
from lab.store import Store, open_store

SCRIPT = next(text for text in THINGS if "<script>" in text)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("page"))


@pytest.fixture(scope="module")
def store(path: Path) -> Store:
    return open_store(path)


@pytest.fixture(scope="module")
def runs(path: Path, full: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    save_heads(path, folder / "a-study" / "runs", HEADS)
    save_heads(full, folder / "elsewhere", {"mean": {"projection": "linear"}})
    told = folder / "elsewhere" / "mean-s0" / "run.json"
    told.write_text(told.read_text().replace('"dataset": "toy"', '"dataset": "made"'))  # same name, other features
    return folder


@pytest.fixture(scope="module")
def answers(store: Store, runs: Path) -> Answers:
    return Answers(store, menu(store, runs))


@pytest.fixture(scope="module")
def page(answers: Answers) -> Iterator[str]:
    """The address of a running server."""
    at = listen(18765)
    server = uvicorn.Server(uvicorn.Config(application(answers), log_level="warning"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [at]}, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{at.getsockname()[1]}/"
    server.should_exit = True
    thread.join(10)


XPOOL, MGFI, CMFI = (f"a-study/runs/{name}-s0" for name in ("xpool", "mgfi", "cmfi"))


# -- answers ---------------------------------------------------------------------------------------------------------


def test_the_menu_holds_what_fits_and_names_what_does_not(answers: Answers) -> None:
    told = answers.about()
    assert [head["key"] for head in told["heads"]] == [CMFI, MGFI, XPOOL, "mean", "topk", "softmax"]
    assert told["first"] == CMFI
    assert {head["colour"] for head in told["heads"]} == {style.HEAD_COLOURS[head["kind"]] for head in told["heads"]}
    (name, why), *rest = told["left_out"].items()
    assert not rest
    assert name == "elsewhere/mean-s0"
    assert "elsewhere" in why
    with pytest.raises(LabError, match="unknown head 'tpok': did you mean 'topk'"):
        answers.picked(answers.captions[0], ["tpok"])


def test_a_picked_caption_has_the_rank_that_evaluation_gives(answers: Answers, store: Store) -> None:
    texts, videos = store.load("val")
    assert texts.rows is not None
    assert texts.video is not None
    for key in (XPOOL, MGFI, CMFI, "topk"):
        head = answers.menu.head(key).head
        exact = ranks(similarity_matrix(head, texts, videos).numpy(), texts.video.numpy())
        for text in (0, 3, 9):
            found = answers.picked(int(texts.rows[text]), [key])
            assert found["heads"][key]["rank"] == exact[text]
            assert found["truth"] == found["video"]["row"]
            assert sum(hit["truth"] for hit in found["heads"][key]["top"]) == (exact[text] <= 5)
            weights = np.array(found["heads"][key]["shown"]["weights"])
            assert weights.sum() == pytest.approx(1, abs=1e-3)
    json.dumps(found, allow_nan=False)


@pytest.mark.parametrize("shared", [True, False])
def test_without_a_modality_is_the_head_without_it(shared: bool) -> None:
    torch.manual_seed(0)
    from lab import Texts, Videos

    texts, videos = (
        Texts(torch.randn(3, 8), torch.randn(3, 4, 8)),
        Videos(torch.randn(7, 5, 8), audio=torch.randn(7, 1, 6)),
    )
    keywords = {"shared_tail": shared, "init": "random"}
    head = build_head("cmfi", 8, audio_dim=6, fusion_weight=0.7, video="mgfi", video_keywords=keywords).eval()
    with torch.no_grad():
        found = {name: score(texts) for name, _, score in looking.without(head, head.index(videos))}
        assert set(found) == {"sound", "pictures", "single words", "the sentence"}
        torch.testing.assert_close(found["sound"], head.video(texts, videos))
        torch.testing.assert_close(found["pictures"], head.audio(texts, head.hear(videos)[0]))
        for name, branch, other in (("single words", "sf", 0), ("the sentence", "wf", 1)):
            alone = build_head("cmfi", 8, audio_dim=6, fusion_weight=0.7, video=branch, video_keywords=keywords).eval()
            state = {k: v for k, v in head.state_dict().items() if k in alone.state_dict()}
            for k in [k for k in alone.state_dict() if ".tails.0." in k and not shared]:
                state[k] = head.state_dict()[k.replace(".tails.0.", f".tails.{other}.")]
            alone.load_state_dict(state)
            torch.testing.assert_close(found[name], alone(texts, videos))
        assert head.video.branches == ("sentence", "word")  # untouched


def test_words_put_pieces_together(answers: Answers, store: Store) -> None:
    caption = next(row for row in answers.captions if "<" not in store.captions[row]["text"])
    found = answers.picked(caption, [MGFI, "mean"])
    attention, cosine = (found["heads"][key]["words"] for key in (MGFI, "mean"))
    assert attention["words"] == cosine["words"] == store.captions[caption]["text"].split()
    np.testing.assert_allclose(np.sum(attention["values"], 1), 1, atol=1e-3)
    assert sum(attention["share"]) == pytest.approx(1, abs=1e-3)
    assert cosine["share"] is None


def test_captions_of_a_video(answers: Answers, store: Store) -> None:
    found = answers.told_of(6, [XPOOL, "mean"])
    own = {row for row in answers.captions if store.captions[row]["video"] == 6}
    for told in found["heads"].values():
        assert {one["row"] for one in told["captions"] if one["own"]} <= own
        scores = [one["score"] for one in told["captions"] if one["own"]]
        if scores:  # captions that tie share a rank, so its place in the list may be below it
            assert told["rank"] >= 1 + sum(one["score"] > scores[0] for one in told["captions"])
    assert found["of"] == len(answers.captions)


def test_a_look_at_test_is_logged_once_for_each_head_and_typing_is_not(path: Path, runs: Path, tmp_path: Path) -> None:
    shutil.copytree(path, tmp_path / "made.zarr")
    store = open_store(tmp_path / "made.zarr")
    answers = Answers(store, menu(store, runs), "test", command="python -m lab.demo --split test")
    assert "held out" in answers.about()["notes"][0]
    answers.typed("a horse in a field", ["mean", XPOOL])
    assert not log_file(store).exists()
    for caption in answers.captions[:3]:
        answers.picked(caption, ["mean", XPOOL])
    answers.told_of(int(answers.rows[0]), ["mean"])
    lines = [json.loads(line) for line in log_file(store).read_text().splitlines()]
    assert [line["head"] for line in lines] == ["mean", "xpool-s0"]
    assert {line["command"] for line in lines} == {"python -m lab.demo --split test"}
    assert count_reads(store, "test") == 2


def test_a_caption_that_is_typed_is_a_look(path: Path, runs: Path, tmp_path: Path) -> None:
    shutil.copytree(path, tmp_path / "made.zarr")
    store = open_store(tmp_path / "made.zarr")
    answers = Answers(store, menu(store, runs), "test")
    text = store.captions[answers.captions[0]]["text"]
    answers.typed(f"  {text.upper().replace(' ', '   ')}\n", ["mean", XPOOL])
    assert count_reads(store, "test") == 2
    answers.typed(text, ["mean", "topk"])
    assert count_reads(store, "test") == 3


def test_two_runs_of_one_name_are_logged_apart(path: Path, tmp_path: Path) -> None:
    shutil.copytree(path, tmp_path / "made.zarr")
    store = open_store(tmp_path / "made.zarr")
    for study in ("a", "b"):
        save_heads(path, tmp_path / "runs" / study / "runs", {"xpool": {}})
    answers = Answers(store, menu(store, tmp_path / "runs"), "test")
    answers.picked(answers.captions[0], ["a/runs/xpool-s0", "b/runs/xpool-s0"])
    lines = [json.loads(line) for line in log_file(store).read_text().splitlines()]
    assert [Path(line["run"]).parts[-3] for line in lines] == ["a", "b"]


def test_captions_that_are_not_encoded_are_not_listed(path: Path, runs: Path, tmp_path: Path) -> None:
    shutil.copytree(path, tmp_path / "made.zarr")
    whole = Answers(open_store(path), menu(open_store(path), runs))
    row = whole.captions[0]
    zarr.open_group(tmp_path / "made.zarr", mode="r+")["encoded"][row] = 0  # as a pass that was killed leaves it
    store = open_store(tmp_path / "made.zarr")
    answers = Answers(store, menu(store, runs))
    assert answers.captions == whole.captions[1:]
    assert row not in {one["row"] for one in answers.list_captions()["captions"]}
    assert export(answers, tmp_path / "out", ["mean"], captions=99) == len(answers.captions)
    with pytest.raises(LabError, match="pick one of the list"):
        answers.picked(row, ["mean"])


def test_an_index_that_is_too_large_is_not_made_for_a_question(
    store: Store, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.modules["lab.search"], "MOST_MB", 0)
    blocks = Answers(store, menu(store, runs))
    found = blocks.picked(blocks.captions[0], [CMFI])["heads"][CMFI]
    assert found["without"] == []
    assert found["rank"] >= 1


def test_runs_of_another_protocol_are_left_out(store: Store, runs: Path, tmp_path: Path) -> None:
    shutil.copytree(runs, tmp_path / "runs")
    told = tmp_path / "runs" / XPOOL / "run.json"
    told.write_text(told.read_text().replace('"protocol": "made"', '"protocol": "other"'))
    made = menu(store, tmp_path / "runs")
    assert XPOOL not in made.entries
    assert "trained under protocol 'other', not 'made'" in made.left_out[XPOOL]


def test_night_colours_stand_out() -> None:
    assert all(by_night(colour) != "#000000" for colour in style.HEAD_COLOURS.values())


# -- the server ------------------------------------------------------------------------------------------------------


def ask(address: str, body: Any = None, **headers: str) -> tuple[int, bytes, Any]:
    data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
    given = {"content-type": "application/json"} if data is not None else {}
    request = urllib.request.Request(address, data, given | {k.replace("_", "-"): v for k, v in headers.items()})  # noqa: S310
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310
            return answer.status, answer.read(), answer.headers
    except urllib.error.HTTPError as error:
        return error.code, error.read(), error.headers


def test_only_this_machine_and_this_page_are_answered(page: str) -> None:
    status, body, headers = ask(page)
    assert status == 200
    assert b'<script src="page.js">' in body
    policy = headers["content-security-policy"]
    assert policy.startswith("default-src 'none'")
    assert "unsafe" not in policy
    assert "http" not in policy
    assert ask(page, host="evil.example")[0] == 400
    assert ask(page + "api/about", sec_fetch_site="cross-site")[0] == 403
    assert ask(page + "api/about", sec_fetch_site="same-site")[0] == 403  # another port of this machine
    assert ask(page, sec_fetch_site="cross-site", sec_fetch_mode="navigate")[0] == 200  # a link to the page
    assert ask(page + "../../../etc/passwd")[0] == 404
    assert ask(page + "%2e%2e/server.py")[0] == 404


def test_videos_come_in_ranges_from_below_their_root_alone(page: str, path: Path, tmp_path: Path) -> None:
    status, body, headers = ask(page + "video/6", range="bytes=10-29")
    assert (status, len(body)) == (206, 20)
    assert headers["content-range"].startswith("bytes 10-29/")
    assert body == (path.parent / "clips" / "v06.mp4").read_bytes()[10:30]
    assert ask(page + "video/8")[0] == 404  # has no file
    assert ask(page + "video/999999")[0] == 404
    assert ask(page + "frames/6-0.jpg")[1][:2] == b"\xff\xd8"
    assert ask(page + "frames/6-6.jpg")[0] == 404
    assert ask(page + "frames/99999-0.jpg")[0] == 404
    store = open_store(path)
    secret = tmp_path / "secret.mp4"
    secret.write_bytes(b"secret")
    root = tmp_path / "root"
    root.mkdir()
    (root / "link.mp4").symlink_to(secret)
    files = Files(store, root)
    for named in ("../secret.mp4", str(secret), "link.mp4", "a\0b", "", "."):
        store.videos[0]["file"] = named
        assert files.video(0) is None, named
    (root / "there.mp4").write_bytes(b"there")
    store.videos[0]["file"] = "there.mp4"
    assert files.video(0) == (root / "there.mp4").resolve()
    (root / "id_rsa").write_bytes(b"secret")
    (root / "notes.txt").write_bytes(b"secret")
    for named in ("id_rsa", "notes.txt"):
        store.videos[0]["file"] = named
        assert files.video(0) is None, named


def test_links_that_lead_out_of_the_root_are_told_with_a_root_that_plays_them(
    answers: Answers,
    page: str,
    path: Path,
    runs: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    disk, root = tmp_path / "a disk", tmp_path / "root"
    disk.mkdir()
    root.mkdir()
    for name in ("v06.mp4", "v07.mp4"):
        shutil.copyfile(path.parent / "clips" / name, disk / name)
        (root / name).symlink_to(disk / name)
    store = open_store(path)
    files = Files(store, root)
    assert (files.video(6), files.leads_out(6), files.leads_out(5)) == (None, True, False)
    told = f"2 videos are links that lead out of {root} and are not played: --root '{disk}' plays 2"
    assert files.told_of_links(range(16)) == told
    assert Files(store, disk).video(6) == disk / "v06.mp4"
    assert Files(store, disk).told_of_links(range(16)) == ""
    (root / "v07.mp4").unlink()
    (disk / "v07.mp4").rename(disk / "other.mp4")
    (root / "v07.mp4").symlink_to(disk / "other.mp4")
    (root / "v06.mp4").unlink()
    assert Files(store, root).told_of_links(range(16)) == (
        f"1 videos are links that lead out of {root} and are not played: have the files themselves there, or hard links"
    )
    monkeypatch.setattr("lab.demo.server.serve", lambda app, at: at.close())
    monkeypatch.setattr("lab.demo.server.warm", lambda answers: None)
    given = ["--store", str(path), "--runs", str(runs), "--head", "mean", "--root", str(root), "--port", "38765"]
    assert cli.run(main, given) == 0
    assert f"warning: 1 videos are links that lead out of {root}" in capsys.readouterr().err
    monkeypatch.setattr(answers.files, "root", root)
    assert b"leads out of the root" in ask(page + "video/7")[1]
    assert b"not there any more" in ask(page + "video/6")[1]
    (root / "v06.mp4").symlink_to(root / "v06.mp4")
    assert (Files(store, root).video(6), Files(store, root).told_of_links([6])) == (None, "")


@pytest.mark.parametrize("told", ["", "  \n", "a\0b"])
def test_a_store_that_tells_no_root_shows_no_file(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told: str
) -> None:
    shutil.copytree(path, tmp_path / "made.zarr")
    (tmp_path / "made.zarr" / "tables" / "root.txt").write_text(told)
    (tmp_path / "here.mp4").write_bytes(b"here")
    monkeypatch.chdir(tmp_path)
    store = open_store(tmp_path / "made.zarr")
    store.videos[0]["file"] = "here.mp4"
    assert Files(store).video(0) is None


def test_bad_questions_get_a_line(page: str, answers: Answers) -> None:
    def refused(path: str, body: Any, status: int, words: str, **headers: str) -> None:
        found, told, _ = ask(page + path, body, **headers)
        assert (found, words in json.loads(told)["error"]) == (status, True), told

    refused("api/typed", {"text": " ", "heads": ["mean"]}, 400, "at least one word")
    refused("api/typed", {"text": "a dog", "heads": ["maen"]}, 400, "did you mean 'mean'")
    refused("api/typed", {"text": "a dog", "heads": []}, 400, "1 to 4 heads")
    refused("api/typed", {"text": "a dog", "heads": ["mean"], "video": 0}, 400, "none of the split 'val'")
    refused("api/typed", b"{", 400, "must be JSON")
    refused("api/typed", b"[]", 400, "JSON object")
    refused("api/typed", b" " * ((1 << 20) + 1), 413, "shorter than 1024 kB")
    refused("api/typed", {"text": "a dog", "heads": ["mean"]}, 415, "must be JSON", content_type="text/plain")
    refused("api/picked", {"caption": 0, "heads": ["mean"]}, 400, "pick one of the list")
    refused("api/picked", {"caption": "x", "heads": ["mean"]}, 400, "whole number")
    refused("api/told_of", {"heads": ["mean"]}, 400, "whole number")
    status, told, _ = ask(page + "api/typed", {"text": "dog " * 10_000, "heads": ["mean"]})
    assert status == 200
    assert "longer than the text tower reads" in json.loads(told)["notes"][0]


def test_a_port_in_use_gives_the_next_one(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    with listen(28765) as first, listen(first.getsockname()[1]) as second:
        assert second.getsockname()[1] == first.getsockname()[1] + 1
        assert second.getsockname()[0] == "127.0.0.1"
    assert "is in use" in caplog.text
    assert isinstance(second, socket.socket)


def test_what_the_command_refuses(path: Path, runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def said(*argv: str) -> str:
        assert cli.run(main, list(argv)) == 2
        return capsys.readouterr().err

    made = ("--store", str(path), "--runs", str(runs))
    assert "make one with python -m lab.cache --dataset toy" in said("--dataset", "toy", "--features", str(tmp_path))
    assert "unknown head or run 'tpok': did you mean 'topk'" in said(*made, "--head", "tpok")
    assert "train the head on this one" in said(*made, "--head", "elsewhere/mean-s0")
    assert "1 <= port" in said(*made, "--port", "0")
    assert "unknown split of made 'vla': did you mean 'val'" in said(*made, "--split", "vla")
    (tmp_path / "mine.txt").write_text("mine")
    assert "holds something else" in said(*made, "--head", "mean", "--export", str(tmp_path))
    assert (tmp_path / "mine.txt").read_text() == "mine"
    (tmp_path / "data.js").write_text("window.mine = 1;\n")
    assert "holds something else" in said(*made, "--head", "mean", "--export", str(tmp_path))
    assert (tmp_path / "data.js").read_text() == "window.mine = 1;\n"


def test_an_export_leaves_no_picture_of_an_earlier_one(answers: Answers, tmp_path: Path) -> None:
    out = tmp_path / "out"
    for seed in (0, 1):
        assert export(answers, out, ["mean"], captions=1, seed=seed) == 1
        (out / "frames" / "999-0.jpg").write_bytes(b"old")
        assert len(list((out / "frames").iterdir())) > 1
    assert export(answers, out, ["mean"], captions=1) == 1
    assert not (out / "frames" / "999-0.jpg").exists()
    assert any((out / "frames").iterdir())


def test_the_page_serves_without_its_text_tower(caplog: pytest.LogCaptureFixture) -> None:
    class Broken:
        @property
        def encoder(self) -> None:
            raise RuntimeError("out of\nmemory")

    warm(Broken()).join(10)  # type: ignore[arg-type]
    assert [line.getMessage() for line in caplog.records] == [
        "captions can be picked, but no query typed: RuntimeError: out of memory"
    ]


# -- in a browser ----------------------------------------------------------------------------------------------------

needs_browser = pytest.mark.skipif(
    find_browser() is None, reason="no Chromium on this machine: apt-get install chromium"
)


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
        self.page.set_default_timeout(60_000)
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
def test_query_pick_switch_and_video_to_text(page: str, answers: Answers, chromium: Any) -> None:
    evil = next(row for row in answers.captions if answers.store.captions[row]["text"] == SCRIPT)
    with Tab(chromium, page) as tab:
        tab.goto(f"{page}#caption={answers.captions[0]}&a=topk&b=mean")
        settled(tab, answers.store.captions[answers.captions[0]]["text"])
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
        rank = answers.picked(evil, [CMFI])["heads"][CMFI]["rank"]
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
def test_a_video_is_played_from_the_attended_second(page: str, answers: Answers, chromium: Any) -> None:
    caption = next(row for row in answers.captions if answers.store.captions[row]["video"] == 6) + 1
    with Tab(chromium, page) as tab:
        tab.goto(f"{page}#caption={caption}&a=topk&b=")
        settled(tab, "“")
        start = answers.picked(caption, ["topk"])["heads"]["topk"]["shown"]["attended"][0][0]
        assert start > 1
        tab.wait_for_function("() => document.querySelector('video').readyState >= 2")
        assert tab.evaluate("() => document.querySelector('video').currentTime") == pytest.approx(start, abs=0.2)
        tab.locator(".frame").first.click()
        assert tab.evaluate("() => document.querySelector('video').currentTime") == pytest.approx(0.25, abs=0.1)


@needs_browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_in_either_scheme(page: str, answers: Answers, chromium: Any, scheme: str) -> None:
    with Tab(chromium, page, viewport={"width": 360, "height": 700}, color_scheme=scheme) as tab:
        tab.goto(f"{page}#caption={answers.captions[3]}&a={CMFI}&b={MGFI}")
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
def test_errors_are_shown_in_the_page(page: str, answers: Answers, chromium: Any) -> None:
    tab = chromium.new_page()
    tab.goto(f"{page}#caption={answers.captions[0]}&a=mean&b=")
    settled(tab, "“")
    tab.locator("#query").fill("   ")
    tab.locator("#query").press("Enter")
    tab.locator("#error", has_text="a query must have at least one word").wait_for()
    tab.close()


@needs_browser
@pytest.mark.parametrize("control", ["another", "open-captions", "mode-video"])
def test_a_list_that_does_not_come_is_an_error_in_the_page(
    page: str, answers: Answers, chromium: Any, control: str
) -> None:
    tab = chromium.new_page()
    faults: list[str] = []
    tab.on("pageerror", lambda error: faults.append(str(error)))
    tab.goto(f"{page}#caption={answers.captions[0]}&video=6&a=mean&b=")
    settled(tab, "“")
    for name in ("captions", "videos"):
        tab.route(f"**/api/{name}*", lambda route: route.abort())
    tab.locator(f"#{control}").click()
    tab.locator("#error", has_text="is python -m lab.demo still running?").wait_for()
    tab.close()
    assert faults == []


@needs_browser
def test_an_export_opens_from_disk(answers: Answers, tmp_path: Path, chromium: Any) -> None:
    out = tmp_path / "out"
    assert export(answers, out, [XPOOL, "mean"], captions=14) == 14  # all of the split, the one with markup too
    assert export(answers, out, [XPOOL, "mean"], captions=14) == 14  # again in the same place
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
