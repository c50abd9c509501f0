"""The house holds: its rooms, the arrows between them, the sizes of its files, and the names that its pages promise."""

import ast
import re
import statistics
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path
from pkgutil import resolve_name

import pytest

import onebit

ROOT = Path(__file__).parents[1]
PACKAGE, ENGINE = ROOT / "src" / "onebit", ROOT / "csrc"
LEVELS = (  # a room imports rooms of lower levels only; flat modules stand below all, but for the command
    ("__main__",),
    ("cli",),
    ("reproduction",),
    ("bench",),
    ("analysis",),
    ("training", "packing"),
    ("checkpoints",),
    ("tasks", "export", "models"),
    ("data", "methods"),
    (
        "runtime",
    ),  # below data: training decodes and cuts pictures, and checks labels, as packed files are run with them
    ("nn",),
    ("machine",),
    ("files", "options", "tables"),
    ("errors", "__init__"),
)
LEVEL = {room: level for level, rooms in enumerate(LEVELS) for room in rooms}
FLAT = {"__init__", "__main__", "errors", "files", "options", "tables"}
LAYERS = (
    "bindings",
    "file",
    "graph",
    "operators",
    "convolutions",
    "boxes",
    "kernels",
    "base",
)  # of the engine, from the top
MODULES = {
    ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(PACKAGE.rglob("*.py"))
}
SOURCES = [
    path
    for folder in ("src", "csrc", "tests", "web")
    for path in sorted((ROOT / folder).rglob("*"))
    if path.suffix in (".py", ".cc", ".h", ".inc", ".c", ".sh", ".js", ".css", ".html")
]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
WITHOUT_TORCH = (
    *("onebit", "onebit.cli.main", "onebit.data", "onebit.methods", "onebit.models", "onebit.tasks"),
    *("onebit.training.recipe", "onebit.runtime", "onebit.bench.peers"),
)


def room(name: str) -> str:
    """The room of onebit.room.module; of the package itself "__init__"."""
    return [*name.split("."), "__init__"][1]


def nodes(tree: ast.AST, inside_functions: bool) -> Iterator[ast.AST]:
    for node in ast.iter_child_nodes(tree):
        if inside_functions or not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield node
            yield from nodes(node, inside_functions)


def imports(name: str, inside_functions: bool = True) -> set[str]:
    """What of onebit a module imports: modules, or names in them. A text that names a module, as in tables, counts too."""
    found = set()
    for node in nodes(ast.parse(MODULES[name].read_text(encoding="utf-8")), inside_functions):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name}: a relative import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif inside_functions and isinstance(node, ast.Constant) and isinstance(node.value, str):
            found |= set(re.findall(r"\Aonebit\.[\w.]+(?=:\w+\Z|\Z)", node.value))
    lazy = {f"onebit.{short}": f"{module}.{short}" for short, module in onebit.NAMES.items()}
    return {lazy.get(target, target) for target in found if target.partition(".")[0] == "onebit"}


def module_of(target: str) -> str:
    return target if target in MODULES else target.rpartition(".")[0]


def test_the_rooms_are_those_of_the_plan():
    folders = {path.name for path in PACKAGE.iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert folders == set(LEVEL) - FLAT | {"recipes", "zoo"}
    assert {path.stem for path in PACKAGE.glob("*.py")} == FLAT


@pytest.mark.parametrize("name", [name for name in MODULES if name != "onebit"])
def test_arrows_run_down(name):
    """And what another room calls private is not imported. (`onebit` itself offers names of all rooms, on first use.)"""
    for target in imports(name):
        there, here = room(module_of(target)), room(name)
        assert here == there or LEVEL[here] < LEVEL[there], f"{name} imports {target}"
        private = [part for part in target.split(".") if re.match("_(?!_)", part)]
        assert here == there or not private, f"{name} imports {target}, private to {there}"


def test_no_module_imports_itself_by_a_detour():
    graph = {name: {module_of(target) for target in imports(name, False)} - {name} for name in MODULES}
    TopologicalSorter(graph).prepare()  # raises CycleError, which names the modules


def test_names_and_tables_come_without_pytorch():
    lines = "\n".join(f"import {name}\nassert 'torch' not in sys.modules, '{name}'" for name in WITHOUT_TORCH)
    subprocess.run([sys.executable, "-c", f"import sys\n{lines}"], check=True)


def test_includes_of_the_engine_run_down():
    """A kernel includes no other kernel; what is compiled for one instruction set includes its own kernel alone, and text of base
    for the same instruction set, which has no home of its own."""
    for path in (path for path in SOURCES if path.is_relative_to(ENGINE)):
        here = path.relative_to(ENGINE).parts
        for included in re.findall(r'^#include "(.+)"', path.read_text(encoding="utf-8"), re.MULTILINE):
            there = Path(included).parts
            assert (ENGINE / included).is_file(), f"{path}: {included}"
            assert LAYERS.index(here[0]) <= LAYERS.index(there[0]), f"{path} includes {included}"
            leaf = re.match(r"(?:x86|arm\w*|wasm)_(.+)", path.stem)
            if leaf and there[0] == "base" and there[-1].endswith(f"_{leaf[1]}.inc"):
                continue
            if here[0] == "kernels" and (there[0] == "kernels" or leaf):
                assert here[:2] == there[:2], f"{path} includes {included}"


def test_files_are_small_and_named_by_what_they_hold():
    lines = {path: path.read_text(encoding="utf-8").count("\n") for path in SOURCES}
    assert {path: count for path, count in lines.items() if count > 500} == {}
    assert statistics.median(count for path, count in lines.items() if path.is_relative_to(PACKAGE)) <= 150
    assert {path.stem for path in SOURCES}.isdisjoint({"utils", "util", "core", "common", "helpers", "misc"})


def test_the_public_names_exist():
    assert (PACKAGE / "py.typed").is_file()
    offered = {*onebit.NAMES, *onebit.PACKAGES}
    assert {name for name in offered if getattr(onebit, name).__name__ not in (name, f"onebit.{name}")} == set()
    assert offered | {"__version__"} == set(dir(onebit))
    for branch in (node for node in ast.parse(MODULES["onebit"].read_text()).body if isinstance(node, ast.If)):
        typed = {alias.name for node in ast.walk(branch) if isinstance(node, ast.ImportFrom) for alias in node.names}
        assert typed == offered, "what type checkers see"


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_what_a_page_names_exists(page):
    """onebit.name in Python code and between backticks, what such code imports, and files of the repository."""
    text = page.read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    quoted = re.findall(r"`([^`]+)`", re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL))
    names = set(re.findall(r'(?<![\w"./])onebit(?:\.[A-Za-z_]\w*)+', "\n".join([*blocks, *quoted])))
    for node in (node for block in blocks for node in ast.walk(ast.parse(block))):
        if isinstance(node, ast.ImportFrom) and node.module.startswith("onebit"):
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    for name in names:
        resolve_name(name)
    for path in re.findall(
        r"(?<![\w./])(?:(?:src|csrc|tests|docs|benchmarks|recipes)/|examples/(?=\w+\.))[\w./-]*\w", text
    ):
        assert (ROOT / path).exists(), f"{path}, which {page.name} names"
