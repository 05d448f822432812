"""What the page says is what the heads say: menu, ranks, words, parts of a head. Looks at a test split are logged."""

from __future__ import annotations

import itertools
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import zarr
from eyes import EYES, distance
from paged import CMFI, MGFI, XPOOL, Paged
from searchable import save_heads

from lab.demo import looking
from lab.demo.answers import Answers
from lab.demo.export import export
from lab.demo.heads import menu
from lab.errors import LabError
from lab.figures import style
from lab.heads import build_head
from lab.metrics import ranks
from lab.reads import count_reads, log_file
from lab.similarity import similarity_matrix
from lab.store import open_store


def test_the_menu_holds_what_fits_and_names_what_does_not(paged: Paged) -> None:
    told = paged.answers.about()
    assert [head["key"] for head in told["heads"]] == [CMFI, MGFI, XPOOL, "mean", "topk", "softmax"]
    assert told["first"] == CMFI
    assert {head["colour"] for head in told["heads"]} == {style.HEAD_COLOURS[head["kind"]] for head in told["heads"]}
    (name, why), *rest = told["left_out"].items()
    assert not rest
    assert name == "elsewhere/mean-s0"
    assert "elsewhere" in why
    with pytest.raises(LabError, match="unknown head 'tpok': did you mean 'topk'"):
        paged.answers.picked(paged.answers.captions.rows[0], ["tpok"])


def test_a_picked_caption_has_the_rank_that_evaluation_gives(paged: Paged) -> None:
    texts, videos = paged.store.load("val")
    assert texts.rows is not None
    assert texts.video is not None
    for key in (XPOOL, MGFI, CMFI, "topk"):
        head = paged.answers.menu.head(key).head
        exact = ranks(similarity_matrix(head, texts, videos).numpy(), texts.video.numpy())
        for text in (0, 3, 9):
            found = paged.answers.picked(int(texts.rows[text]), [key])
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
        found = {name: scores for name, _, scores in looking.without(head, texts, head.index(videos))}
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


def test_words_put_pieces_together(paged: Paged) -> None:
    caption = next(row for row in paged.answers.captions.rows if "<" not in paged.store.captions[row]["text"])
    found = paged.answers.picked(caption, [MGFI, "mean"])
    attention, cosine = (found["heads"][key]["words"] for key in (MGFI, "mean"))
    assert attention["words"] == cosine["words"] == paged.store.captions[caption]["text"].split()
    np.testing.assert_allclose(np.sum(attention["values"], 1), 1, atol=1e-3)
    assert sum(attention["share"]) == pytest.approx(1, abs=1e-3)
    assert cosine["share"] is None


def test_captions_of_a_video(paged: Paged) -> None:
    found = paged.answers.told_of(6, [XPOOL, "mean"])
    own = {row for row in paged.answers.captions.rows if paged.store.captions[row]["video"] == 6}
    for told in found["heads"].values():
        assert {one["row"] for one in told["captions"] if one["own"]} <= own
        scores = [one["score"] for one in told["captions"] if one["own"]]
        if scores:  # captions that tie share a rank, so its place in the list may be below it
            assert told["rank"] >= 1 + sum(one["score"] > scores[0] for one in told["captions"])
    assert found["of"] == len(paged.answers.captions.rows)


def test_a_look_at_test_is_logged_once_for_each_head_and_typing_is_not(paged: Paged, tmp_path: Path) -> None:
    shutil.copytree(paged.path, tmp_path / "made.zarr")
    store = open_store(tmp_path / "made.zarr")
    answers = Answers(store, menu(store, paged.runs), "test", command="python -m lab.demo --split test")
    assert "held out" in answers.about()["notes"][0]
    answers.typed("a horse in a field", ["mean", XPOOL])
    assert not log_file(store).exists()
    for caption in answers.captions.rows[:3]:
        answers.picked(caption, ["mean", XPOOL])
    answers.told_of(int(answers.rows[0]), ["mean"])
    lines = [json.loads(line) for line in log_file(store).read_text().splitlines()]
    assert [line["head"] for line in lines] == ["mean", "xpool-s0"]
    assert {line["command"] for line in lines} == {"python -m lab.demo --split test"}
    assert count_reads(store, "test") == 2


def test_a_caption_that_is_typed_is_a_look(paged: Paged, tmp_path: Path) -> None:
    shutil.copytree(paged.path, tmp_path / "made.zarr")
    store = open_store(tmp_path / "made.zarr")
    answers = Answers(store, menu(store, paged.runs), "test")
    text = store.captions[answers.captions.rows[0]]["text"]
    answers.typed(f"  {text.upper().replace(' ', '   ')}\n", ["mean", XPOOL])
    assert count_reads(store, "test") == 2
    answers.typed(text, ["mean", "topk"])
    assert count_reads(store, "test") == 3


def test_two_runs_of_one_name_are_logged_apart(paged: Paged, tmp_path: Path) -> None:
    shutil.copytree(paged.path, tmp_path / "made.zarr")
    store = open_store(tmp_path / "made.zarr")
    for study in ("a", "b"):
        save_heads(paged.path, tmp_path / "runs" / study / "runs", {"xpool": {}})
    answers = Answers(store, menu(store, tmp_path / "runs"), "test")
    answers.picked(answers.captions.rows[0], ["a/runs/xpool-s0", "b/runs/xpool-s0"])
    lines = [json.loads(line) for line in log_file(store).read_text().splitlines()]
    assert [Path(line["run"]).parts[-3] for line in lines] == ["a", "b"]


def test_captions_that_are_not_encoded_are_not_listed(paged: Paged, tmp_path: Path) -> None:
    shutil.copytree(paged.path, tmp_path / "made.zarr")
    whole = Answers(open_store(paged.path), menu(open_store(paged.path), paged.runs))
    row = whole.captions.rows[0]
    zarr.open_group(tmp_path / "made.zarr", mode="r+")["encoded"][row] = 0  # as a pass that was killed leaves it
    store = open_store(tmp_path / "made.zarr")
    answers = Answers(store, menu(store, paged.runs))
    assert answers.captions.rows == whole.captions.rows[1:]
    assert row not in {one["row"] for one in answers.captions.holding()["captions"]}
    assert export(answers, tmp_path / "out", ["mean"], captions=99) == len(answers.captions.rows)
    with pytest.raises(LabError, match="pick one of the list"):
        answers.picked(row, ["mean"])


def test_an_index_that_is_too_large_is_not_made_for_a_question(paged: Paged, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules["lab.search"], "MOST_MB", 0)
    blocks = Answers(paged.store, menu(paged.store, paged.runs))
    found = blocks.picked(blocks.captions.rows[0], [CMFI])["heads"][CMFI]
    assert found["without"] == []
    assert found["rank"] >= 1


def test_runs_of_another_protocol_are_left_out(paged: Paged, tmp_path: Path) -> None:
    shutil.copytree(paged.runs, tmp_path / "runs")
    told = tmp_path / "runs" / XPOOL / "run.json"
    told.write_text(told.read_text().replace('"protocol": "made"', '"protocol": "other"'))
    made = menu(paged.store, tmp_path / "runs")
    assert XPOOL not in made.entries
    assert "trained under protocol 'other', not 'made'" in made.left_out[XPOOL]


def test_night_colours_stand_out() -> None:
    night, card = [*style.NIGHT_COLOURS.values(), "#009E73"], "#1c1e23"  # truth and card as in page/style.css
    assert style.NIGHT_COLOURS.keys() == style.HEAD_COLOURS.keys()
    assert style.colour("mine:Head", night=True) in style.OTHER_BY_NIGHT
    assert len(style.OTHER_BY_NIGHT) == len(style.OTHER)
    for eyes in EYES:
        for one, other in itertools.combinations(night, 2):
            assert distance(one, other, eyes) > 11, f"{one} and {other}"
        for colour in [*night, *style.OTHER_BY_NIGHT]:
            assert distance(colour, card, eyes) > 20, colour
