"""What the strings of ``--clip`` and ``--panns`` have in common: NAME, or NAME:WEIGHTS."""

from __future__ import annotations

from pathlib import Path

#: The toy world's backbones: clip.json with clip.safetensors, and panns.json with panns.safetensors.
TOY = Path(__file__).parents[1] / "toy" / "weights"


def split(spec: str, default: str) -> tuple[str, str]:
    """``NAME:WEIGHTS`` at the right colon, a bare ``random`` being ``default``'s; no weights are an empty string."""
    if spec == "random":
        return default, "random"
    if ".json:" in spec:
        name, _, weights = spec.partition(".json:")
        return f"{name}.json", weights
    name, _, weights = spec.partition(":")
    return name, weights
