"""A head and a store brought together: the head as wide as the features, the recipe, and the splits that it needs."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from lab.device import pick_device
from lab.embeddings import Texts, Videos
from lab.errors import LabError
from lab.heads import build_head, head_class, head_keywords
from lab.needs import Needs
from lab.reads import load_split
from lab.runs import Run, sections
from lab.store import Store
from lab.store.find import pass_command
from lab.training.loop import train
from lab.training.recipe import DEFAULT, Recipe, plan
from lab.training.stages import History

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Task:
    """What ``loop.train`` takes, made from a store; ``validation`` is None where that has no such split."""

    store: Store
    protocol: str
    name: str
    keywords: dict[str, Any]
    head: nn.Module
    recipe: Recipe
    training: tuple[Texts, Videos]
    validation: tuple[Texts, Videos] | None
    same_text: Tensor | None


def prepare(
    store: Store,
    name: str,
    *,
    protocol: str | None = None,
    preset: str = DEFAULT,
    recipe: Mapping[str, Any] | None = None,
    keywords: Mapping[str, Any] | None = None,
    device: str = "auto",
) -> Task:
    """A new head ``name`` and the splits ``train`` and ``val``, with settings in place of a preset's where given.

    Raises ``LabError`` for settings and stores that do not do.
    """
    protocol = protocol or store.protocols[0]
    how, known = plan_for(store, name, protocol, preset=preset, recipe=recipe, keywords=keywords)
    head, known = head_for(store, name, known, how.seed)
    options: dict[str, Any] = {"needs": Needs.of(head, audio_level=how.audio_level), "device": pick_device(device)}
    training = load_split(store, "train", protocol, **options)
    validation = load_split(store, "val", protocol, **options) if "val" in store.splits_of(protocol) else None
    if validation is None:
        log.warning("%s has no split 'val' to choose an epoch by: the last one is kept", store.path)
    same = same_texts(store, training[0]) if how.twins == "positives" else None
    return Task(store, protocol, name, known, head, how, training, validation, same)


def plan_for(store: Store, name: str, protocol: str, **given: Any) -> tuple[Recipe, dict[str, Any]]:
    """``recipe.plan`` with the logit scale of the store's backbone."""
    scale = store.passport.get("text", {}).get("logit_scale")
    return plan(name, protocol=protocol, logit_scale=scale, **given)


def head_for(store: Store, name: str, keywords: Mapping[str, Any], seed: int = 0) -> tuple[nn.Module, dict[str, Any]]:
    """A new head as wide as a store's features, and its keywords: ``audio_dim`` is the store's where it is not given.

    Raises ``LabError`` for keywords that the head refuses, and for a store without frames.
    """
    if "frames" not in store.passport:
        raise LabError(f"{store.path} holds no frames: add them with {pass_command(store, 'frames')}")
    known = dict(keywords)
    if "audio_dim" in head_keywords(head_class(name)) and "audio" in store.passport:
        known.setdefault("audio_dim", store.array("audio").shape[1])
    torch.manual_seed(seed)  # a head may begin with random weights
    try:
        return build_head(name, store.array("frames").shape[2], **known), known
    except (TypeError, ValueError) as error:
        raise LabError(f"head '{name}' refuses its keywords: {error}") from None


def same_texts(store: Store, texts: Texts) -> Tensor:
    """(T,) int64: captions of the same words share a number, whatever their case and spacing."""
    if texts.rows is None:
        raise ValueError("these texts are of no store")
    numbers: dict[str, int] = {}
    words = (" ".join(store.captions[row]["text"].lower().split()) for row in texts.rows.tolist())
    return torch.tensor([numbers.setdefault(text, len(numbers)) for text in words], device=texts.sentences.device)


@dataclass(frozen=True)
class Trained:
    """A head that was trained on a store, its epochs, and what ``lab.runs.save_run`` writes down."""

    head: nn.Module
    history: History
    run: Run


def train_on(task: Task, *, capture: bool = True) -> Trained:
    """Trains what ``prepare`` made. Raises what ``train`` raises."""
    begun, head = time.perf_counter(), task.head
    options: dict[str, Any] = {"validation": task.validation, "same_text": task.same_text, "capture": capture}
    history = train(head, *task.training, task.recipe, **options)
    return Trained(head, history, run_of(task, history, time.perf_counter() - begun))


def run_of(task: Task, history: History, seconds: float) -> Run:
    """What is written down of a training that took so many seconds."""
    return Run(
        head=task.name,
        keywords=task.keywords,
        dim=task.training[0].dim,
        dataset=task.store.name,
        protocol=task.protocol,
        store=str(task.store.path),
        passport=sections(task.store, task.head),
        recipe=asdict(task.recipe),
        kept=asdict(history.kept),
        chosen="last epoch, for want of a validation split" if task.validation is None else "best epoch on validation",
        parameters=sum(parameter.numel() for parameter in task.head.parameters()),
        seconds=seconds,
    )
