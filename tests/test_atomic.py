"""What a file that is replaced may be."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from lab.atomic import replace_bytes, require_replaceable, require_room_for, sync
from lab.errors import LabError


def test_what_is_no_file_does_not_give_way_to_one(tmp_path: Path) -> None:
    """Nor a link to it, as /dev/stdout is."""
    pipe, link = tmp_path / "pipe", tmp_path / "link"
    os.mkfifo(pipe)
    link.symlink_to(pipe)
    for file, kind in ((pipe, "device or a pipe"), (link, "device or a pipe"), (tmp_path, "directory")):
        with pytest.raises(LabError, match=f"^{file} is a {kind}: name a file$"):
            replace_bytes(file, b"new")
    assert pipe.is_fifo()
    assert link.is_fifo()


@pytest.mark.parametrize("there", [True, False])
def test_a_link_to_a_file_gives_way_and_its_target_stays(tmp_path: Path, there: bool) -> None:
    """As the files of a store that DVC or git-annex keeps, of which a target may not have been fetched."""
    link, target = tmp_path / "link", tmp_path / "target"
    if there:
        target.write_text("kept")
    link.symlink_to(target)
    replace_bytes(link, b"new")
    assert (link.is_symlink(), link.read_bytes()) == (False, b"new")
    assert target.exists() == there
    assert not there or target.read_text() == "kept"


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EIO])
def test_a_drive_that_syncs_no_directory_will_do(tmp_path: Path, number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(descriptor: int) -> None:
        raise OSError(number, os.strerror(number))

    (tmp_path / "file").write_text("")
    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match=r"rror|argument|implemented|supported"):
        sync([tmp_path / "file"])
    if number == errno.EIO:
        with pytest.raises(OSError, match="error"):
            sync([tmp_path])
    else:
        sync([tmp_path])


def test_whether_there_is_room_is_known_before_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    require_room_for(tmp_path / "new" / "deep" / "x.h5")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    with pytest.raises(NotADirectoryError) as error:
        require_room_for(tmp_path / "file" / "x.h5")
    assert error.value.filename == str(tmp_path / "file" / "x.h5")
    with pytest.raises(OSError, match=r"/proc/1/x\.h5"):  # where root has no permission either
        require_room_for(Path("/proc/1/x.h5"))


def test_of_what_a_user_names_links_are_refused(tmp_path: Path) -> None:
    link, target = tmp_path / "link", tmp_path / "target"
    link.symlink_to(target)
    for _ in range(2):
        require_replaceable(link)
        require_replaceable(target, links=False)
        with pytest.raises(LabError, match=f"^{link} is a link: name a file$"):
            require_replaceable(link, links=False)
        target.write_text("there now")
