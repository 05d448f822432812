"""The step of training: equal to the plain loop to the bit, never looked at, and the same when it is replayed.

No GPU is needed: a tape of the operations stands in for a CUDA graph, and fake tensors for those of a GPU.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from taped import Tape
from test_train import head_of
from torch import Tensor, nn
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from turned import SOUND, D, V, toy

import lab.training.capture
import lab.training.loop
from lab.embeddings import RaggedWords, Texts, Videos, unseen
from lab.errors import LabError
from lab.heads import HEADS, build_head
from lab.needs import needed
from lab.training.capture import WARM, WIDTH, CudaGraphs, Replayed, recorder_for
from lab.training.loop import schedule, train
from lab.training.loss import Truth, contrastive_loss
from lab.training.recipe import Recipe
from lab.training.stages import Stage, only, stages_of
from lab.training.step import MAX_LOG_SCALE, Step

TRAINED = [name for name in HEADS if any(True for _ in head_of(name).parameters())]
HOW = Recipe(epochs=3, batch=10, lr=1e-2, audio_lr=1e-2, scale_lr=1e-3, logit_scale=10, seed=4)
PER_EPOCH = math.ceil(2 * V / HOW.batch)


def made(name: str, how: Recipe = HOW, **keywords: Any) -> tuple[nn.Module, Stage, nn.Parameter, Step]:
    """A head, its last stage, the scale and the stage's step, all as the training makes them."""
    texts, videos = toy()
    head = head_of(name, **keywords)
    stage = stages_of(head, how)[-1]
    scale = nn.Parameter(torch.tensor(how.logit_scale).log())
    total = how.epochs * PER_EPOCH
    shares = torch.tensor([schedule(step, total, how.warmup) for step in range(total)], dtype=torch.float64)
    texts, videos = needed(stage.module, texts, videos)
    assert texts.video is not None
    return head, stage, scale, Step(stage, texts, videos, Truth(texts.video, V, None), scale, how, shares)


def drive(name: str, recorder: Any = None, epochs: int = 3, **keywords: Any) -> tuple[list[float], dict[str, Tensor]]:
    """Losses of all steps and the weights in the end."""
    head, stage, scale, step = made(name, **keywords)
    steps, losses = Replayed(step, recorder), []
    counts = step.texts.words.counts if isinstance(step.texts.words, RaggedWords) else None
    torch.manual_seed(HOW.seed)
    with only(head, stage):
        for _ in range(epochs):
            order = torch.randperm(2 * V)
            step.begin(order)
            with steps.running():
                for rows in order.split(HOW.batch):
                    steps(len(rows), int(counts[rows].max()) if counts is not None else None)
            losses += step.losses.tolist()
    return losses, {**head.state_dict(), "scale": scale.detach()}


def plain(name: str, **keywords: Any) -> tuple[list[float], dict[str, Tensor]]:
    """The same by a loop as one would write it: rows cut on the host, rates and losses as Python numbers."""
    head, stage, scale, _ = made(name, **keywords)
    texts, videos = needed(stage.module, *toy())
    assert texts.video is not None
    groups = [
        {"params": stage.parameters, "rate": stage.lr, "weight_decay": HOW.weight_decay},
        {"params": [scale], "rate": HOW.scale_lr, "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, eps=1e-6, fused=True)
    truth, losses = Truth(texts.video, V, None), []
    torch.manual_seed(HOW.seed)
    with only(head, stage):
        for _ in range(HOW.epochs):
            for rows in torch.randperm(2 * V).split(HOW.batch):
                for group in optimizer.param_groups:
                    group["lr"] = group["rate"] * schedule(len(losses), HOW.epochs * PER_EPOCH, HOW.warmup)
                similarity = stage.module(texts.select(rows), videos.select(texts.video[rows]))
                loss = contrastive_loss(similarity, truth.of(rows), scale.exp())
                optimizer.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_([*stage.parameters, scale], HOW.clip_norm)
                optimizer.step()
                scale.data.clamp_(max=MAX_LOG_SCALE)
                losses.append(loss.item())
    return losses, {**head.state_dict(), "scale": scale.detach()}


def same(one: dict[str, Tensor], other: dict[str, Tensor], within: float = 0) -> bool:
    return one.keys() == other.keys() and all(torch.allclose(one[key], other[key], 0, within) for key in one)


@pytest.mark.parametrize("name", TRAINED)
def test_the_step_is_the_plain_loop_to_the_bit(name: str) -> None:
    losses, weights = drive(name)
    wanted, theirs = plain(name)
    assert len(losses) == 3 * PER_EPOCH
    assert losses == wanted
    assert same(weights, theirs)
    assert not same(weights, made(name)[0].state_dict() | {"scale": torch.tensor(10.0).log()})


# -- nothing is looked at --------------------------------------------------------------------------------------------


class Blind(TorchDispatchMode):
    """Refuses what a host that drives a GPU would have to wait for."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        waits = ("_local_scalar_dense", "nonzero", "masked_select", "is_nonzero", "equal", "_unique2")
        assert func.overloadpacket.__name__ not in waits, f"the host waits for {func}"
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("twins", ["ignored", "positives"])
@pytest.mark.parametrize("name", TRAINED)
def test_no_value_is_looked_at_within_an_epoch(name: str, twins: str) -> None:
    head, stage, _, step = made(name, replace(HOW, twins=twins))
    with pytest.raises(AssertionError, match="the host waits"), Blind():
        step.losses.sum().item()
    with only(head, stage), unseen(), Blind():
        step.begin(torch.randperm(2 * V))
        for size in (10, 10, 2):
            step(size, 3 if step.texts.words is not None else None)
    assert torch.isfinite(step.losses).all()


@pytest.mark.parametrize("name", [name for name in TRAINED if name != "seqlstm"])  # cuDNN has no fake of its own
def test_on_a_gpu_no_head_asks_for_a_value(name: str) -> None:
    """Tensors that have a GPU for a device and no values: to ask for one is an error."""
    with FakeTensorMode(), torch.device("cuda"):
        head = head_of(name).train()
        values = torch.randn(40, D)
        words = RaggedWords(values, torch.arange(10), torch.ones(10, dtype=torch.int64))
        mask = torch.ones(10, 3, dtype=torch.bool)
        with pytest.raises(DataDependentOutputException):
            bool(mask.all())
        texts = Texts(torch.randn(10, D), *words.pad(4), video=torch.arange(10))
        videos = Videos(torch.randn(10, 3, D), mask, torch.randn(10, 1, SOUND), mask[:, :1])
        found = head(texts, videos)
        assert texts.video is not None
        loss = contrastive_loss(found, Truth(texts.video, 10, None).of(torch.arange(10)), torch.ones(()))
        assert (loss.device.type, loss.shape) == ("cuda", ())


# -- recorded and replayed -------------------------------------------------------------------------------------------


class Tapes:
    """A recorder with tapes for graphs."""

    def __init__(self) -> None:
        self.tapes: list[Tape] = []
        self.epochs = 0

    @contextmanager
    def running(self) -> Iterator[None]:
        self.epochs += 1
        yield

    def __call__(self, work: Callable[[], None]) -> Callable[[], None]:
        self.tapes.append(Tape())
        with self.tapes[-1]:
            work()
        return self.tapes[-1].replay


@pytest.mark.parametrize("name", ["xpool", "cmfi", "seqtransf"])
def test_replayed_steps_are_plain_steps_to_the_bit(name: str) -> None:
    keywords = {"video": "xpool"} if name == "cmfi" else {}
    recorder = Tapes()
    losses, weights = drive(name, recorder, **keywords)
    wanted, theirs = drive(name, **keywords)
    assert losses == wanted
    assert same(weights, theirs)
    full = 3 * (PER_EPOCH - 1)  # the last batch of an epoch is smaller
    assert [tape.replays for tape in recorder.tapes] == [full - WARM]
    assert recorder.epochs == 3


def test_words_have_a_graph_for_each_width(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lab.training.capture, "WIDTH", 2)
    recorder = Tapes()
    losses, weights = drive("mgfi", recorder, epochs=3)
    wanted, theirs = drive("mgfi", epochs=3)
    assert len(recorder.tapes) == 1  # captions of up to three words: in every batch one has three, so all are four wide
    assert losses == pytest.approx(wanted, rel=1e-5)
    assert same(weights, theirs, 1e-4)
    head, stage, _, step = made("mgfi")
    seen: list[tuple[int, int | None]] = []
    steps = Replayed(step, lambda work: lambda: seen.append(work.args))  # type: ignore[arg-type, attr-defined]
    with only(head, stage):
        step.begin(torch.randperm(2 * V))
        for _ in range(WARM + 1):
            for width in (3, 5):
                step.at.zero_()
                steps(HOW.batch, width)
    assert WIDTH == 8
    assert seen == [(10, 4), (10, 6)]


def test_what_cannot_be_recorded_runs_plainly_and_says_so_once(caplog: pytest.LogCaptureFixture) -> None:
    class Refusing(Tapes):
        def __call__(self, work: Callable[[], None]) -> Callable[[], None]:
            raise RuntimeError("operation not permitted when stream is capturing\nand more")

    with caplog.at_level(logging.WARNING):
        losses, weights = drive("xpool", Refusing())
    assert (losses, same(weights, drive("xpool")[1])) == (drive("xpool")[0], True)
    assert [record.getMessage() for record in caplog.records] == [
        "the training step cannot be one CUDA graph (operation not permitted when stream is capturing): its operations "
        "are launched singly"
    ]


def test_a_recording_that_breaks_off_is_ended_everywhere(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """With stand-ins for torch's: to end a broken recording is an error, after which the allocator goes on with it."""
    done: list[Any] = []
    random = SimpleNamespace(clone_state=lambda: "before", graphsafe_set_state=done.append)

    @contextmanager
    def recording(*_: Any, **__: Any) -> Iterator[None]:
        try:
            yield
        except RuntimeError:
            raise RuntimeError("CUDA error: operation failed due to a previous error during capture") from None

    def ended(*pool: Any) -> None:
        done.append(("ended", pool))

    fakes = {
        "Stream": lambda device: SimpleNamespace(device_index=0, wait_stream=lambda _: None),
        "current_stream": lambda device: SimpleNamespace(wait_stream=lambda _: None),
        "stream": lambda _: nullcontext(),
        "graph_pool_handle": lambda: (0, 7),
        "CUDAGraph": object,
        "default_generators": [random],
        "graph": recording,
    }
    for name, fake in fakes.items():
        monkeypatch.setattr(torch.cuda, name, fake)
    monkeypatch.setattr(torch._C, "_cuda_endAllocateToPool", ended, raising=False)
    monkeypatch.setattr(torch._C, "_cuda_releasePool", lambda *pool: done.append(("released", pool)), raising=False)
    head, stage, _, step = made("xpool")
    steps = Replayed(step, CudaGraphs(torch.device("cuda", 0)))
    with only(head, stage), caplog.at_level(logging.WARNING), pytest.MonkeyPatch.context() as within, steps.running():
        step.begin(torch.randperm(2 * V))
        for _ in range(WARM):
            steps(2), steps(HOW.batch), step.at.zero_()
        calls = iter(["raises"])

        def looks(*_: Any) -> None:
            if next(calls, None):
                raise RuntimeError("operation not permitted when stream is capturing")

        within.setattr(step.optimizer, "zero_grad", looks)
        try:
            raise ValueError("what is being handled has nothing to do with it")
        except ValueError:
            steps(HOW.batch)
    assert done == ["before", ("ended", (0, (0, 7))), ("released", (0, (0, 7)))]
    assert "one CUDA graph (operation not permitted when stream is capturing):" in caplog.text
    assert int(step.done) == 2 * WARM + 1


def test_what_is_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    class Own(nn.Module):
        pass

    class Said(nn.Module):
        capturable = True

    monkeypatch.setattr(lab.training.capture, "CudaGraphs", lambda device: device)
    gpu = torch.device("cuda", 0)
    for name in HEADS:
        assert recorder_for(build_head(name, D), gpu) == gpu
        assert recorder_for(build_head(name, D), torch.device("cpu")) is None
    assert recorder_for(nn.Sequential(Own()), gpu) is None
    assert recorder_for(Said(), gpu) == gpu


def test_training_goes_through_the_recorder(monkeypatch: pytest.MonkeyPatch) -> None:
    texts, videos = toy()
    recorder = Tapes()
    monkeypatch.setattr(lab.training.loop, "recorder_for", lambda module, device: recorder)
    heads = [build_head("xpool", D) for _ in range(2)]
    for head, capture in zip(heads, (True, False), strict=True):
        train(head, texts, videos, HOW, validation=(texts, videos), capture=capture)
    assert same(heads[0].state_dict(), heads[1].state_dict())
    assert recorder.epochs == HOW.epochs
    assert len(recorder.tapes) == 1


def test_a_gpu_without_memory_is_one_line_with_a_remedy() -> None:
    class Greedy(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(1))

        def forward(self, texts: Texts, videos: Videos) -> Tensor:
            raise torch.OutOfMemoryError(
                "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has more to say. And more."
            )

    with pytest.raises(LabError) as error:
        train(Greedy(), *toy(), Recipe(batch=32))
    assert str(error.value) == (
        "the GPU's memory does not hold a step of batch=32 (CUDA out of memory. Tried to allocate 2.00 GiB): use --set "
        "batch=16, which leaves a pair fewer negatives, or --device cpu"
    )
