"""How fast a head is trained, beside a loop that fetches item by item and computes what the paper's equations say.

python benchmarks/train.py [--steps 100] [--rounds 5]

Synthetic features of MSVD's size (1,200 videos × 12 frames × 512), X-Pool, batch 32, dropout off, on the CPU. Both
loops take the same steps from the same weights: their losses must agree to 1e-4, or nothing is printed. Medians of
rounds in which both and the bare matrix products of ours are timed in turn. Writes benchmarks/results/train.json.
"""

from __future__ import annotations

import argparse
import math
import platform
import statistics
from collections.abc import Callable, Iterator
from unittest import mock

import envelope
import torch
from made import features, in_turns
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - its usual name
from torch.utils.data import DataLoader, Dataset

import lab.training.loop
import lab.training.step
from lab import Texts, Videos, build_head
from lab.training.recipe import Recipe

V, FRAMES, D, BATCH, AGREE = 1200, 12, 512, 32, 1e-4


# -- the loop to beat ------------------------------------------------------------------------------------------------


class Pairs(Dataset[tuple[Tensor, ...]]):
    """A caption with its video, one at a time, as the published loops have it."""

    def __init__(self, texts: Texts, videos: Videos) -> None:
        self.texts, self.videos = texts, videos

    def __len__(self) -> int:
        return len(self.texts)

    def __getitem__(self, row: int) -> tuple[Tensor, ...]:
        assert self.texts.video is not None
        assert self.videos.frame_mask is not None
        video = self.texts.video[row]
        return self.texts.sentences[row], self.videos.frames[video], self.videos.frame_mask[video], video


def direct(head: nn.Module, sentences: Tensor, frames: Tensor, mask: Tensor) -> Tensor:
    """X-Pool's equations 9 to 14 one by one, every pair's vector through W_O and FC."""
    query = head.query(head.norm_in(sentences))
    normed = head.norm_in(frames)
    logits = torch.einsum("td,vfd->tvf", query, head.key(normed)) / math.sqrt(D)
    attention = logits.masked_fill(~mask, float("-inf")).softmax(-1)
    pooled = head.norm_pooled(head.out(torch.einsum("tvf,vfd->tvd", attention, head.value(normed))))
    seen = head.norm_out(pooled + head.residual(pooled))
    return torch.einsum("td,tvd->tv", F.normalize(sentences, dim=-1), F.normalize(seen, dim=-1))


def item_by_item(texts: Texts, videos: Videos, recipe: Recipe) -> list[float]:
    """The loss of each step."""
    head, scale = new_head(), nn.Parameter(torch.tensor(recipe.logit_scale).log())
    torch.manual_seed(recipe.seed)
    order = torch.randperm(len(texts)).tolist()
    groups = [{"params": list(head.parameters())}, {"params": [scale], "lr": recipe.scale_lr, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=recipe.lr, weight_decay=recipe.weight_decay, eps=1e-6)
    steps = math.ceil(len(texts) / recipe.batch)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: lab.training.loop.schedule(step, steps, 0.1))
    losses = []
    for sentences, frames, mask, video in DataLoader(Pairs(texts, videos), recipe.batch, sampler=order):
        logits = direct(head, sentences, frames, mask) * scale.exp()
        twin = (video[:, None] == video) & ~torch.eye(len(video), dtype=torch.bool)
        logits, own = logits.masked_fill(twin, float("-inf")), torch.arange(len(video))
        loss = (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_([*head.parameters(), scale], recipe.clip_norm)
        optimizer.step()
        schedule.step()
        scale.data.clamp_(max=math.log(100))
        losses.append(loss.item())
    return losses


# -- ours ------------------------------------------------------------------------------------------------------------


def new_head() -> nn.Module:
    """X-Pool without dropout, which begins the same each time."""
    return build_head("xpool", D, dropout=0.0)


def ours(texts: Texts, videos: Videos, recipe: Recipe) -> list[float]:
    """The loss of each step of ``lab.training.loop.train``, which itself keeps only their mean."""
    losses: list[Tensor] = []
    computed = lab.training.step.contrastive_loss

    def noted(*given: Tensor, **options: bool) -> Tensor:
        losses.append(computed(*given, **options))
        return losses[-1]

    with mock.patch("lab.training.step.contrastive_loss", noted):
        lab.training.loop.train(new_head(), texts, videos, recipe)
    return [loss.item() for loss in losses]


def products() -> Iterator[Callable[[], Tensor]]:
    """The matrix products of one step, each with the two of its backward pass: W_Q; W_K, W_V, W_O, FC; pairs; sums."""

    def thrice(a: Tensor, b: Tensor) -> Iterator[Callable[[], Tensor]]:
        grad = a @ b
        yield lambda: a @ b
        yield lambda: grad @ b.mT
        yield lambda: a.mT @ grad

    text, frame, layer = torch.randn(BATCH, D), torch.randn(BATCH * FRAMES, D), torch.randn(D, D)
    yield from thrice(text, layer)
    for _ in range(4):
        yield from thrice(frame, layer)
    yield from thrice(frame, text.T.contiguous())
    for _ in range(2):
        yield from thrice(torch.randn(BATCH, BATCH, FRAMES), torch.randn(BATCH, FRAMES, D))
    yield from thrice(torch.randn(BATCH, FRAMES, D), torch.randn(BATCH, D, FRAMES))


def bare(steps: int) -> None:
    """So many steps of nothing but their matrix products."""
    wanted = list(products())
    for _ in range(steps):
        for product in wanted:
            product()


def main() -> None:
    """Checks, measures, prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    texts, videos = features(V, given.steps * BATCH, FRAMES, D)
    recipe = Recipe(epochs=1, batch=BATCH, precision="fp32")
    pairs = zip(item_by_item(texts, videos, recipe), ours(texts, videos, recipe), strict=True)
    losses = torch.tensor(list(pairs))
    apart = (losses[:, 0] - losses[:, 1]).abs().max().item()
    assert apart <= AGREE, f"the losses of the two loops differ by {apart:.2g}"
    actions = {
        "item by item, direct formulas": lambda: item_by_item(texts, videos, recipe),
        "lab.train": lambda: lab.training.loop.train(new_head(), texts, videos, recipe),
        "its bare matrix products": lambda: bare(given.steps),
    }
    times = in_turns(actions, given.rounds)
    per_step = {name: statistics.median(took) / given.steps for name, took in times.items()}
    slow, fast, least = per_step.values()
    machine = f"{platform.machine()}, torch {torch.__version__}, {torch.get_num_threads()} threads"
    print(f"X-Pool, batch {BATCH}, {given.steps} steps ({machine})")
    print(f"losses from {losses[0, 1]:.4f} to {losses[-1, 1]:.4f}, of the two loops at most {apart:.1g} apart")
    for name, took in per_step.items():
        print(f"{name:32}{took * 1e3:8.1f} ms a step {1 / took:8.1f} steps/s")
    print(f"lab.train is {slow / fast:.2f} × as fast; it takes {fast / least:.2f} × its bare matrix products")
    envelope.write("train", {"seconds": per_step, "apart": apart}, batch=BATCH, **vars(given))


if __name__ == "__main__":
    main()
