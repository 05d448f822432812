"""Notebooks are kept without outputs, and run from top to bottom on a small store."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import worlds

from lab import cli
from lab.cache import main as cache

NOTEBOOKS = sorted((Path(__file__).parent.parent / "notebooks").glob("*.ipynb"))


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(notebook: Path, tmp_path: Path) -> None:
    cells = [cell for cell in json.loads(notebook.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == "code"]
    assert not any(cell["outputs"] or cell["execution_count"] for cell in cells), "strip the outputs: nbstripout"
    worlds.folder(tmp_path / "root", 7)
    common = ["--dataset", "folder", "--root", str(tmp_path / "root"), *worlds.tiny_networks(tmp_path)]
    cli.run(cache, [*common, "--features", str(tmp_path), "--name", "small"])
    script = tmp_path / "notebook.py"
    script.write_text("\n\n".join("".join(cell["source"]) for cell in cells) + "\nplt.savefig('strip.png')\n")
    environment = {**os.environ, "MPLBACKEND": "Agg", "STORE": str(tmp_path / "small.zarr")}
    run = subprocess.run([sys.executable, str(script)], env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert (tmp_path / "strip.png").stat().st_size > 5000
