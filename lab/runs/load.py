"""A trained head from the disk. Nothing in a run is executed, and nothing is built before it is checked."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lab.errors import LabError
from lab.heads import HEADS, build_head, head_class
from lab.runs.record import Run, read_run, require_file
from lab.store import Store, passport

#: Where classes may be named as ``x:y`` that are the lab's own.
OURS = ("lab.heads.", "lab.studies.classic:")
#: Types of weights that may stand for each other.
_REAL = {torch.float16, torch.bfloat16, torch.float32, torch.float64}


class UntrustedError(LabError):
    """A run or a study file wants a head, ``name``, which is code outside the lab that nobody has trusted."""

    def __init__(self, path: Path, name: str) -> None:
        super().__init__(
            f"{path} wants the head '{name}', which is code that the lab does not know: if you know it, "
            f"run the same with --trust {name}"
        )
        self.name = name


def load_run(path: str | Path, store: Store | None = None, *, trusted: Collection[str] = ()) -> tuple[nn.Module, Run]:
    """The trained head in eval mode on the CPU, and what is known of it.

    Raises ``LabError`` for what is no run or a damaged one, ``UntrustedError`` for a head outside the lab whose name is
    not in ``trusted``, and, if a store is given, ``LabError`` for one whose features were made under another passport.
    """
    path = Path(path)
    run = read_run(path)
    if store is not None:
        _require_passport(run, store, path)
    for name in own_code(run.head, run.settings):
        if name not in trusted:
            raise UntrustedError(path, name)
    weights = _weights(path / "head.safetensors")
    try:
        keywords = _without_start(run.head, run.settings)
        if not own_code(run.head, keywords):  # nothing of the size that a file claims is made before it is checked
            with torch.device("meta"):
                _require_shapes(build_head(run.head, run.dim, **keywords), weights, path)
        head = build_head(run.head, run.dim, **keywords)
        _require_shapes(head, weights, path)
        head.load_state_dict(weights)
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        why = str(error).partition("\n")[0]  # behind it torch may tell where it is in its own code
        raise LabError(f"{path}: head '{run.head}' cannot be built as saved: {why}") from None
    return head.eval(), run


def _require_passport(run: Run, store: Store, path: Path) -> None:
    remedy = f"Use the store that {path} was trained on ({run.store}), or train the head on this one"
    absent = [name for name in run.passport if name not in store.passport]
    if absent:
        raise LabError(f"{store.path} holds no {', '.join(absent)}, which {path} was trained on. {remedy}")
    passport.require_same(store.passport, run.passport, str(store.path), remedy)


def own_code(head: str, keywords: Mapping[str, Any]) -> list[str]:
    """All that could name a class outside the lab: a head that ``HEADS`` lacks, and any ``x:y`` among its keywords."""

    def names(value: Any) -> Iterator[str]:
        if isinstance(value, str) and ":" in value and not value.startswith(OURS):
            yield value
        elif isinstance(value, Mapping):
            for inner in value.values():
                yield from names(inner)
        elif isinstance(value, list | tuple):
            for inner in value:
                yield from names(inner)

    return [*(names(head) if head not in HEADS else []), *names(keywords)]


def _without_start(head: str, keywords: Mapping[str, Any]) -> dict[str, Any]:
    """Without what only says where weights come from before training, such as a file that may have gone since."""
    only_at_start = getattr(head_class(head), "only_at_start", ())
    kept = {name: value for name, value in keywords.items() if name not in only_at_start}
    if isinstance(kept.get("video"), str) and isinstance(kept.get("video_keywords"), dict):
        kept["video_keywords"] = _without_start(kept["video"], kept["video_keywords"])
    return kept


def _weights(file: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        require_file(file)
        weights = load(file.read_bytes())
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise LabError(f"{file} is damaged ({' '.join(str(error).split())}): train the head again") from None
    broken = sorted(name for name, value in weights.items() if value.dtype in _REAL and not value.isfinite().all())
    if broken:
        raise LabError(f"{file} holds weights that are not finite, in {', '.join(broken[:5])}: train the head again")
    return weights


def _require_shapes(head: nn.Module, weights: Mapping[str, Tensor], path: Path) -> None:
    wanted = {name: tuple(value.shape) for name, value in head.state_dict().items()}
    found = {name: tuple(value.shape) for name, value in weights.items()}
    for name, value in head.state_dict().items():
        if name in weights and (kind := weights[name].dtype) != value.dtype and not {kind, value.dtype} <= _REAL:
            raise LabError(f"{path}: the weights do not fit the head: '{name}' should be {value.dtype}, it is {kind}")
    for name in sorted(wanted.keys() | found.keys()):
        if wanted.get(name) != found.get(name):
            raise LabError(
                f"{path}: the weights do not fit the head that run.json describes: '{name}' should be "
                f"{wanted.get(name, 'absent')}, it is {found.get(name, 'absent')}"
            )
