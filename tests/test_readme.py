"""What the README and the pages that it names say runs, and their links lead somewhere."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from lab import cli
from lab.evaluate import main as evaluate
from lab.studies.files import keys_of
from lab.studies.setups import KINDS
from lab.train import main as train

ROOT = Path(__file__).parent.parent
FILES = [ROOT / "README.md", ROOT / "features" / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
PAGES = {str(file.relative_to(ROOT)): file.read_text(encoding="utf-8") for file in FILES}


def test_the_head_of_ones_own(full, tmp_path, monkeypatch, capsys):
    (block,) = re.findall(r"```python\n(# my_head\.py\n.*?)```", PAGES["docs/heads.md"], re.DOTALL)
    assert len([line for line in block.splitlines() if line.strip()]) <= 25
    (tmp_path / "my_head.py").write_text(block)
    shutil.copytree(full, tmp_path / "toy.zarr")
    monkeypatch.syspath_prepend(tmp_path)
    common = ["--store", str(tmp_path / "toy.zarr"), "--runs", str(tmp_path / "runs")]
    assert cli.run(train, ["my_head:MyHead", *common, "--name", "mine", "--set", "epochs=1"]) == 0
    assert cli.run(evaluate, ["mine", *common, "--split", "val", "--trust", "my_head:MyHead"]) == 0
    assert "t2v" in capsys.readouterr().out
    sys.modules.pop("my_head", None)


@pytest.mark.parametrize("module", sorted(set(re.findall(r"python -m (lab\.[\w.]+)", "".join(PAGES.values())))))
def test_every_command_that_they_name_has_help_with_an_example(module):
    said = subprocess.run([sys.executable, "-m", module, "--help"], capture_output=True, text=True, check=True).stdout
    assert "example:" in said
    assert f"python -m {module}" in said


@pytest.mark.parametrize("script", ["table"])
def test_its_tables_are_what_is_made_from_the_results(script):
    """So that no number in them is typed by hand."""
    subprocess.run([sys.executable, str(ROOT / "benchmarks" / f"{script}.py"), "--check"], check=True)


def test_every_key_of_a_study_file_is_told():
    for key in {key for kind in KINDS for key in keys_of(kind)}:
        assert re.search(rf"^\|.*`\[*{key}\]*`.*\|$", PAGES["docs/studies.md"], re.MULTILINE), key


def anchor(title: str) -> str:
    """A heading's anchor, as renderers of Markdown make it."""
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


@pytest.mark.parametrize("page", PAGES)
def test_its_links_lead_somewhere(page):
    for link in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"```.*?```", "", PAGES[page], flags=re.DOTALL)):
        if link.startswith("https://"):
            continue
        path, _, title = link.partition("#")
        target = (ROOT / page).parent / path if path else ROOT / page
        assert target.exists(), link
        if title:
            assert title in map(anchor, re.findall(r"^#+ (.*)$", target.read_text(encoding="utf-8"), re.MULTILINE)), (
                link
            )
