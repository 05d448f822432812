"""What can be known of the paths of a GPU without one: one device alone, no wait where none may be, a CPU's results.

See ``pretend_gpu``. Not shown here: streams and what overlaps, graphs of CUDA, kernels and their speed, memory, and
seqlstm, whose kernels are cuDNN's alone. ``test_gpu`` asks a real one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_backbones as tiny
import torch
from pretend_gpu import GPU, Pretence, Pretended, pretended_gpu
from taped import Tape
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves
from turned import SOUND, D, V, toy

import lab.training.loop
import lab.training.stacked
from lab.backbones import load_clip
from lab.backbones.panns import load_panns
from lab.device import pick_device
from lab.embeddings import RaggedWords, Texts, Videos
from lab.heads import HEADS as ALL
from lab.heads import build_head
from lab.heads.sweep import sweep
from lab.needs import needed
from lab.similarity import similarity_matrix
from lab.training.course import Course, course_of
from lab.training.lifted import StackedStep
from lab.training.loop import train
from lab.training.loss import Truth
from lab.training.recipe import Recipe
from lab.training.stacked import Member, train_stack
from lab.training.stages import History, Stage, only, stages_of
from lab.training.step import Step

pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU: see test_gpu.py")

DROPOUT = {"dropout": 0.0}
HEADS: dict[str, dict[str, Any]] = {
    "mean": {"projection": "linear"},
    "topk": {"projection": "linear", "top_k": 2},
    "softmax": {"projection": "linear"},
    "seqtransf": {"layers": 2},
    "xpool": DROPOUT,
    "sf": DROPOUT,
    "wf": DROPOUT,
    "mgfi": DROPOUT,
    "cmfi": {"audio_dim": SOUND, "video": "wf", "video_keywords": DROPOUT},
}
HOW = Recipe(epochs=2, batch=24, lr=1e-3, audio_lr=1e-3, logit_scale=10, seed=4, precision="fp32")
MEMBERS = 16
every_head = pytest.mark.parametrize("name", HEADS)
every_batch = pytest.mark.parametrize(
    ("name", "ragged"),
    [*((name, True) for name in HEADS), *((name, False) for name in ("wf", "mgfi", "cmfi"))],  # those that read words
)


def head_of(name: str, device: str = "cpu", **keywords: Any) -> nn.Module:
    torch.manual_seed(1)
    return build_head(name, D, **HEADS[name] | keywords).to(device)


def features(device: str, *, ragged: bool = True) -> tuple[Texts, Videos]:
    """Videos of one to three frames, a fifth of them without sound; words ragged, or padded by hand."""
    texts, videos = toy(padded=True)
    if not ragged and isinstance(texts.words, RaggedWords):
        words, mask = texts.words.pad()
        texts = replace(texts, words=words, word_mask=mask)
    return texts.to(device), videos.to(device)


def widths(texts: Texts, order: Tensor, batch: int) -> Iterator[tuple[int, int | None]]:
    """Sizes of batches, the last one smaller, and how long their longest text is, from what the host knows."""
    counts = texts.words.counts.cpu() if isinstance(texts.words, RaggedWords) else None
    for rows in order.split(batch, -1):
        yield rows.shape[-1], int(counts[rows].max()) if counts is not None else None


@pytest.fixture(autouse=True)
def one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """CUDA graphs are the driver's; ``Graph`` below does what can be done without it."""
    for module in (lab.training.loop, lab.training.stacked):
        monkeypatch.setattr(module, "recorder_for", lambda *_: None)


# -- the pretence itself -----------------------------------------------------------------------------------------------


def test_the_pretence_refuses_and_notes_what_a_gpu_would() -> None:
    """So that the tests below can fail."""
    waits: dict[str, Callable[[Tensor, Tensor], Any]] = {
        "_local_scalar_dense": lambda gpu, cpu: gpu.sum().item(),
        "nonzero": lambda gpu, cpu: (gpu > 0).nonzero(),
        "copy_ between host and GPU": lambda gpu, cpu: gpu.copy_(cpu),
        "_to_copy between host and GPU": lambda gpu, cpu: gpu.tolist(),
        "index by rows on the host": lambda gpu, cpu: gpu[torch.arange(2)],
        "index by a mask": lambda gpu, cpu: gpu[gpu > 0],
        "repeat_interleave": lambda gpu, cpu: gpu.repeat_interleave((gpu > 0).long()),
    }
    with pretended_gpu() as gpu:
        here, there = torch.randn(5), torch.randn(5, device="cuda")
        assert (pick_device("auto").type, there.device, (there + 1).device) == ("cuda", GPU, GPU)
        for wrong in (lambda: there + here, lambda: torch.cat([there, here]), lambda: torch.dot(there, here)):
            with pytest.raises(RuntimeError, match="same device"):
                wrong()
        gpu.taken()
        for name, work in waits.items():
            work(there, here)
            assert name in gpu.taken()[1]
        there.copy_(here.pin_memory(), non_blocking=True)
        torch.zeros(5, pin_memory=True).copy_(there, non_blocking=True)
        assert gpu.taken()[1] == []
        torch.zeros(5, pin_memory=True, dtype=torch.float64).copy_(there, non_blocking=True)  # by way of another copy
        assert there.mul(torch.tensor(2.0)).device == GPU
        done, found = gpu.taken()
        assert (found, gpu.numbers["mul"]) == (["copy_ between host and GPU"], 1)
        assert [(each.name, each.read, each.written) for each in done] == [("mul", 20, 20)]  # copies are no kernels


def test_its_gradients_are_autograds() -> None:
    def slopes(device: str) -> list[Tensor]:
        torch.manual_seed(0)
        first, bias, rows = (torch.randn(*shape).to(device).requires_grad_() for shape in ((3, 5), (5,), (2, 3)))
        hidden = rows @ first + bias
        (hidden.softmax(-1) * hidden.T[:, :1].mT * first.sum(0)).square().sum().backward()
        return [each.grad.cpu() for each in (first, bias, rows) if each.grad is not None]

    wanted = slopes("cpu")
    with pretended_gpu():
        found = slopes("cuda")
    assert len(found) == 3
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other)


# -- a step ------------------------------------------------------------------------------------------------------------


def steps_of(name: str, device: str, *, ragged: bool, stage: int = -1, how: Recipe = HOW) -> tuple[Stage, Step]:
    head = head_of(name, device)
    chosen = stages_of(head, how)[stage]
    texts, videos = needed(chosen.module, *features(device, ragged=ragged))
    assert texts.video is not None
    scale = nn.Parameter(torch.tensor(2.0, device=device))
    return chosen, Step(chosen, texts, videos, Truth(texts.video, V, None), scale, how, torch.linspace(0.1, 1, 12))


def run(device: str, name: str, stage: Stage, step: Step, gpu: Pretence | None = None) -> list[float]:
    losses = []
    with only(stage.module, stage):
        torch.manual_seed(HOW.seed)
        for _ in range(2):
            order = torch.randperm(2 * V)
            sizes = list(widths(step.texts, order, HOW.batch))
            if gpu is not None:
                gpu.taken()
            step.begin(order)
            for size, width in sizes:
                step(size, width)
                step.arrived()
            if gpu is not None:
                done, waits = gpu.taken()
                assert waits == []
                assert gpu.numbers.total() == 0
                assert len(done) > 100
            losses += step.losses.tolist()
    return losses


@every_batch
def test_a_step_waits_for_nothing_and_is_the_cpus(name: str, ragged: bool) -> None:
    for stage in (0, 1) if name == "cmfi" else (0,):
        wanted = run("cpu", name, *steps_of(name, "cpu", ragged=ragged, stage=stage))
        with pretended_gpu() as gpu:
            chosen, step = steps_of(name, "cuda", ragged=ragged, stage=stage)
            assert step.optimizer.defaults["capturable"]
            assert all(isinstance(group["lr"], Pretended) for group in step.optimizer.param_groups)
            assert run("cuda", name, chosen, step, gpu) == pytest.approx(wanted, rel=1e-4)
            state = [each for kept in step.optimizer.state.values() for each in kept.values()]
            assert all(isinstance(each, Pretended) for each in [*state, *step.trained, *(p.grad for p in step.trained)])
        assert len(set(wanted)) == 6


@every_head
def test_a_step_in_bf16_with_dropout_waits_for_nothing(name: str) -> None:
    """``auto`` is bf16 on a GPU, and its losses are near those of float32."""
    wanted = run("cpu", name, *steps_of(name, "cpu", ragged=True))
    with pretended_gpu() as gpu:
        chosen, step = steps_of(name, "cuda", ragged=True, how=replace(HOW, precision="auto"))
        found = run("cuda", name, chosen, step, gpu)
        for part in chosen.module.modules():
            if isinstance(part, nn.Dropout):
                part.p = 0.5
        assert np.isfinite(run("cuda", name, chosen, step, gpu)).all()
    assert step.bf16
    assert found != pytest.approx(wanted, rel=1e-6)
    assert found == pytest.approx(wanted, rel=2e-2)


class Graph(Tape):
    """A recorder that is its own tape, of tensors that pretend."""

    def __init__(self, gpu: Pretence) -> None:
        super().__init__()
        self.gpu = gpu

    def __call__(self, work: Callable[[], None]) -> Callable[[], None]:
        self.gpu.taken()
        self.gpu.capturing = True
        with self:
            work()
        self.gpu.capturing = False
        assert self.gpu.taken()[1] == []  # in a recording each would be an error
        return self.replay

    def held(self, found: Any) -> list[Tensor]:
        return [each.here for each in tree_leaves(found) if isinstance(each, Pretended)]

    @contextmanager
    def running(self) -> Iterator[None]:
        yield


def test_a_training_is_the_cpus_and_waits_between_epochs_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """With steps that are recorded once and replayed, by AdamW's part for graphs, and validation on the device."""
    how = replace(HOW, batch=12, epochs=3)
    alone = train(head_of("mgfi"), *features("cpu"), how, validation=features("cpu"))
    with pretended_gpu() as gpu:
        graphs: list[Graph] = []

        def recorder(*_: Any) -> Graph:
            graphs.append(Graph(gpu))
            return graphs[-1]

        monkeypatch.setattr(lab.training.loop, "recorder_for", recorder)
        head, (texts, videos) = head_of("mgfi"), features("cuda")
        found = train(head, texts, videos, how, validation=(texts, videos))
        assert all(isinstance(weight, Pretended) for weight in head.parameters())
    (graph,) = graphs
    assert graph.replays == 3 * 5 - 3  # the first three steps run plainly, and so does the last of each epoch
    assert [each.loss for each in found.epochs] == pytest.approx([each.loss for each in alone.epochs], rel=1e-4)
    assert [each.metrics for each in found.epochs] == [each.metrics for each in alone.epochs]
    assert found.kept.epoch == alone.kept.epoch


# -- many at once ------------------------------------------------------------------------------------------------------


def courses_of(name: str, device: str) -> list[Course]:
    recipes = [replace(HOW, lr=1e-3 * (1 + i / MEMBERS), weight_decay=i / 100, seed=i) for i in range(MEMBERS)]
    return [course_of(head_of(name), how, torch.device(device), number=i) for i, how in enumerate(recipes)]


def run_stack(
    name: str, device: str, *, ragged: bool, stage: int = 0, gpu: Pretence | None = None
) -> list[list[float]]:
    """Losses of an epoch of all, and of another one of those that are kept."""
    courses, losses = courses_of(name, device), []
    with ExitStack() as fixed:
        for course in courses:
            fixed.enter_context(only(course.head, course.stages[stage]))
            course.begin(course.stages[stage], 2 * V)
        texts, videos = needed(courses[0].stages[stage].module, *features(device, ragged=ragged))
        assert texts.video is not None
        shares = torch.ones(6, MEMBERS)
        step = StackedStep(courses, texts, videos, Truth(texts.video, V, None), shares)
        torch.manual_seed(0)
        for kept in (range(MEMBERS), [1, 5, 11]):
            if len(kept) < MEMBERS:
                step.keep(kept)
            orders = torch.stack([torch.randperm(2 * V) for _ in range(MEMBERS)])[list(kept)]
            step.begin(orders)
            for size, width in list(widths(texts, orders, HOW.batch)):
                if gpu is not None:
                    gpu.taken()
                step(size, width)
                if gpu is not None:
                    assert gpu.taken()[1] == []
            losses += step.losses.tolist()
        if gpu is not None:
            state = [each for own in step.optimizer.state.values() for each in own.values()]
            parts = [
                *state,
                *step.stacks,
                *(each.grad for each in step.stacks),
                *(each for own in step.slices for each in own),
            ]
            assert all(isinstance(each, Pretended) for each in parts)
            assert len(step.optimizer.state) == 3 * len(step.slices[0])
            assert set(gpu.numbers) <= {"div"}  # the loss by its size, of which torch.vmap makes a tensor
    return losses


@every_batch
def test_a_stacked_step_waits_for_nothing_and_is_the_cpus(name: str, ragged: bool) -> None:
    for stage in (0, 1) if name == "cmfi" else (0,):
        wanted = run_stack(name, "cpu", ragged=ragged, stage=stage)
        with pretended_gpu() as gpu:
            found = run_stack(name, "cuda", ragged=ragged, stage=stage, gpu=gpu)
        assert [len(row) for row in found] == [MEMBERS] * 3 + [3] * 3
        for one, other in zip(found, wanted, strict=True):
            assert one == pytest.approx(other, rel=1e-3)


def test_a_stacks_dropout_is_one_draw_of_its_rates() -> None:
    members = [Member(head_of("xpool", dropout=rate), replace(HOW, epochs=1)) for rate in (0.0, 0.5)]
    with pretended_gpu() as gpu:
        outcomes = dict(train_stack(members, *features("cuda")))
        assert sum(each.name == "rand" for each in gpu.taken()[0]) == 1 + 3  # one to see that it can be stacked
    texts, videos = features("cpu")
    alone = train(head_of("xpool"), texts, videos, replace(HOW, epochs=1))
    first, second = outcomes[0], outcomes[1]
    assert isinstance(first, History)
    assert isinstance(second, History)
    assert first.epochs[0].loss == pytest.approx(alone.epochs[0].loss, rel=1e-4)
    assert second.epochs[0].loss != pytest.approx(alone.epochs[0].loss, rel=1e-4)


def test_a_stack_that_loses_a_member_is_the_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its steps are recorded, and anew for those that are left."""
    how = replace(HOW, batch=12)

    def whole(device: str) -> dict[int, Any]:
        texts, videos = features(device)
        members = [Member(head_of("xpool"), replace(how, lr=1e-3 * (1 + i), seed=i)) for i in range(3)]
        told = train_stack(
            members, texts, videos, validation=(texts, videos), on_epoch=lambda epoch, _: [1] if epoch == 1 else []
        )
        return {n: [each.loss for each in end.epochs] if isinstance(end, History) else end for n, end in told}

    wanted, graphs = whole("cpu"), []
    with pretended_gpu() as gpu:
        monkeypatch.setattr(lab.training.stacked, "recorder_for", lambda *_: graphs.append(Graph(gpu)) or graphs[-1])
        found = whole("cuda")
    assert [graph.replays for graph in graphs] == [2, 2]
    assert (found[1], wanted[1]) == (None, None)
    for number in (0, 2):
        assert found[number] == pytest.approx(wanted[number], rel=1e-4)


# -- scoring -----------------------------------------------------------------------------------------------------------

#: What scoring waits for, whatever the size: frames that are there, two sums that are finite, the order of texts.
ENTRY = ["nonzero", "_to_copy between host and GPU", *["_local_scalar_dense"] * 2, "_to_copy between host and GPU"]


@every_head
def test_scoring_is_the_cpus_and_waits_at_its_ends(name: str) -> None:
    texts, videos = features("cpu")
    wanted = similarity_matrix(head_of(name), texts, videos)
    with pretended_gpu() as gpu:
        head, (texts, videos) = head_of(name, "cuda"), features("cuda")
        gpu.taken()
        similarity_matrix(head, texts, videos, to="cuda")
        whole = gpu.taken()[1]
        found = [similarity_matrix(head, texts, videos)]
        assert sorted(gpu.taken()[1]) == sorted([*whole, "_to_copy between host and GPU"])  # the result, once
        found.append(similarity_matrix(head, texts, videos, tile=7, to="cuda"))
        in_tiles = gpu.taken()[1]
        found.append(similarity_matrix(head, texts, videos, memory_mb=0.05, to="cuda"))  # a few videos at a time
    if not getattr(head, "needs_words", False) and not getattr(head, "needs_audio", False):
        assert sorted(whole) == sorted(ENTRY)
    assert in_tiles == whole  # nothing for a tile
    for each in found:
        torch.testing.assert_close(_host(each), wanted, atol=1e-5, rtol=0)


def _host(values: Tensor) -> Tensor:
    return values.here if isinstance(values, Pretended) else values


@pytest.mark.parametrize("normalize", [True, False])
def test_a_sweep_is_the_cpus_on_the_one_device(normalize: bool) -> None:
    """It asks some values for each part, by which it takes shorter ways, all of them at once."""
    settings: dict[str, Sequence[Any]] = {"top_k": [1, 2, 3], "temperature": [0.01, 1.0, math.inf]}
    wanted = list(sweep(build_head("mean", D, normalize=normalize), *features("cpu"), **settings, tile=40))  # type: ignore[arg-type]
    found, waits = [], []
    with pretended_gpu() as gpu:
        head = build_head("mean", D, normalize=normalize).to("cuda")
        for tile in sweep(head, *features("cuda"), **settings, tile=40):  # type: ignore[arg-type]
            found.append(tile)
            waits.append(gpu.taken()[1])
    assert len(found) == 2
    assert len(waits[1]) == 1
    for (rows, one), (_, other) in zip(found, wanted, strict=True):
        assert isinstance(one, Pretended)
        assert one.shape == (6, len(rows), V)
        torch.testing.assert_close(one.here, other, atol=1e-5, rtol=0)


# -- encoders ----------------------------------------------------------------------------------------------------------

#: How far vectors are from those of a CPU, whose kernels round elsewhere.
APART = {"fp32": 1e-5, "fp16": 2e-2, "bf16": 2e-1}


@pytest.mark.parametrize("precision", APART)
def test_clip_waits_for_its_vectors_alone(precision: str, tmp_path: Path) -> None:
    spec = f"{tiny.config(tmp_path, tiny.CLIP)}:random"
    pictures = np.random.default_rng(0).integers(0, 256, (7, 40, 40, 3), dtype=np.uint8)
    texts = ["a dog barks", "", "a man runs over the street"]
    cpu = load_clip(spec, batch=5, text_batch=2, precision=precision)
    wanted, told = cpu.encode_frames(pictures), cpu.encode_texts(texts)
    with pretended_gpu() as gpu:
        clip = load_clip(spec, device="cuda", batch=5, text_batch=2, precision=precision)
        weight = next(each for each in clip._visual.parameters() if each.ndim == 4)
        assert weight.is_contiguous(memory_format=torch.channels_last)
        gpu.taken()
        fetch = clip.launch_frames(pictures)
        assert clip.normalise(pictures).is_contiguous(memory_format=torch.channels_last)
        found = clip.encode_texts(texts)
        assert gpu.taken()[1] == []
        assert gpu.numbers.total() == 0
        frames = fetch()
    for one, other in ((frames, wanted), (found.sentences, told.sentences), (found.words, told.words)):
        assert one.dtype == np.float32
        np.testing.assert_allclose(one, other, atol=APART[precision])


@pytest.mark.parametrize("precision", APART)
def test_panns_wait_for_their_vectors_alone(precision: str, tmp_path: Path) -> None:
    spec = f"{tiny.config(tmp_path, tiny.PANNS)}:random"
    sounds = [
        np.random.default_rng(i).normal(0, 0.1, size).astype(np.float32) for i, size in enumerate((100, 50_000, 99_000))
    ]
    wanted = load_panns(spec, precision=precision, window_s=1.0).launch(sounds)()  # type: ignore[union-attr]
    with pretended_gpu() as gpu:
        panns = load_panns(spec, device="cuda", precision=precision, window_s=1.0)
        assert panns is not None
        gpu.taken()
        fetch = panns.launch(sounds)
        assert gpu.taken()[1] == []
        assert gpu.numbers.total() == 0
        found = fetch()
    for one, other in zip(found, wanted, strict=True):
        for vectors, theirs in zip(one, other, strict=True):
            assert vectors.dtype == np.float32
            np.testing.assert_allclose(vectors, theirs, atol=APART[precision])


def test_every_head_that_can_be_trained_is_here() -> None:
    assert set(ALL) - set(HEADS) == {"seqlstm"}
