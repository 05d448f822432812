"""open_clip beside a build of torch that torchvision was not built for, played by a stand-in for torchvision."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

BROKEN = """
import torch
if not hasattr(torch.ops.torchvision, "nms"):
    raise RuntimeError("operator torchvision::nms does not exist")
import torchvision.ops
"""
ELSE = "raise RuntimeError('the disk is on fire')"
ASK = """
import sys
sys.modules["open_clip"] = type(sys)("open_clip")
import lab.backbones.clip_package
print(lab.backbones.clip_package.open_clip.__name__)
"""


def imported(folder: Path, torchvision: str) -> subprocess.CompletedProcess[str]:
    package = folder / "torchvision"
    package.mkdir()
    (package / "__init__.py").write_text(torchvision)
    (package / "ops.py").write_text("import torch\ntorch.ops.torchvision.nms, torch.ops.torchvision.qnms\n")
    found = f"import sys; sys.path[:0] = {[str(folder), str(Path(__file__).parent.parent)]!r}"
    return subprocess.run([sys.executable, "-c", found + ASK], capture_output=True, text=True, check=False)


def test_operators_that_are_absent_are_named(tmp_path: Path) -> None:
    done = imported(tmp_path, BROKEN)
    assert (done.returncode, done.stdout) == (0, "open_clip\n"), done.stderr


def test_another_trouble_of_torchvision_is_not_hidden(tmp_path: Path) -> None:
    done = imported(tmp_path, ELSE)
    assert done.returncode == 1
    assert "the disk is on fire" in done.stderr
