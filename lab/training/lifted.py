"""One step for many members at once: heads of one build, their parameters stacked, under ``torch.vmap``.

A member stays a head of its own. Its parameters become slices of the stacks, so that whoever steps, validates or saves
a member works on the stack, and the other way round.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel

from lab.embeddings import Texts, Videos, unseen
from lab.training.course import Course
from lab.training.loss import Truth, contrastive_loss
from lab.training.step import MAX_LOG_SCALE, adamw, in_bf16, rates_of

TEXTS = ("sentences", "words", "word_mask")
VIDEOS = ("frames", "frame_mask", "audio", "audio_mask")
#: What every module has, which says nothing about how it was built.
_PLAIN = vars(nn.Module()).keys()


def build_of(head: nn.Module) -> list[Any] | None:
    """What must be equal (``==``) for two heads to be lifted together: all but weights and attributes that are floats.

    None for a head that has nothing to train or cannot be lifted.
    """
    if not any(parameter.requires_grad for parameter in head.parameters()) or obstacle(head):
        return None
    told: list[Any] = [(name, p.shape, p.dtype, p.requires_grad) for name, p in head.named_parameters()]
    for path, part in head.named_modules():
        told.append((path, type(part)))
        for name, value in _attributes(part):
            told.append((name, float if isinstance(value, float) or _rate(part, name) else value))
    return told


def obstacle(head: nn.Module) -> str:
    """What is known to forbid lifting a head; empty for most."""
    if any(isinstance(part, nn.RNNBase) for part in head.modules()):
        return "torch.vmap knows no recurrent layers"
    beside = [value for part in head.modules() for _, value in _attributes(part) if isinstance(value, Tensor)]
    if beside or next(head.buffers(), None) is not None:
        return "they hold tensors beside their parameters"
    return ""


def _attributes(part: nn.Module) -> Iterator[tuple[str, Any]]:
    yield from ((name, value) for name, value in sorted(vars(part).items()) if name not in _PLAIN)


def _rate(part: nn.Module, name: str) -> bool:
    return isinstance(part, nn.Dropout) and name == "p"


class Lifted:
    """K modules of one build as one.

    ``values`` are the stacked parameters (K, ...) by name, those in ``trained`` with gradients as the modules' own have
    them. Attributes that are floats (a temperature, a fusion weight) and rates of dropout may differ. On a CPU a member
    draws its dropout from its own of ``generators``, as it would alone.
    """

    def __init__(self, modules: Sequence[nn.Module], generators: Sequence[torch.Generator]) -> None:
        self.template, device = deepcopy(modules[0]), next(modules[0].parameters()).device
        for path, part in list(self.template.named_modules()):
            if type(part) is nn.Dropout:
                masks = Masks([float(module.get_submodule(path).p) for module in modules], generators, device)  # type: ignore[arg-type]
                parent, _, name = path.rpartition(".")
                setattr(self.template.get_submodule(parent), name, masks.train(part.training))
        self.knobs = {
            (path, name): torch.tensor(values, device=device)
            for path, part in modules[0].named_modules()
            for name, value in _attributes(part)
            if isinstance(value, float) and not _rate(part, name)
            for values in [[getattr(module.get_submodule(path), name) for module in modules]]
            if len(set(values)) > 1
        }
        own = [dict(module.named_parameters()) for module in modules]
        self.values: dict[str, Tensor] = {}
        for name, parameter in own[0].items():
            stack = torch.stack([each[name].detach() for each in own])
            for each, part in zip(own, stack, strict=True):
                each[name].data = part
            self.values[name] = stack.requires_grad_(parameter.requires_grad)
        self.trained = [name for name, value in self.values.items() if value.requires_grad]
        self.slices = [[each[name] for name in self.trained] for each in own]

    def similarity(self, texts: Texts, videos: Videos) -> Tensor:
        """Similarities (K, B, B) of K batches of B texts and B videos, which come one after another."""
        K = len(self.slices)
        columns = {name: getattr(texts, name) for name in TEXTS} | {name: getattr(videos, name) for name in VIDEOS}
        batches = {name: column.unflatten(0, (K, -1)) for name, column in columns.items() if column is not None}
        with unseen(), sdpa_kernel(SDPBackend.MATH):  # vmap knows no other attention on a CPU
            found: Tensor = torch.vmap(self._one)(self.values, self.knobs, batches)
        return found

    def _one(self, values: dict[str, Tensor], knobs: dict[tuple[str, str], Tensor], batch: dict[str, Tensor]) -> Tensor:
        for (path, name), value in knobs.items():
            setattr(self.template.get_submodule(path), name, value)
        texts = Texts(**{name: batch[name] for name in TEXTS if name in batch})
        videos = Videos(**{name: batch[name] for name in VIDEOS if name in batch})
        similarity: Tensor = functional_call(self.template, values, (texts, videos))
        return similarity


# -- a step ----------------------------------------------------------------------------------------------------------


class StackedStep:
    """``step.Step`` of K members: each with its own rows, rates, weight decay, gradient norm and scale.

    ``shares`` (steps of their stage, K) are what rates are multiplied by; ``losses`` (steps an epoch, K).
    """

    def __init__(self, courses: Sequence[Course], texts: Texts, videos: Videos, truth: Truth, shares: Tensor) -> None:
        self.courses, self.recipe = list(courses), courses[0].recipe
        self.texts, self.videos, self.truth = texts, videos, truth
        self.device = texts.sentences.device
        self.bf16 = in_bf16(self.recipe, self.device)
        self.rates = rates_of([(course.stage, course.recipe) for course in courses], shares, self.device)
        self.optimizer = adamw([(course.stage, course.recipe, course.scale) for course in courses], self.device)
        self.within = torch.arange(self.recipe.batch, device=self.device)
        self.at, self.done = (torch.zeros(1, dtype=torch.int64, device=self.device) for _ in range(2))
        self.loss = torch.vmap(partial(contrastive_loss, twins=self.recipe.twins))
        self.keep(range(len(self.courses)))

    def keep(self, numbers: Sequence[int]) -> None:
        """Goes on with some of the members. The optimiser keeps what it knows of them: their parameters are the same
        objects, only where their values lie is another place.
        """
        groups, gone = self.optimizer.param_groups, set(range(len(self.courses))) - set(numbers)
        for parameter in (p for k in gone for group in groups[2 * k : 2 * k + 2] for p in group["params"]):
            self.optimizer.state.pop(parameter, None)
        self.courses = [self.courses[k] for k in numbers]
        self.rates = self.rates[:, list(numbers)]
        self.rate = self.rates[0].clone()
        self.optimizer.param_groups = [group for k in numbers for group in groups[2 * k : 2 * k + 2]]
        for group, rate in zip(self.optimizer.param_groups, self.rate.flatten(), strict=True):
            group["lr"] = rate  # a view: written to before each step
        modules = [course.stage.module for course in self.courses]
        self.lifted = Lifted(modules, [course.chance for course in self.courses])
        self.scales = torch.stack([course.scale.detach() for course in self.courses])
        for course, part in zip(self.courses, self.scales, strict=True):
            course.scale.data = part
        self.scales.requires_grad_()
        self.stacks = [*(self.lifted.values[name] for name in self.lifted.trained), self.scales]
        self.slices = [[*own, each.scale] for own, each in zip(self.lifted.slices, self.courses, strict=True)]
        self.clip = torch.tensor([course.recipe.clip_norm for course in self.courses], device=self.device)
        steps = -(-len(self.texts) // self.recipe.batch)
        self.order = torch.zeros(len(numbers), len(self.texts), dtype=torch.int64, device=self.device)
        self.losses = torch.zeros(steps, len(numbers), device=self.device)

    def begin(self, orders: Tensor) -> None:
        """A new epoch, over the texts in each member's order (K, T)."""
        self.order.copy_(orders)
        self.at.zero_()
        self.losses.zero_()

    def __call__(self, size: int, width: int | None = None) -> None:
        """The next ``size`` texts of each member; ``width`` as for ``step.Step``."""
        rows = self.order[:, self.at * self.recipe.batch + self.within[:size]]
        self.rate.copy_(self.rates.index_select(0, self.done)[0])
        every = rows.flatten()
        texts = self.texts.select(every)
        texts = texts if width is None else texts.padded(width)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            similarity = self.lifted.similarity(texts, self.videos.select(self.truth.video[every]))
        loss = self.loss(similarity.float(), torch.vmap(self.truth.of)(rows), self.scales.exp())
        for each in self.stacks:
            each.grad = None
        loss.sum().backward()
        norm = self._clip([each.grad for each in self.stacks])
        self.optimizer.step()
        self.scales.detach().clamp_(max=MAX_LOG_SCALE)
        self.losses.index_copy_(0, self.at, (loss.detach() + 0 * norm)[None])
        self.at.add_(1)
        self.done.add_(1)

    def _clip(self, grads: list[Tensor | None]) -> Tensor:
        """Hands each member its gradients, clipped by their norm over all of its parameters: the norms (K,)."""
        there = [each for each in grads if each is not None]
        norms = [torch.linalg.vector_norm(each.reshape(len(each), -1), dim=1) for each in there]
        norm: Tensor = torch.linalg.vector_norm(torch.stack(norms), dim=0)
        share = (self.clip / (norm + 1e-6)).clamp(max=1)
        for each in there:
            each.mul_(share.view(-1, *(1,) * (each.ndim - 1)))
        for k, own in enumerate(self.slices):
            for parameter, grad in zip(own, grads, strict=True):
                parameter.grad = None if grad is None else grad[k]
        return norm


# -- dropout ---------------------------------------------------------------------------------------------------------


class Masks(nn.Module):
    """Dropout of members that train together, each with its own rate.

    On a CPU each draws from its own generator. On a GPU one draw is for all: K small ones would take longer than the
    rest of a step, and a graph that was recorded knows but one generator.
    """

    def __init__(self, rates: Sequence[float], generators: Sequence[torch.Generator], device: torch.device) -> None:
        super().__init__()
        self.rates, self.generators = list(rates), list(generators)
        self.left = 1 - torch.tensor(rates, device=device)

    def forward(self, values: Tensor) -> Tensor:
        """The values of one member, some of them zero and the others larger for it."""
        if not (self.training and any(self.rates)):
            return values
        mask: Tensor = _Drawn.apply(values, self.draw)
        return values * mask

    def draw(self, shape: Sequence[int], like: Tensor) -> Tensor:
        """Masks (K, ...)."""
        if like.is_cuda:
            return self.draw_all(shape, like)
        masks = like.new_empty(shape)
        for mask, rate, generator in zip(masks, self.rates, self.generators, strict=True):
            if 0 < rate < 1:
                mask.bernoulli_(1 - rate, generator=generator).div_(1 - rate)
            else:  # as torch's own dropout, which draws nothing then
                mask.fill_(1 - rate)
        return masks

    def draw_all(self, shape: Sequence[int], like: Tensor) -> Tensor:
        """Masks (K, ...) by one draw from the device's own generator."""
        left = self.left.view(-1, *(1,) * (len(shape) - 1))
        return ((torch.rand(shape, device=like.device) < left) / left.clamp_min(1e-6)).to(like.dtype)


class _Drawn(torch.autograd.Function):
    """What a draw looks like from inside ``torch.vmap``, which itself would draw for all members at once."""

    @staticmethod
    def forward(values: Tensor, draw: Callable[[Sequence[int], Tensor], Tensor]) -> Tensor:
        raise RuntimeError("dropout of members that train together, on what is the same for all of them")

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        ctx.mark_non_differentiable(output)

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], values: Tensor, draw: Any) -> tuple[Tensor, int]:
        return draw(values.movedim(in_dims[0] or 0, 0).shape, values), 0
