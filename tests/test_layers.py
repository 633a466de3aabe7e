"""The module map holds: who may import whom, and what may be heavy."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "edgesr"

# A module may import from rows above it, from its left, and from its own package.
ROWS = (
    ("errors", "resources", "extras", "board"),
    (
        "config",
        "atomic",
        "progress",
        "machine",
        "device",
        "image",
        "resize",
        "tiling",
        "rows",
        "metrics",
        "sparsity",
    ),
    ("graph",),
    ("runtime", "power", "report"),
    ("enlarge", "stream", "film"),
    ("checkpoint", "bundle", "models", "remote"),
    ("pruning", "training"),
    ("compress", "train", "export", "bench", "upscaling", "evaluate", "verify", "plan", "doctor"),
    ("cli",),
    ("__main__",),
)
VERBS = ROWS[-3]
PLACE = {name: (row, place) for row, names in enumerate(ROWS) for place, name in enumerate(names)}

# Beside the standard library; anywhere in the module, also inside functions.
LIGHT = {"numpy", "cv2", "PIL", "rich", "tomli"}
MAY_IMPORT = {name: LIGHT for row in ROWS[:2] for name in row} | {
    "graph": {"numpy", "onnx"},
    "power": {"numpy", "rich", "pynvml"},
    "report": {"numpy", "rich", "matplotlib", "jinja2", "PIL", "cv2"},
    "runtime": {"numpy", "onnxruntime", "tensorrt", "cuda", "pycuda"},
    "enlarge": {"numpy", "cv2"},
    "stream": {"numpy", "pyvips"},
    "film": {"numpy", "cv2", "av"},
    "checkpoint": {"numpy", "safetensors"},
}
# Importing the module itself must not load these; a function may, at the point of use.
LATE = {"torch", "onnx", "onnxruntime", "tensorrt", "tensorrt_rtx", "matplotlib", "skimage"} | {
    "av",
    "pyvips",
}
AT_ONCE = {"training": {"torch"}}
HEAVY = ("torch", "onnx", "onnxruntime", "tensorrt", "tensorrt_rtx", "cv2", "skimage", "matplotlib")


@dataclass(frozen=True)
class Import:
    """`where` imports `target` (dotted) in `line`; `late` when inside a function."""

    where: str
    target: str
    line: int
    late: bool


def imports_of(path: Path) -> Iterator[Import]:
    module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
    package = module.removesuffix(".__init__") if path.stem == "__init__" else module
    base = package if path.stem == "__init__" else package.rpartition(".")[0]

    def walk(node: ast.AST, late: bool) -> Iterator[Import]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
                # Types only; they still hold the map, and load nothing.
                yield from walk(child, True)
            elif isinstance(child, ast.Import):
                for alias in child.names:
                    yield Import(module, alias.name, child.lineno, late)
            elif isinstance(child, ast.ImportFrom):
                start = base
                for _ in range(max(0, child.level - 1)):
                    start = start.rpartition(".")[0]
                source = (
                    f"{start}.{child.module or ''}".rstrip(".") if child.level else child.module
                )
                for alias in child.names:
                    yield Import(module, f"{source}.{alias.name}", child.lineno, late)
            else:
                inside = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
                yield from walk(child, late or inside)

    yield from walk(ast.parse(path.read_text(encoding="utf-8")), False)


FILES = sorted(PACKAGE.rglob("*.py"))
IMPORTS = [found for path in FILES for found in imports_of(path)]


def owner(dotted: str) -> str:
    """The row's name that a module of ours belongs to: edgesr.graph.onnx -> graph."""
    parts = dotted.split(".")
    return parts[1] if len(parts) > 1 and parts[1] != "__init__" else ""


def test_every_module_has_its_place() -> None:
    names = {owner(".".join(path.relative_to(ROOT).with_suffix("").parts)) for path in FILES}
    assert names - {""} - set(PLACE) == set(), "new modules: give them a row in ROWS"


def test_imports_go_up_or_left() -> None:
    wrong = []
    for found in IMPORTS:
        if found.target.split(".")[0] != "edgesr":
            continue
        source, target = owner(found.where), owner(found.target)
        if source == target or target not in PLACE:
            continue  # its own package, or a name of edgesr itself (__version__)
        if source == "" and found.late:
            continue  # the library's functions: types, and what is loaded when they are called
        up = source in PLACE and PLACE[target] < PLACE[source]
        between_verbs = source in VERBS and target in VERBS
        if not up or between_verbs:
            wrong.append(f"{found.where}:{found.line} imports {found.target}")
    assert wrong == []


def test_outer_packages_stay_where_they_belong() -> None:
    ours = {"edgesr", "__future__", *sys.stdlib_module_names}
    wrong = []
    for found in IMPORTS:
        top = found.target.split(".")[0]
        allowed = MAY_IMPORT.get(owner(found.where))
        if allowed is not None and top not in ours | allowed:
            wrong.append(f"{found.where}:{found.line} imports {found.target}")
    assert wrong == []


def test_heavy_packages_are_imported_at_the_point_of_use() -> None:
    wrong = []
    for found in IMPORTS:
        top = found.target.split(".")[0]
        if not found.late and top in LATE - AT_ONCE.get(owner(found.where), set()):
            wrong.append(f"{found.where}:{found.line} imports {found.target}")
    assert wrong == []


def loaded_after(code: str) -> list[str]:
    """Which of the heavy packages a fresh Python has loaded after `code`."""
    probe = f"import sys\n{code}\nprint('LOADED', *(m for m in {HEAVY!r} if m in sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", probe], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1].split()[1:]


def test_the_probe_sees_a_heavy_import() -> None:
    assert loaded_after("import cv2") == ["cv2"]


def test_importing_the_cli_loads_nothing_heavy() -> None:
    assert loaded_after("import edgesr.cli.main") == []


COMMANDS = (
    "compress",
    "train",
    "export",
    "bench",
    "upscale",
    "evaluate",
    "plan",
    "verify",
    "devices",
    "models",
    "doctor",
)


@pytest.mark.parametrize("arguments", [[], *([name] for name in COMMANDS)], ids=" ".join)
def test_help_loads_nothing_heavy(arguments: list[str]) -> None:
    call = (
        "from edgesr.cli.main import main\n"
        f"sys.argv = ['edgesr', *{arguments!r}, '--help']\n"
        "try:\n    status = main()\nexcept SystemExit as stop:\n    status = stop.code\n"
        "assert not status, status"
    )
    assert loaded_after(call) == []
