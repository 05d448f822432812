"""Training: the schedule, that something is learned, what is kept, and what a run that fails says."""

from __future__ import annotations

import math
import resource
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from turned import SOUND, D, V, alike, toy

from lab import cli
from lab.embeddings import Texts, Videos
from lab.errors import LabError
from lab.heads import HEADS, build_head
from lab.runs import find_run, load_run, read_run
from lab.similarity import similarity_matrix
from lab.store import open_store
from lab.train import main
from lab.training.course import require_falling, validate
from lab.training.loop import train
from lab.training.recipe import Recipe
from lab.training.stages import Stage


def head_of(name: str, **keywords: Any) -> nn.Module:
    torch.manual_seed(1)
    return build_head(name, D, **{"cmfi": {"audio_dim": SOUND, "video": "wf"}}.get(name, {}) | keywords)


# -- schedule --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("total", "warmup", "wanted"),
    [
        (10, 0.2, [1 / 2, 1, *(0.5 * (1 + math.cos(math.pi * k / 8)) for k in range(8))]),
        (
            4,
            0.0,
            [1, 1, 0.75, 0.25],
        ),  # a warm-up of one step is none; then cos(0), cos(60°), cos(120°) make 1, 3/4, 1/4
        (3, 1.0, [1 / 3, 2 / 3, 1]),
        (1, 0.1, [1]),
    ],
)
def test_the_rate_rises_and_falls(
    total: int, warmup: float, wanted: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seen from outside: the rates at which the optimiser steps, one batch an epoch."""
    rates: list[float] = []
    step = torch.optim.AdamW.step

    def noted(self: torch.optim.AdamW, *args: Any) -> Any:
        rates.append(float(self.param_groups[0]["lr"]))
        return step(self, *args)

    monkeypatch.setattr(torch.optim.AdamW, "step", noted)
    texts, videos = toy()
    recipe = Recipe(epochs=total, batch=2 * V, lr=0.5, warmup=warmup, logit_scale=5)
    train(build_head("xpool", D), texts, videos, recipe)
    assert rates == pytest.approx([0.5 * share for share in wanted])


# -- training --------------------------------------------------------------------------------------------------------


def test_the_loss_falls_and_the_ranks_improve() -> None:
    texts, videos = toy()
    head = build_head("xpool", D, dropout=0.0)
    before = validate(head, texts, videos)
    history = train(head, texts, videos, Recipe(epochs=16, lr=1e-2, logit_scale=10))
    after = validate(head, texts, videos)
    assert [epoch.epoch for epoch in history.epochs] == list(range(1, 17))
    assert history.epochs[-1].loss < history.epochs[0].loss / 4
    assert before["R@1"] < 25
    assert after["R@1"] > 75


@pytest.mark.parametrize("name", HEADS)
def test_every_head_trains_and_its_training_is_decided_by_the_seed(name: str) -> None:
    texts, videos = toy()
    runs = []
    for seed in (3, 3, 5):
        head = head_of(name)
        before = {key: value.clone() for key, value in head.state_dict().items()}
        how = Recipe(epochs=2, audio_epochs=1, seed=seed, lr=1e-3)
        history = train(head, texts, videos, how, validation=(texts, videos))
        runs.append(([epoch.loss for epoch in history.epochs], similarity_matrix(head, texts, videos)))
        assert not head.training
        after = head.state_dict()
        if before:
            assert any(not torch.equal(before[key], after[key]) for key in before)
            assert len(history.epochs) == (3 if name == "cmfi" else 2)
    assert torch.equal(runs[0][1], runs[1][1])
    if before:
        assert runs[0][0] == runs[1][0]
        assert runs[0][0] != runs[2][0]


def test_a_head_without_parameters_is_validated_and_nothing_else() -> None:
    texts, videos = toy()
    seen: list[tuple[int, dict[str, float]]] = []
    history = train(
        head_of("mean"), texts, videos, Recipe(), validation=(texts, videos), on_epoch=lambda *args: seen.append(args)
    )
    assert history.epochs == (history.kept,)
    assert history.kept.epoch == 0
    assert seen == [(0, history.kept.metrics)]
    assert history.kept.metrics == validate(head_of("mean"), texts, videos)


def test_features_are_not_written_to() -> None:
    texts, videos = toy()
    sentences, frames = texts.sentences.clone(), videos.frames.clone()
    train(build_head("xpool", D), texts, videos, Recipe(epochs=1))
    assert torch.equal(texts.sentences, sentences)
    assert torch.equal(videos.frames, frames)


def test_the_direct_loop_gives_the_same_losses() -> None:
    """The plainest loop that one could write, with torch's own parts and every batch made by hand."""
    texts, videos = toy()
    assert texts.video is not None
    how = Recipe(epochs=3, batch=10, lr=1e-2, scale_lr=1e-3, logit_scale=10, seed=4)
    history = train(build_head("xpool", D, dropout=0.0), texts, videos, how)
    head, scale = build_head("xpool", D, dropout=0.0), nn.Parameter(torch.tensor(10.0).log())
    optimizer = torch.optim.AdamW(
        [{"params": head.parameters()}, {"params": [scale], "weight_decay": 0.0}], weight_decay=0.2, eps=1e-6
    )
    torch.manual_seed(4)
    step, total = 0, 3 * 7
    for epoch in history.epochs:
        summed = 0.0
        for rows in torch.randperm(2 * V).split(10):
            share = (step + 1) / 2 if step < 2 else 0.5 * (1 + math.cos(math.pi * (step - 2) / (total - 2)))
            optimizer.param_groups[0]["lr"], optimizer.param_groups[1]["lr"] = 1e-2 * share, 1e-3 * share
            owner = texts.video[rows]
            logits = head(Texts(texts.sentences[rows]), Videos(videos.frames[owner])) * scale.exp()
            logits = logits.masked_fill((owner[:, None] == owner) & ~torch.eye(len(rows), dtype=torch.bool), -torch.inf)
            entropies = [-matrix.log_softmax(1).diagonal().mean() for matrix in (logits, logits.T)]
            loss = sum(entropies) / 2
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_([*head.parameters(), scale], 1.0)
            optimizer.step()
            summed += loss.item() * len(rows)
            step += 1
        assert epoch.loss == pytest.approx(summed / (2 * V), rel=1e-4)
        assert epoch.logit_scale == pytest.approx(scale.exp().item(), rel=1e-5) or epoch is not history.epochs[-1]


# -- what is kept ----------------------------------------------------------------------------------------------------


class Scripted(nn.Module):
    """A head whose rank on validation is what a script says for each epoch; its weight counts the epochs."""

    def __init__(self, qualities: list[float]) -> None:
        super().__init__()
        self.dim, self.qualities = D, qualities
        self.weight = nn.Parameter(torch.zeros(1))
        self.register_buffer("asked", torch.zeros((), dtype=torch.int64))

    def forward(self, texts: Texts, videos: Videos) -> Tensor:
        if self.training:
            return self.weight.expand(len(texts), len(videos))
        quality = self.qualities[int(self.asked)]
        self.asked += 1
        hit = torch.arange(len(texts)) < quality * len(texts)
        assert texts.video is not None
        return torch.eye(len(videos))[texts.video] * (2.0 * hit[:, None] - 1)


@pytest.mark.parametrize(
    ("qualities", "kept"), [([0.1, 0.5, 0.3], 2), ([0.5, 0.2, 0.5], 1), ([0.1, 0.2, 0.3], 3), ([0.0, 0.0, 0.0], 1)]
)
def test_the_best_epoch_on_validation_is_kept_and_of_equals_the_first(qualities: list[float], kept: int) -> None:
    texts, videos = toy()
    head = Scripted(qualities)
    history = train(head, texts, videos, Recipe(epochs=3), validation=(texts, videos))
    assert history.kept is history.epochs[kept - 1]
    assert int(head.asked) == kept  # the state of that epoch is back, buffers too


def test_without_validation_the_last_epoch_is_kept() -> None:
    texts, videos = toy()
    history = train(build_head("xpool", D), texts, videos, Recipe(epochs=3))
    assert history.kept is history.epochs[-1]
    assert history.kept.metrics == {}


def test_the_kept_weights_are_those_that_were_validated() -> None:
    texts, videos = toy()
    head = build_head("xpool", D, dropout=0.0)
    history = train(head, texts, videos, Recipe(epochs=4, lr=0.1, logit_scale=10), validation=(texts, videos))
    assert history.kept.metrics == validate(head, texts, videos)


def test_the_logit_scale_begins_at_no_more_than_100() -> None:
    texts, videos = toy()
    history = train(build_head("mean", D), texts, videos, Recipe(logit_scale=250))  # a head that takes no step
    assert history.kept.logit_scale == pytest.approx(100)


def test_the_logit_scale_is_held_at_100_against_its_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = Recipe(epochs=2, lr=1e-9, scale_lr=0.1, logit_scale=100, precision="fp32")
    held = train(build_head("mean", D, projection="linear"), *alike(), recipe)
    assert [epoch.logit_scale for epoch in held.epochs] == pytest.approx([100, 100])
    monkeypatch.setattr("lab.training.step.MAX_LOG_SCALE", math.inf)
    free = train(build_head("mean", D, projection="linear"), *alike(), recipe)
    assert free.epochs[-1].logit_scale == pytest.approx(100 * math.exp(0.2), rel=1e-3)  # two steps of 0.1


@pytest.mark.parametrize(("precision", "halved"), [("bf16", True), ("fp32", False), ("auto", False)])
def test_the_precision_is_that_of_the_heads_products(precision: str, halved: bool) -> None:
    """On a CPU auto is fp32. The loss is taken in float32 either way."""
    seen: set[torch.dtype] = set()

    class Noting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(D, D)

        def forward(self, texts: Texts, videos: Videos) -> Tensor:
            product = self.linear(texts.sentences) @ videos.frames.mean(1).T / 100
            if self.training:
                seen.add(product.dtype)
            return product

    texts, videos = toy()
    history = train(Noting(), texts, videos, Recipe(epochs=1, precision=precision), validation=(texts, videos))
    assert seen == {torch.bfloat16 if halved else torch.float32}
    assert math.isfinite(history.kept.loss)


def test_no_gradient_is_left() -> None:
    """It would take as much memory as the weights, for as long as the head lives."""
    texts, videos = toy()
    head = head_of("cmfi")
    train(head, texts, videos, Recipe(epochs=1, audio_epochs=1))
    assert all(parameter.grad is None for parameter in head.parameters())


def test_training_can_be_ended_from_outside() -> None:
    texts, videos = toy()
    seen: list[int] = []

    class EnoughError(Exception):
        pass

    def stop(epoch: int, metrics: dict[str, float]) -> None:
        seen.append(epoch)
        assert metrics["MnR"] >= 1
        if epoch == 2:
            raise EnoughError

    with pytest.raises(EnoughError):
        train(build_head("xpool", D), texts, videos, Recipe(epochs=9), validation=(texts, videos), on_epoch=stop)
    assert seen == [1, 2]


# -- stages ----------------------------------------------------------------------------------------------------------


def test_the_second_stage_trains_the_audio_side_alone() -> None:
    texts, videos = toy()
    head = head_of("cmfi", video="xpool")
    at: list[dict[str, Tensor]] = []
    train(
        head,
        texts,
        videos,
        Recipe(epochs=2, audio_epochs=2, lr=1e-3, audio_lr=1e-3),
        on_epoch=lambda *_: at.append({k: v.clone() for k, v in head.state_dict().items()}),
    )

    def changed(one: int, other: int) -> set[str]:
        return {name.split(".")[0] for name in at[one] if not torch.equal(at[one][name], at[other][name])}

    assert changed(0, 1) == {"video"}
    assert changed(1, 3) == {"norm", "linear"}
    assert all(parameter.requires_grad for parameter in head.parameters())


def test_the_second_stage_goes_on_from_the_first_ones_kept_epoch_whoever_trained_it() -> None:
    texts, videos = toy()
    recipe = Recipe(epochs=4, audio_epochs=2, lr=0.1, scale_lr=0.1, audio_lr=1e-3, logit_scale=10)
    one, two = head_of("cmfi", video="xpool"), head_of("cmfi", video="xpool")
    at_once = train(one, texts, videos, recipe, validation=(texts, videos))
    first = train(two, texts, videos, replace(recipe, audio_epochs=0), validation=(texts, videos))
    assert first.kept.epoch < 4  # else there would be nothing to go back to
    assert [epoch.epoch for epoch in at_once.epochs] == [1, 2, 3, 4, 5, 6]
    assert at_once.kept.stage == "audio"
    in_two = train(two, texts, videos, recipe, validation=(texts, videos), after=first)
    for mine, theirs in zip(at_once.epochs, in_two.epochs, strict=True):
        assert replace(mine, seconds=0) == replace(theirs, seconds=0)
    for name, value in one.state_dict().items():
        assert torch.equal(value, two.state_dict()[name]), name


def test_what_is_fixed_has_no_dropout() -> None:
    texts, videos = toy()

    class Watched(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.dim, self.modes = D, []
            self.video, self.linear = nn.Sequential(nn.Linear(D, D), nn.Dropout(0.5)), nn.Linear(D, D)

        def forward(self, texts: Texts, videos: Videos) -> Tensor:
            self.modes.append((self.training, self.video[1].training))
            return self.video(texts.sentences) @ self.linear(videos.frames.mean(1)).T / 100

    head = Watched()
    train(head, texts, videos, Recipe(epochs=1), parameters=head.linear.parameters())
    assert set(head.modes) == {(True, False)}


def test_given_parameters_are_trained_alone() -> None:
    texts, videos = toy()
    head = build_head("xpool", D)
    before = {name: value.clone() for name, value in head.named_parameters()}
    train(head, texts, videos, Recipe(epochs=1), parameters=head.query.parameters())
    changed = {name for name, value in head.named_parameters() if not torch.equal(before[name], value)}
    assert changed == {"query.weight", "query.bias"}


def test_sound_that_is_absent_from_a_whole_batch_is_no_obstacle() -> None:
    texts, videos = toy()
    silent = Videos(videos.frames, None, torch.full((V, 1, SOUND), torch.nan), torch.zeros(V, 1, dtype=torch.bool))
    head = head_of("cmfi")
    before = {name: value.clone() for name, value in head.linear.named_parameters()}
    train(head, texts, silent, Recipe(epochs=1, audio_epochs=1, weight_decay=0.0))
    assert all(torch.equal(before[name], value) for name, value in head.linear.named_parameters())


# -- what fails ------------------------------------------------------------------------------------------------------


def test_a_loss_that_is_not_finite_ends_the_run() -> None:
    texts, videos = toy()

    class Bursting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight, self.calls = nn.Parameter(torch.ones(1)), 0

        def forward(self, texts: Texts, videos: Videos) -> Tensor:
            self.calls += 1
            similarity = texts.sentences @ videos.frames[:, 0].T / 100 * self.weight
            return similarity * (float("nan") if self.calls == 5 else 1)

    with pytest.raises(LabError) as error:
        train(Bursting(), texts, videos, Recipe(epochs=3, lr=0.25))
    assert str(error.value) == "the loss or its gradient is nan at step 4: lower the rate, lr=0.25 diverges"


def test_a_loss_that_explodes_ends_the_run() -> None:
    _, videos = toy()
    texts = Texts(videos.frames.mean(1) + 0.5 * torch.randn(V, D), video=torch.arange(V))  # at home in one space
    said = r"the loss is \d\S+ after (14|21) steps, above twice that of guessing .*: lower the rate, lr=1 diverges"
    with pytest.raises(LabError, match=said):
        train(build_head("xpool", D), texts, videos, Recipe(epochs=3, batch=5, lr=1))


def test_a_loss_above_twice_that_of_guessing_may_fall_until_the_last_step() -> None:
    stage = Stage("all", nn.Identity(), [], 0.5, 1)
    require_falling(8.1, 8.2, 4.0, 10, 30, stage)
    require_falling(8.0, 7.0, 4.0, 30, 30, stage)
    for mean, before, step in ((8.1, 8.1, 10), (8.1, 7.0, 10), (8.1, 8.2, 30)):
        with pytest.raises(
            LabError, match=rf"^the loss is 8.1 after {step} steps, .*: lower the rate, lr=0.5 diverges"
        ):
            require_falling(mean, before, 4.0, step, 30, stage)


def test_features_that_are_not_finite_are_told_before_the_first_step() -> None:
    texts, videos = toy()
    broken = Videos(torch.where(torch.arange(V)[:, None, None] == 7, float("inf"), videos.frames))
    with pytest.raises(LabError, match="features must be finite where they are not masked"):
        train(build_head("xpool", D), texts, broken, Recipe(epochs=1))


def test_texts_must_name_their_videos() -> None:
    texts, videos = toy()
    with pytest.raises(ValueError, match="training texts must name their videos"):
        train(build_head("xpool", D), Texts(texts.sentences), videos, Recipe())
    with pytest.raises(ValueError, match="training needs at least one text, got none"):
        train(build_head("xpool", D), texts.select(torch.arange(0)), videos, Recipe())


# -- the command -----------------------------------------------------------------------------------------------------


def test_the_command_trains_and_saves_what_evaluates_to_the_same(
    full: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["xpool", "--store", str(full), "--runs", str(tmp_path), "--name", "mine"]
    settings = ["--set", "epochs=2", "--set", "batch=64", "--set", "dropout=0.1", "--set", "train.lr=1e-3"]
    assert cli.run(main, [*arguments, *settings]) == 0
    header, first, second, how, where = capsys.readouterr().out.splitlines()
    assert header.split() == "epoch stage loss val R@1 val R@5 val R@10 val MdR val MnR kept".split()  # noqa: SIM905
    assert [first.split()[:2], second.split()[:2]] == [["1", "all"], ["2", "all"]]
    assert how.endswith("kept is the best epoch on validation")
    assert where.startswith(f"saved as {tmp_path / 'mine'}; ")
    path = find_run("mine", tmp_path)
    assert path is not None
    store, run = open_store(full), read_run(path)
    assert (run.head, run.keywords, run.dim) == ("xpool", {"dropout": 0.1}, 7)
    assert (run.recipe["epochs"], run.recipe["lr"], run.recipe["logit_scale"]) == (2, 1e-3, 20.0)
    head, _ = load_run(path, store)
    assert validate(head, *store.load("val")) == run.metrics
    assert cli.run(main, [*arguments, *settings]) == 2  # before it trains
    assert "mine is there already: give the run another --name" in capsys.readouterr().err


def test_positive_twins_go_by_the_words_of_the_store(full: Path, tmp_path: Path) -> None:
    from lab.training.task import same_texts

    store = open_store(full)
    texts, _ = store.load("train", words=False)
    assert len(set(same_texts(store, texts).tolist())) == len(texts)  # the synthetic captions are all different
    store.captions[3]["text"] = f" {store.captions[1]['text'].upper()}  "
    assert same_texts(store, texts).tolist()[:5] == [0, 1, 2, 1, 3]
    assert main(["xpool", "--store", str(full), "--runs", str(tmp_path), "--set", "twins=positives",
                 "--set", "epochs=1", "--set", "batch=256"]) == 0  # fmt: skip


def test_weights_that_have_no_room_are_told_before_the_training(
    full: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    try:
        code = cli.run(main, ["xpool", "--store", str(full), "--runs", str(tmp_path)])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    err = capsys.readouterr().err
    assert (code, list(tmp_path.iterdir())) == (2, [])
    assert "raise the limit (ulimit -f)" in err
    assert "training" not in err


def test_a_store_without_validation_keeps_the_last_epoch_and_says_so(
    full: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    splits = type(open_store(full)).splits_of
    monkeypatch.setattr("lab.store.reader.Store.splits_of", lambda *a: tuple(s for s in splits(*a) if s != "val"))
    settings = ["--set", "epochs=2", "--set", "batch=512"]
    assert cli.run(main, ["xpool", "--store", str(full), "--runs", str(tmp_path), *settings]) == 0
    out, err = capsys.readouterr()
    assert "warning: " in err
    assert "has no split 'val' to choose an epoch by: the last one is kept" in err
    assert out.splitlines()[0].split() == ["epoch", "stage", "loss", "kept"]
    assert out.splitlines()[2].split()[-1] == "*"
    assert "kept is the last epoch, for want of a validation split" in out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["xpol"], "unknown head 'xpol': did you mean 'xpool'?"),
        (["xpool", "--preset", "papre"], "unknown preset 'papre': did you mean 'paper'? known: frozen, paper"),
        (["xpool", "--set", "dropuot=0.1"], "unknown setting 'dropuot': did you mean 'dropout'?"),
        (["xpool", "--set", "lr=fast"], "lr must be a number, got lr='fast'"),
        (["xpool", "--set", "dropout=2"], "head 'xpool' refuses its keywords: dropout probability has to be"),
        (["topk", "--set", "top_k=9"], "1 <= top_k <= 5 frames must hold, got top_k=9"),
        (["xpool", "--device", "cdua"], "unknown device 'cdua': did you mean 'cuda'? known: auto, cpu, cuda"),
        (["xpool", "--protocol", "few"], "there is no split 'train'"),
    ],
)
def test_a_mistake_is_one_line(
    full: Path, tmp_path: Path, arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(main, [*arguments, "--store", str(full), "--runs", str(tmp_path)]) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith(f"lab.train: error: {said}")
