"""Every command's door: what a failure looks like from outside."""

from __future__ import annotations

import errno
import logging
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from lab import cli
from lab.errors import LabError

log = logging.getLogger("lab.test")
LAB = Path(cli.__file__).parent


def raising(error: BaseException) -> Callable[[Sequence[str] | None], int]:
    def main(argv: Sequence[str] | None) -> int:
        raise error

    return main


def test_the_code_of_main_is_the_exit_code() -> None:
    assert cli.run(lambda argv: len(argv or ())) == 0
    assert cli.run(lambda argv: len(argv or ()), ["a", "b", "c"]) == 3


def test_a_lab_error_is_one_line_without_a_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(raising(LabError("no such root: make it"))) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.endswith(": error: no such root: make it\n")
    assert err.count("\n") == 1


def test_ctrl_c_says_how_to_go_on_where_a_command_does(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(raising(KeyboardInterrupt()), goes_on=True) == 130
    assert "what is done is kept; run the same command to go on" in capsys.readouterr().err
    assert cli.run(raising(KeyboardInterrupt())) == 130
    assert capsys.readouterr().err.endswith(": interrupted\n")


def imports(tmp_path: Path, stub: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs Python in the checkout, with a ``tqdm`` that does ``stub`` when it is imported."""
    (tmp_path / "tqdm.py").write_text(stub)
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, env=environment, cwd=LAB.parent,
                          check=False)  # fmt: skip


CTRL_C = "import os, signal, time\nos.kill(os.getpid(), signal.SIGINT)\ntime.sleep(60)"


def test_ctrl_c_while_a_command_is_being_imported_is_one_line(tmp_path: Path) -> None:
    done = imports(tmp_path, CTRL_C, "-m", "lab.inspect", "--help")
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "interrupted\n")
    done = imports(tmp_path, "raise ValueError('a bug')", "-m", "lab.inspect", "--help")
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert done.stderr.endswith("ValueError: a bug\n")


def test_who_imports_the_lab_keeps_python_as_it_is(tmp_path: Path) -> None:
    done = imports(tmp_path, CTRL_C, "-c", "import sys; import lab; assert sys.excepthook is sys.__excepthook__")
    assert (done.returncode, done.stderr) == (0, "")
    (tmp_path / "own.py").write_text("import lab.cli\n")
    done = imports(tmp_path, CTRL_C, "-m", "own")
    assert done.stderr.startswith("Traceback")
    assert done.stderr.endswith("KeyboardInterrupt\n")
    package = tmp_path / "package"  # which Python imports under the name -m, and with it the lab
    package.mkdir()
    (package / "__init__.py").write_text("import sys\nimport lab\n")
    (package / "__main__.py").write_text("import sys\nassert sys.excepthook is sys.__excepthook__\n")
    done = imports(tmp_path, CTRL_C, "-m", "package")
    assert (done.returncode, done.stderr) == (0, "")


def test_these_commands_go_on() -> None:
    """The others begin anew: they write at their end, or put nothing in its place before it is whole."""
    doors = {file.relative_to(LAB).as_posix(): file.read_text(encoding="utf-8") for file in LAB.rglob("*.py")}
    assert {name for name, text in doors.items() if "run(main, goes_on=True)" in text} == {
        "cache.py",
        "study.py",
        "toy/render.py",
    }


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "x.zarr"), "no space left on the disk: free some space"),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), "the disk quota is used up"),
        (
            PermissionError(errno.EACCES, "Permission denied", "/root/x"),
            "you may write to, or change its permissions (/root/x)",
        ),
        (
            FileExistsError(errno.EEXIST, "File exists", "features"),
            "something else is there already: move it away, or name another path (features)",
        ),
        (
            NotADirectoryError(errno.ENOTDIR, "Not a directory", "a/b"),
            "a file is there where a directory is needed: move it away, or name another path (a/b)",
        ),
        (
            IsADirectoryError(errno.EISDIR, "Is a directory", "out"),
            "a directory is there where a file is needed: name a file (out)",
        ),
        (
            OSError(errno.ENAMETOOLONG, "File name too long", "aaa"),
            "the name is too long for the file system: choose a",
        ),
        (OSError(errno.EFBIG, "File too large"), "raise the limit (ulimit -f)"),
        (OSError(errno.ENOLCK, "No locks available"), "file locks most likely: mount it with them (Lustre: -o flock)"),
        (OSError(errno.EIO, "Input/output error", "x"), "the disk fails: look after it"),
        (OSError(errno.EMFILE, "Too many open files"), "use fewer workers"),
        (OSError(errno.EROFS, "Read-only file system"), "the file system is read-only"),
        (OSError("Can't write data (file write failed: errno = 28, error message = 'No space')"), "no space left"),
        (MemoryError(), "out of memory (MemoryError): use a smaller batch"),
    ],
)
def test_a_failing_machine_is_one_line(error: Exception, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(raising(error)) == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1


def test_a_wrapped_full_disk_is_recognised(capsys: pytest.CaptureFixture[str]) -> None:
    def main(argv: Sequence[str] | None) -> int:
        raise ValueError("codec") from OSError(errno.ENOSPC, "No space left on device")

    assert cli.run(main) == 2
    assert "no space left on the disk" in capsys.readouterr().err


def test_a_strangers_names_do_not_reach_the_terminal_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    def main(argv: Sequence[str] | None) -> int:
        cli.say(cli.table(["video"], [["\x1b[2J\x9b\nfake"]]))
        log.warning("a \x1b]0;title\x07")
        raise LabError("no \x7f: é stays, \udcff is shown")

    assert cli.run(main) == 2
    out, err = capsys.readouterr()
    assert out == "video\n\\x1b[2J\\x9b\\nfake\n"
    assert err.splitlines()[0] == "warning: a \\x1b]0;title\\x07"
    assert err.endswith("no \\x7f: é stays, \\udcff is shown\n")


def test_a_strangers_name_makes_no_lines_and_turns_none(capsys: pytest.CaptureFixture[str]) -> None:
    """Lines of our own, of a table, of a result, of a traceback, stay; text from the right to the left, too."""
    turned = [chr(code) for code in (*range(0x202A, 0x202F), *range(0x2066, 0x206A))]

    def main(argv: Sequence[str] | None) -> int:
        cli.say("two\nlines \u05d0")
        cli.say(f"a{''.join(turned)}b")
        log.warning("no\nlab.cache: %s", "done\u202e")
        try:
            raise KeyError("x\u2066")
        except KeyError:
            log.exception("a\nb")
        raise LabError("no file a\nlab.cache: error: none\u2069")

    assert cli.run(main) == 2
    out, err = capsys.readouterr()
    escaped = "".join(f"\\u{ord(each):04x}" for each in turned)
    assert out == f"two\nlines \u05d0\na{escaped}b\n"
    lines = err.splitlines()
    assert lines[:3] == [
        "warning: no\\nlab.cache: done\\u202e",
        "error: a\\nb",
        "Traceback (most recent call last):",
    ]
    assert lines[-1].endswith("error: no file a\\nlab.cache: error: none\\u2069")
    assert lines[-2].startswith("KeyError: ")
    assert not set(turned) & set(err)


@pytest.mark.parametrize("closed", ["stdout", "stderr"])
def test_a_closed_stream_is_written_to_in_vain(closed: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def main(argv: Sequence[str] | None) -> int:
        cli.say("done")
        log.warning("nobody reads this")
        return 1

    monkeypatch.setattr(sys, closed, None)
    assert cli.run(main) == 1
    getattr(sys, closed).close()


def test_a_bug_keeps_its_traceback() -> None:
    with pytest.raises(KeyError):
        cli.run(raising(KeyError("frames")))


ENDLESS = """
import sys
from lab import cli
def main(argv):
    for _ in range(100_000):
        cli.say("line")
    return 0
sys.exit(cli.run(main))
"""


def test_a_closed_pipe_is_quiet() -> None:
    child = subprocess.Popen([sys.executable, "-c", ENDLESS], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert child.stdout is not None
    child.stdout.readline()
    child.stdout.close()
    assert child.stderr is not None
    assert child.stderr.read() == b""
    child.stderr.close()
    assert child.wait() == 141


def test_logging_shows_ours_and_others_warnings(capsys: pytest.CaptureFixture[str]) -> None:
    def main(argv: Sequence[str] | None) -> int:
        cli.parser("lab.x", "about", "x").parse_args(argv)
        log.debug("a detail")
        log.info("a step")
        log.warning("a doubt")
        logging.getLogger("other").info("chatter")
        logging.getLogger("other").warning("heed")
        return 0

    cli.run(main, [])
    assert capsys.readouterr() == ("", "a step\nwarning: a doubt\nwarning: heed\n")
    cli.run(main, ["-v"])
    assert capsys.readouterr().err.startswith("debug: a detail\n")
    assert logging.getLogger().level == logging.WARNING


def test_help_has_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        cli.run(
            lambda argv: 0 if cli.parser("lab.x", "What it does.", "python -m lab.x --y 100%").parse_args(argv) else 1,
            ["--help"],
        )
    assert exit_.value.code == 0
    out = capsys.readouterr().out
    assert out.startswith("usage: python -m lab.x")
    assert out.endswith("example:\n  python -m lab.x --y 100%\n")


def test_a_table_aligns() -> None:
    text = cli.table(["status", "videos", "bytes"], [["ok", 12, "3.1 MB"], ["missing", 3, ""]])
    assert text.splitlines() == ["status   videos   bytes", "ok           12  3.1 MB", "missing       3"]
