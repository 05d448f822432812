"""What a file that is replaced may be."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lab.atomic import replace_bytes
from lab.errors import LabError


def test_neither_a_device_nor_a_link_gives_way_to_a_file(tmp_path: Path) -> None:
    pipe, link, target = tmp_path / "pipe", tmp_path / "link", tmp_path / "target"
    os.mkfifo(pipe)
    target.write_text("kept")
    link.symlink_to(target)
    for file, kind in ((pipe, "device or a pipe"), (link, "link"), (tmp_path, "directory")):
        with pytest.raises(LabError, match=f"is a {kind}: name a file"):
            replace_bytes(file, b"new")
    assert pipe.is_fifo()
    assert target.read_text() == "kept"
