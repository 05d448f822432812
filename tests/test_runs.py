"""Runs: a head that is saved comes back the same, and what is wrong with a run is told before anything is built."""

from __future__ import annotations

import json
import math
import os
import shutil
import sys
import zlib
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import zarr
from safetensors.torch import load_file, save_file
from synthetic import A, D, F, S
from torch import Tensor, nn

from lab import cli
from lab.embeddings import RaggedWords, Texts, Videos
from lab.errors import LabError
from lab.evaluate import main as evaluate
from lab.heads import HEADS, build_head
from lab.runs import Run, find_below, find_run, load_run, read_run, require_room, runs_below, save_run
from lab.runs.fitting import all_runs
from lab.similarity import similarity_matrix
from lab.store import open_store
from lab.study import main as study
from lab.training.stages import Epoch

KEYWORDS: dict[str, dict[str, Any]] = {
    "cmfi": {"audio_dim": A, "video": "mgfi", "video_keywords": {"width": 3}},
    "softmax": {"temperature": math.inf, "projection": "linear"},
    "topk": {"top_k": 2},
    "seqtransf": {"heads": 1},
}
EPOCHS = [Epoch(1, "all", 2.5, 20.0, 0.1, {"R@1": 3.0}), Epoch(0, "untrained", math.nan, 20.0, 0.0)]


def run_of(head: nn.Module, name: str, **changes: Any) -> Run:
    about = {
        "head": name,
        "keywords": KEYWORDS.get(name, {}),
        "dim": D,
        "dataset": "toy",
        "protocol": "whole",
        "store": "features/toy.zarr",
        "passport": {"frames": {"sampling": "midpoints-5"}, "text": {}},
        "recipe": {"seed": 7, "audio_level": "segments"},
        "kept": {"epoch": 1, "metrics": {"R@1": 3.0}, "loss": math.nan},
        "chosen": "best",
        "parameters": sum(parameter.numel() for parameter in head.parameters()),
        "seconds": 1.5,
    }
    return Run(**about | changes)


def pairs() -> tuple[Texts, Videos]:
    torch.manual_seed(0)
    counts = torch.tensor([2, 1, 3])
    words = RaggedWords(torch.randn(6, D).half(), counts.cumsum(0) - counts, counts)
    return Texts(torch.randn(3, D), words), Videos(torch.randn(4, F, D), None, torch.randn(4, S, A))


def saved(tmp_path: Path, name: str = "xpool", **changes: Any) -> tuple[nn.Module, Path]:
    torch.manual_seed(3)
    head = build_head(name, D, **KEYWORDS.get(name, {}))
    for parameter in head.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    return head, save_run(head, run_of(head, name, **changes), EPOCHS, tmp_path)


# -- there and back --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", HEADS)
def test_a_run_comes_back_to_the_same_similarities(name: str, tmp_path: Path) -> None:
    texts, videos = pairs()
    head, path = saved(tmp_path, name)
    back, run = load_run(path)
    assert torch.equal(similarity_matrix(head, texts, videos), similarity_matrix(back, texts, videos))
    assert not back.training
    assert run == replace(run_of(head, name), time=run.time, kept=run.kept)
    assert (run.metrics, run.audio_level) == ({"R@1": 3.0}, "segments")


def test_what_was_set_after_the_training_stands_apart_and_is_set_again(tmp_path: Path) -> None:
    inside = {"audio_dim": A, "video": "topk", "video_keywords": {"top_k": 2, "projection": "linear"}}
    head: Any = build_head("cmfi", D, **inside)
    after = {"fusion_weight": 0.1, "video_keywords": {"top_k": 1}}
    path = save_run(head, run_of(head, "cmfi", keywords=inside, after=after), EPOCHS, tmp_path)
    head.fusion_weight, head.video.top_k = 0.1, 1
    back, run = load_run(path)
    assert torch.equal(similarity_matrix(head, *pairs()), similarity_matrix(back, *pairs()))
    assert (run.keywords, run.after) == (inside, after)
    assert run.settings["video_keywords"] == {"top_k": 1, "projection": "linear"}


def test_a_run_of_before_is_read_as_it_was(tmp_path: Path) -> None:
    """Format 1 knew no ``after``: a weight that was chosen stands among the keywords."""
    keywords = {"audio_dim": A, "video": "xpool", "fusion_weight": 0.1}
    head = build_head("cmfi", D, **keywords)
    path = save_run(head, run_of(head, "cmfi", keywords=keywords), EPOCHS, tmp_path)
    told = json.loads((path / "run.json").read_text())
    del told["after"], told["command"]
    (path / "run.json").write_text(json.dumps(told | {"format": 1}))
    back, run = load_run(path)
    assert getattr(back, "fusion_weight") == 0.1  # noqa: B009 - mypy
    assert (run.settings, run.after, run.command, run.format) == (keywords, {}, [], 1)
    recipe = {"seed": 7, "audio_level": "segments"}
    for flag, twins in ((False, "ignored"), (True, "positives")):
        (path / "run.json").write_text(json.dumps(told | {"format": 1, "recipe": recipe | {"multi_positive": flag}}))
        assert load_run(path)[1].recipe == recipe | {"twins": twins}


def test_what_lies_in_the_directory(tmp_path: Path) -> None:
    _, path = saved(tmp_path)
    assert sorted(file.name for file in path.iterdir()) == ["head.safetensors", "log.jsonl", "run.json"]
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
    assert path.name.startswith("xpool-toy-20")
    assert path.name.endswith("-s7")

    def strict(text: str) -> Any:
        return json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))

    told = strict((path / "run.json").read_text())
    assert told["format"] == 2
    assert told["kept"]["loss"] is None
    assert told["versions"].keys() == {"python", "retrieval-lab", "torch", "numpy"}
    assert told["command"] == sys.orig_argv
    log = [strict(line) for line in (path / "log.jsonl").read_text().splitlines()]
    assert [(line["epoch"], line["loss"], line["metrics"]) for line in log] == [(1, 2.5, {"R@1": 3.0}), (0, None, {})]


def test_names(tmp_path: Path) -> None:
    head, path = saved(tmp_path)
    again = save_run(head, replace(read_run(path)), EPOCHS, tmp_path)
    assert again == path.with_name(f"{path.name}-2")
    named = save_run(head, read_run(path), EPOCHS, tmp_path, "my run/1")
    assert named == tmp_path / "my-run-1"
    with pytest.raises(LabError, match=r"my-run-1 is there already: give the run another --name, or delete that one"):
        save_run(head, read_run(path), EPOCHS, tmp_path, "my run/1")
    assert find_run("my-run-1", tmp_path) == named
    assert find_run(named, tmp_path / "elsewhere") == named
    assert find_run("xpool", tmp_path) is None


def test_a_run_is_there_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("lab.runs.save.replace_text", full)
    with pytest.raises(OSError, match="No space left"):
        saved(tmp_path)
    assert list(tmp_path.iterdir()) == []
    monkeypatch.undo()
    with pytest.raises(LabError, match=r"plain values, so that they can be saved: .* is a Tensor"):
        saved(tmp_path, keywords={"bad": torch.zeros(1)})
    assert list(tmp_path.iterdir()) == []


def test_room_is_asked_for_with_what_does_not_compress(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of it, and not left in the kernel's memory."""
    head = torch.nn.Linear(50, 40)
    with (tmp_path / "probe").open("w+b") as probe:
        synced: list[int] = []
        monkeypatch.setattr("lab.runs.save.tempfile.TemporaryFile", lambda dir: nullcontext(probe))
        monkeypatch.setattr("lab.runs.save.os.fsync", synced.append)
        require_room(head, tmp_path / "runs")
        written = (tmp_path / "probe").read_bytes()
        assert (len(written), synced) == (4 * 51 * 40, [probe.fileno()])
    assert len(zlib.compress(written)) > len(written)
    assert (tmp_path / "runs").is_dir()


def test_a_run_that_was_killed_while_it_was_saved_is_met_by_nobody(
    full: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It may have its run.json already, but not its log, nor its name."""
    runs = tmp_path / ".hidden" / "runs"  # what the user hides is looked into
    _, whole = saved(runs)
    with monkeypatch.context() as killed:
        killed.setattr("lab.runs.save._placed", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        killed.setattr("lab.runs.save.shutil.rmtree", lambda *_, **__: None)
        with pytest.raises(KeyboardInterrupt):
            saved(runs, passport={"frames": {"sampling": "another"}, "text": {}})
    (litter,) = (path for path in runs.iterdir() if path != whole)
    assert (litter / "run.json").is_file()
    assert runs_below(runs) == [whole] == [path for path, _ in all_runs(runs)]
    assert find_below(litter.name, runs) is None
    assert cli.run(evaluate, ["nothing", "--store", str(full), "--runs", str(runs)]) == 2
    assert ".new-" not in capsys.readouterr().err
    grid = tmp_path / "mine.toml"
    grid.write_text('kind = "grid"\nseeds = 1\n[[rows]]\nhead = "mean"\n')
    home = tmp_path / "mine-toy-whole"
    shutil.copytree(litter, home / "runs" / litter.name)
    assert cli.run(study, [str(grid), "--store", str(full), "--runs", str(tmp_path), "--no-test"]) == 0


def test_layers_that_share_their_weights_can_be_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Tied(nn.Module):
        def __init__(self, dim: int) -> None:
            super().__init__()
            self.one = nn.Linear(dim, dim)
            self.other = self.one

    monkeypatch.setitem(HEADS, "tied", Tied)
    head, path = saved(tmp_path, "tied")
    back, _ = load_run(path)
    assert all(torch.equal(value, back.state_dict()[name]) for name, value in head.state_dict().items())


def test_a_file_to_start_from_may_be_gone_when_the_run_is_loaded(tmp_path: Path) -> None:
    _, path = saved(tmp_path, "seqtransf", keywords={"start": str(tmp_path / "gone.safetensors"), "heads": 1})
    load_run(path)


def test_what_only_says_where_weights_come_from_is_not_asked_for_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Started(nn.Module):
        only_at_start = ("file",)

        def __init__(self, dim: int, *, file: str = "") -> None:
            super().__init__()
            assert not file or Path(file).is_file()
            self.layer = nn.Linear(dim, dim)

    monkeypatch.setitem(HEADS, "started", Started)
    _, path = saved(tmp_path, "started", keywords={"file": "/gone"})
    load_run(path)
    inside = {"audio_dim": A, "video": "started", "video_keywords": {"file": ""}}
    head = build_head("cmfi", D, **inside)
    inside["video_keywords"] = {"file": "/gone"}
    load_run(save_run(head, run_of(head, "cmfi", keywords=inside), EPOCHS, tmp_path))


# -- another store ---------------------------------------------------------------------------------------------------


def test_a_store_with_another_passport_is_refused(full: Path, tmp_path: Path) -> None:
    store = open_store(full)
    _, path = saved(tmp_path / "runs", passport={k: v for k, v in store.passport.items() if k != "audio"})
    load_run(path, store)
    other = tmp_path / "other.zarr"
    shutil.copytree(full, other)
    group = zarr.open_group(other, mode="a")
    passport = store.passport | {"frames": {**store.passport["frames"], "sampling": "fps1-12", "model": "ViT"}}
    group.attrs["passport"] = passport
    with pytest.raises(LabError) as error:
        load_run(path, open_store(other))
    assert str(error.value) == (
        f"{other} was made under another passport: frames.model: 'ViT' in the store, 'toy' wanted; "
        "frames.sampling: 'fps1-12' in the store, 'midpoints-5' wanted. "
        f"Use the store that {path} was trained on (features/toy.zarr), or train the head on this one"
    )
    group.attrs["passport"] = {**store.passport, "audio": {"model": "another, which this head does not hear"}}
    load_run(path, open_store(other))
    group.attrs["passport"] = {key: value for key, value in store.passport.items() if key != "text"}
    with pytest.raises(LabError, match=rf"other.zarr holds no text, which {path} was trained on. Use the store that"):
        load_run(path, open_store(other))


# -- hostile input ---------------------------------------------------------------------------------------------------


def edit(path: Path, **changes: Any) -> None:
    file = path / "run.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "run.json is damaged (JSONDecodeError: "),
        ("[]", "run.json is damaged (TypeError: "),
        ("{}", "run.json is damaged (KeyError: 'format'): train the head again"),
        ('{"format": 3}', "run.json has format 3, this version reads up to 2: upgrade the lab"),
        ('{"format": "1"}', "run.json is damaged (TypeError: "),
        ("[" * 100_000, "run.json is damaged (RecursionError: "),
        ('{"format": 1, "head": "xpool"}', "run.json is damaged (KeyError: 'keywords')"),
        (b'{"head": "\xff"}', "run.json is damaged (UnicodeDecodeError: "),
    ],
)
def test_a_damaged_description(content: str | bytes, said: str, tmp_path: Path) -> None:
    _, path = saved(tmp_path)
    (path / "run.json").write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(LabError) as error:
        load_run(path)
    assert str(error.value).startswith(f"{path}/{said}")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"dim": "7"}, "'dim' is of another type"),
        ({"dim": True}, "'dim' is of another type"),
        ({"keywords": []}, "'keywords' is of another type"),
        ({"kept": {}}, "'kept.metrics' is of another type"),
        ({"kept": {"metrics": {"R@1": "big"}}}, "'kept.metrics' is of another type"),
        ({"passport": {}}, "'passport.frames' is of another type"),
        ({"passport": {"frames": {}, "text": []}}, "'passport.text' is of another type"),
        ({"recipe": {"audio_level": "loud"}}, "'recipe.audio_level' is of another type"),
        ({"after": []}, "'after' is of another type"),
        ({"after": {"dropuot": 1}}, "unknown keyword of head 'xpool' 'dropuot': did you mean 'dropout'?"),
        ({"keywords": {"dropuot": 1}}, "unknown keyword of head 'xpool' 'dropuot': did you mean 'dropout'?"),
        ({"keywords": {"dropout": "x"}}, "head 'xpool' cannot be built as saved: "),
        ({"keywords": {"dropout": 7}}, "head 'xpool' cannot be built as saved: dropout probability has to be between"),
        ({"head": "../xpool"}, "unknown head '../xpool'"),
        ({"head": "wf"}, "the weights do not fit the head that run.json describes: "),
        ({"dim": 8}, "the weights do not fit the head that run.json describes: 'key.bias' should be (8,), it is (7,)"),
        ({"dim": 10**6}, "the weights do not fit the head that run.json describes: "),
        ({"dim": 10**30}, "head 'xpool' cannot be built as saved: "),
        ({"dim": -1}, "dim >= 1 must hold, a whole number, got dim=-1"),
    ],
)
def test_a_description_that_does_not_do(changes: dict[str, Any], said: str, tmp_path: Path) -> None:
    """Each is one line; a terabyte of weights is not made to find out that there are none (dim = 10**6)."""
    _, path = saved(tmp_path)
    edit(path, **changes)
    with pytest.raises(LabError) as error:
        load_run(path)
    assert said in str(error.value)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 500


def test_a_metric_that_is_no_number_is_none(tmp_path: Path) -> None:
    _, path = saved(tmp_path)
    edit(path, kept={"epoch": 1, "metrics": {"R@1": None, "R@5": 5}})
    assert load_run(path)[1].metrics == {"R@5": 5}


def test_damaged_weights(tmp_path: Path) -> None:
    _, path = saved(tmp_path)
    file = path / "head.safetensors"
    weights, whole = load_file(file), file.read_bytes()
    for content in (b"", whole[:-1], whole[:20], b"\xff" * 100, b"\x80\x02}q\x00."):
        file.write_bytes(content)
        with pytest.raises(LabError, match=r"head.safetensors is damaged \(.*\): train the head again"):
            load_run(path)
    save_file(weights | {"key.bias": torch.full((D,), torch.nan)}, file)
    with pytest.raises(LabError, match=r"holds weights that are not finite, in key.bias: train the head again"):
        load_run(path)
    for kind in (torch.int64, torch.complex64, torch.float8_e5m2):
        save_file(weights | {"key.bias": torch.ones(D).to(kind)}, file)
        with pytest.raises(LabError, match=rf"'key.bias' should be torch.float32, it is {kind}"):
            load_run(path)
    save_file(weights | {"key.bias": torch.ones(D).half()}, file)
    load_run(path)
    save_file(weights | {"extra": torch.zeros(2)}, file)
    with pytest.raises(LabError, match=r"'extra' should be absent, it is \(2,\)"):
        load_run(path)
    del weights["key.bias"]
    save_file(weights, file)
    with pytest.raises(LabError, match=r"'key.bias' should be \(7,\), it is absent"):
        load_run(path)
    file.unlink()
    with pytest.raises(LabError, match=r"head.safetensors is damaged \(.*No such file"):
        load_run(path)
    with pytest.raises(LabError, match=r"is not a run: it has no run.json; python -m lab.train HEAD makes one"):
        load_run(tmp_path)


@pytest.mark.parametrize("name", ["run.json", "head.safetensors"])
def test_a_pipe_is_not_waited_for(name: str, tmp_path: Path) -> None:
    _, path = saved(tmp_path)
    (path / name).unlink()
    os.mkfifo(path / name)
    with pytest.raises(LabError, match=rf"{name} is damaged \(.*it is no file\): train the head again"):
        load_run(path)


MINE = """
import pathlib
import torch
pathlib.Path({proof!r}).touch()

class Mine(torch.nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.dim, self.layer = dim, torch.nn.Linear(dim, dim)

    def forward(self, texts, videos):
        return self.layer(texts.sentences) @ videos.frames.mean(1).T
"""


def test_code_of_others_runs_only_if_it_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    proof = tmp_path / "imported"
    (tmp_path / "my_module_of_runs.py").write_text(MINE.format(proof=str(proof)))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    name = "my_module_of_runs:Mine"
    _, path = saved(tmp_path / "runs")
    for changes in ({"head": name}, {"head": "cmfi", "keywords": {"audio_dim": A, "video": name}},
                    {"head": "cmfi", "keywords": {"audio_dim": A}, "after": {"video": name}},
                    {"head": "cmfi", "keywords": {"video_keywords": {"x": [{"video": name}]}}}):  # fmt: skip
        edit(path, **changes)
        with pytest.raises(LabError) as error:
            load_run(path)
        assert str(error.value).startswith(f"{path} wants the head '{name}', which is code that the lab does not know")
        assert str(error.value).endswith(f"run the same with --trust {name}")
        assert not proof.exists()
    head = build_head(name, D)
    assert proof.exists()
    path = save_run(head, run_of(head, name), EPOCHS, tmp_path / "runs")
    assert path.name.startswith("my_module_of_runs-Mine-toy-")
    back, _ = load_run(path, trusted=[name])
    texts, videos = pairs()
    assert torch.equal(similarity_matrix(head, texts, videos), similarity_matrix(back, texts, videos))


def test_weights_are_copied_out_of_the_head(tmp_path: Path) -> None:
    head, path = saved(tmp_path)
    before: dict[str, Tensor] = load_file(path / "head.safetensors")
    for parameter in head.parameters():
        parameter.data.zero_()
    assert all(torch.equal(value, before[name]) for name, value in load_run(path)[0].state_dict().items())
