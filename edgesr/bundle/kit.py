"""The deployment kit: `export/*` and the EdgeSR modules that run.py needs, copied verbatim."""

from __future__ import annotations

import ast
import shutil
from collections.abc import Iterable, Iterator
from importlib.resources import files
from pathlib import Path

from edgesr import resources

PACKAGE = "edgesr"
SCRIPTS = ("build.py", "run.py")
README_TEMPLATE = "README.md.template"


def closure(scripts: Iterable[Path], package: Path | None = None) -> list[Path]:
    """The modules of `package` that `scripts` import, directly or through others, sorted.

    Imports inside functions count; those under `if TYPE_CHECKING` do not. With a module
    come the `__init__.py` of its packages.
    """
    root = package or Path(str(files(PACKAGE)))
    found: set[Path] = set()
    waiting = list(scripts)
    while waiting:
        for name in _imported(waiting.pop()):
            for path in _module_files(root, name):
                if path not in found:
                    found.add(path)
                    waiting.append(path)
    return sorted(found)


def copy_kit(folder: Path) -> None:
    """Write the scripts and their modules into the bundle at `folder`."""
    kit, package = resources.folder("export"), Path(str(files(PACKAGE)))
    for script in SCRIPTS:
        shutil.copyfile(kit / script, folder / script)
    for module in closure([kit / script for script in SCRIPTS], package):
        target = folder / PACKAGE / module.relative_to(package)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(module, target)


def _imported(path: Path) -> Iterator[str]:
    """Dotted names below `edgesr` that the file imports; `from a import b` gives a and a.b."""
    for node in _executed(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        else:
            continue
        yield from (n for n in names if n.split(".")[0] == PACKAGE)


def _executed(node: ast.AST) -> Iterator[ast.AST]:
    """The nodes below `node`, without what only a type checker reads."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test):
            continue
        yield child
        yield from _executed(child)


def _module_files(root: Path, name: str) -> Iterator[Path]:
    """The file of the module `name` and the packages around it; none if it is no module."""
    parts = name.split(".")[1:]
    module = root.joinpath(*parts)
    for candidate in (module.with_suffix(".py") if parts else None, module / "__init__.py"):
        if candidate is not None and candidate.is_file():
            yield candidate
            for depth in range(len(parts)):
                yield root.joinpath(*parts[:depth]) / "__init__.py"
            return
