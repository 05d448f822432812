"""Which file may import what: two halves, one contract, one direction. And the examples in docstrings are true."""

from __future__ import annotations

import ast
import doctest
import importlib
import pickle
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LAB = ROOT / "lab"

#: What reads stores. It must run where neither a codec nor a backbone is installed.
STUDY_SIDE = (
    "atomic",
    "",
    "by_word",
    "caveats",
    "choose",
    "cli",
    "device",
    "embeddings",
    "errors",
    "evaluate",
    "heads",
    "metrics",
    "needs",
    "pairs",
    "reads",
    "runs",
    "significance",
    "similarity",
    "store",
    "studies",
    "study",
    "tiles",
    "train",
    "training",
    "truth",
)
ABSENT = ("av", "open_clip", "polars", "PIL", "torchvision", "h5py", "optuna", "matplotlib", "sklearn", "safetensors")
CACHE_SIDE = (
    "lab.backbones",
    "lab.cache",
    "lab.cluster",
    "lab.datasets",
    "lab.extraction",
    "lab.media",
    "lab.workers",
    "lab.store.writer",
)


def module_of(file: Path) -> str:
    parts = file.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {module_of(file): file for file in sorted(LAB.rglob("*.py"))}
TREES = {name: ast.parse(file.read_text(encoding="utf-8"), str(file)) for name, file in FILES.items()}


def statements(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Statements that run when a module is imported: not those of functions, nor those for type checkers."""
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        yield node
        typing_only = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
        for name in ("body", "orelse", "finalbody"):
            if not (typing_only and name == "body"):
                yield from statements(getattr(node, name, []))
        for handler in getattr(node, "handlers", []):
            yield from statements(handler.body)


def imported(module: str, nodes: Iterator[ast.stmt] | Iterator[ast.AST]) -> set[str]:
    """Modules that statements import by name; ``from lab import cli`` is an import of ``lab.cli``."""
    found: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: imports of ours are absolute"
            origin = node.module or ""
            inner = {f"{origin}.{alias.name}" for alias in node.names}
            found |= inner & FILES.keys()
            if inner - FILES.keys():
                found.add(origin)
    return found


AT_IMPORT = {name: imported(name, statements(tree.body)) for name, tree in TREES.items()}
EVER = {name: imported(name, ast.walk(tree)) for name, tree in TREES.items()}


def below(name: str, package: str) -> bool:
    return name == package or name.startswith(package + ".")


def in_study_side(module: str) -> bool:
    return any(module == f"lab.{name}".rstrip(".") or (name and below(module, f"lab.{name}")) for name in STUDY_SIDE)


def test_no_import_cycles() -> None:
    done: set[str] = set()

    def visit(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, " → ".join([*path[path.index(module) :], module])
        if module not in done:
            for target in sorted(AT_IMPORT[module] & FILES.keys()):
                visit(target, (*path, module))
            done.add(module)

    for module in FILES:
        visit(module, ())
    assert done == FILES.keys()


def test_the_study_side_imports_no_codec_no_backbone_and_nothing_of_the_cache_side() -> None:
    modules = [module for module in FILES if in_study_side(module)]
    assert len(modules) >= len(STUDY_SIDE)
    for module in modules:
        for target in AT_IMPORT[module]:
            assert not any(below(target, name) for name in ABSENT), f"{module} imports {target}"
            assert not any(target.startswith(name) for name in CACHE_SIDE), f"{module} imports {target}"
            assert in_study_side(target) or not below(target, "lab"), f"{module} imports {target}"


@pytest.mark.parametrize(
    ("library", "owners"),
    [
        ("av", ("lab.media", "lab.toy")),
        ("open_clip", ("lab.backbones", "lab.toy")),
        ("polars", ("lab.store", "lab.evaluate", "lab.studies.report")),
        ("optuna", ("lab.studies",)),
        ("h5py", ("lab.convert", "lab.convert.layouts")),
    ],
)
def test_a_library_has_one_owner(library: str, owners: tuple[str, ...]) -> None:
    users = [module for module in FILES if any(below(target, library) for target in EVER[module])]
    assert users
    for module in users:
        assert module.startswith(owners), f"{module} imports {library}"


def test_metrics_imports_nothing_of_ours() -> None:
    assert not {target for target in EVER["lab.metrics"] if below(target, "lab")}


def test_what_a_file_keeps_to_itself_is_not_imported_by_others() -> None:
    for module, tree in TREES.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and below(node.module or "", "lab"):
                private = [alias.name for alias in node.names if alias.name.startswith("_")]
                assert not private, f"{module} imports {', '.join(private)} of {node.module}"


@pytest.mark.parametrize("module", FILES)
def test_no_assert_and_no_print(module: str) -> None:
    for node in ast.walk(TREES[module]):
        assert not isinstance(node, ast.Assert), f"{FILES[module]}:{node.lineno}: assert in the package"
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id != "print", f"{FILES[module]}:{node.lineno}: print in the package"


def test_no_drawer_for_everything() -> None:
    names = {part for file in FILES.values() for part in file.relative_to(LAB).with_suffix("").parts}
    assert not names & {"utils", "util", "helpers", "helper", "common", "misc", "base"}


def test_no_pickle_is_run_and_no_weights_are_trusted() -> None:
    """``pickle.load`` runs what it reads, and so does ``torch.load`` unless it is told not to.

    The decode processes may: what they unpickle comes through a pipe between parent and child, never from a file.
    """
    for module, tree in TREES.items():
        unpickles = module in ("lab.workers", "lab.workers.process")
        for node in ast.walk(tree):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
                continue
            called, where = ast.unparse(node.func), f"{FILES[module]}:{node.lineno}"
            assert unpickles or called not in ("pickle.load", "pickle.loads", "joblib.load"), where
            if called == "torch.load":
                assert "weights_only=True" in [ast.unparse(k) for k in node.keywords], where
            if called in ("np.load", "numpy.load"):
                assert "allow_pickle=True" not in [ast.unparse(k) for k in node.keywords], where


BARE = """
import sys

class Without:
    # A finder that does not find what a bare machine does not have.
    def __init__(self, finder):
        self.finder = finder

    def find_spec(self, name, path=None, target=None):
        return None if name.split(".")[0] in {absent!r} else self.finder.find_spec(name, path, target)

    def __getattr__(self, name):  # what importlib.metadata asks a finder for
        return getattr(self.finder, name)

sys.meta_path[:] = map(Without, sys.meta_path)
import lab
from lab import build_head, open_store
import lab.evaluate, lab.runs, lab.similarity, lab.study, lab.train
texts, videos = open_store(sys.argv[1]).load("test")
similarity = lab.similarity.similarity_matrix(build_head("xpool", texts.dim), texts, videos)
code = lab.study.main([sys.argv[2], "--store", sys.argv[1], "--runs", sys.argv[3]])
code += lab.evaluate.main(["mean", "--store", sys.argv[1], "--split", "val", "--runs", sys.argv[3]])
print(tuple(similarity.shape) == (len(texts), 8), code)
"""


def test_the_study_side_runs_on_a_bare_machine(full: Path, tmp_path: Path) -> None:
    quick = 'kind = "grid"\nseeds = 2\n[train]\nepochs = 1\nbatch = 512\n[[rows]]\nhead = "xpool"\n'
    (tmp_path / "quick.toml").write_text(quick)
    done = subprocess.run(
        [
            sys.executable,
            "-W",
            "error",
            "-c",
            BARE.format(absent=ABSENT),
            str(full),
            str(tmp_path / "quick.toml"),
            str(tmp_path),
        ],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "True 0"


def test_names_are_listed_and_search_can_be_sent_to_another_process() -> None:
    import lab.search

    assert {"open_store", "search", "figures", "train"} <= set(dir(lab))
    assert pickle.loads(pickle.dumps(lab.search)) is lab.search  # noqa: S301 - our own


def test_public_names_are_there_and_found_on_demand() -> None:
    lab = importlib.import_module("lab")
    for name in lab.__all__:
        public = getattr(lab, name)
        assert public is lab.heads.HEADS or public.__name__.removeprefix("lab.") == name  # lab.search is called, too
    for name in ("open_stroe", "__wrapped__"):
        with pytest.raises(AttributeError, match=f"no attribute '{name}'"):
            getattr(lab, name)


NAMED = """
import sys
import lab
assert not {"torch", "numpy", "zarr", "tqdm"} & sys.modules.keys(), "import lab is to cost nothing"
sys.modules["matplotlib"] = None  # as if it were not installed
try:
    lab.figures
except ModuleNotFoundError as error:
    assert str(error.name).startswith("matplotlib"), error
else:
    raise SystemExit("what is absent is not said")
del sys.modules["matplotlib"]
assert lab.figures.Material is lab.figures.material.Material
assert callable(lab.evaluate.evaluate) and callable(lab.training.loop.train) and callable(lab.load_split)
assert callable(lab.search) and lab.search.Searcher.__name__ == "Searcher"
"""


def test_files_of_the_lab_are_its_attributes() -> None:
    done = subprocess.run([sys.executable, "-c", NAMED], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("module", [name for name, file in FILES.items() if ">>> " in file.read_text(encoding="utf-8")])
def test_examples_in_docstrings_are_true(module: str) -> None:
    result = doctest.testmod(importlib.import_module(module))
    assert result.attempted > 0
    assert result.failed == 0


def test_the_readme_shows_every_file() -> None:
    shown = (ROOT / "README.md").read_text(encoding="utf-8").split("## The tree")[1]
    words = set(re.findall(r"[a-z_0-9]+", shown))
    missing = [module for module in FILES if not {part for part in module.split(".") if part != "__main__"} <= words]
    assert not missing
