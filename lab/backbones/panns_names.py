"""What the strings of ``--panns`` stand for: a network, and the file that holds its weights."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from lab.backbones.cnn import CNNS, CnnSpec
from lab.backbones.logmel import LogMelSpec
from lab.backbones.names import TOY, split
from lab.backbones.weights import WEIGHTS, locate
from lab.errors import LabError, unknown


def resolve(spec: str, *, download: bool) -> tuple[str, CnnSpec, Path | None]:
    """The name in tables, the network and the file (None: random) that ``spec`` stands for. Raises LabError."""
    if spec == "toy":
        path = TOY / "panns.safetensors"
        if not path.is_file():
            raise LabError(f"--panns toy needs {path}, which this copy of the lab lacks: use --panns random or none")
        return "toy", read_config(TOY / "panns.json"), path
    name, file = split(spec, default="cnn14")
    if name.endswith(".json"):
        name, network = Path(name).stem, read_config(Path(name))
        if not file:
            raise LabError(f"--panns {spec} names a network and no weights: use {spec}:FILE or {spec}:random")
    elif name in CNNS:
        network = CNNS[name]
    else:
        raise unknown("PANN", name, [*CNNS, "toy", "random", "none"])
    if file == "random":
        return f"{name}:random", network, None
    if file:
        return f"{name}:{Path(file).name}", network, Path(file)
    # panns_inference keeps its downloads there.
    other = Path.home() / "panns_data" / Path(WEIGHTS[name].file).name
    return name, network, locate(name, option=f"--panns {name}:FILE", download=download, elsewhere=[other])


def read_config(path: Path) -> CnnSpec:
    """A network of another size: JSON with ``like`` (a name of CNNS) and the fields of CnnSpec that differ.

    Raises LabError for a file that is missing, is not JSON or has other fields.
    """
    try:
        config: Any = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise LabError(f"cannot read the network in {path}: {error}: it must be JSON with fields of CnnSpec") from error
    own, front = {field.name for field in fields(CnnSpec)}, {field.name for field in fields(LogMelSpec)}
    if not isinstance(config, dict) or config.get("like") not in CNNS:
        raise LabError(f"{path} must say which network it is 'like': one of {', '.join(CNNS)}")
    like = CNNS[config.pop("like")]
    for key in (*(config.keys() - own), *(config.get("front", {}).keys() - front)):
        raise unknown(f"field of {path.name}", key, [*sorted(own), *sorted(front)])
    config["front"] = replace(like.front, **config.get("front", {}))
    config["channels"] = tuple(config.get("channels", like.channels))
    return replace(like, **config)
