"""A module of this installation as Python 3.8 takes it: the same code, three spellings older.

The shared modules are written for Python 3.10. Annotations are not evaluated in any of them, so
what 3.8 stumbles over is little: `TypeAlias`, aliases that are subscripted when the module is
imported, and `zip(strict=True)`, which checks what this machine's tests have checked.
"""

from __future__ import annotations

import ast

_GENERIC = {"Callable", "Iterable", "Iterator", "Mapping", "Sequence", "dict", "list", "tuple"}


def lowered(source: str) -> str:
    """The source for Python 3.8 and newer; comments are lost."""
    tree = ast.parse(source)
    for number, node in enumerate(tree.body):
        tree.body[number] = _alias(node)
    return ast.unparse(ast.fix_missing_locations(_Older().visit(tree))) + "\n"


def _alias(node: ast.stmt) -> ast.stmt:
    """`Clock = Callable[[], float]` as `Clock = 'Callable[[], float]'`: only annotations use it."""
    if isinstance(node, (ast.Assign, ast.AnnAssign)) and isinstance(node.value, ast.Subscript):
        name = node.value.value
        if isinstance(name, ast.Name) and name.id in _GENERIC:
            node.value = ast.Constant(ast.unparse(node.value))
    return node


class _Older(ast.NodeTransformer):
    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.stmt:
        """Without `TypeAlias`, which only annotations name."""
        if node.module == "typing":
            node.names = [alias for alias in node.names if alias.name != "TypeAlias"]
        return node if node.names else ast.Pass()

    def visit_Call(self, node: ast.Call) -> ast.Call:
        """`zip` without `strict`."""
        self.generic_visit(node)
        if isinstance(node.func, ast.Name) and node.func.id == "zip":
            node.keywords = [word for word in node.keywords if word.arg != "strict"]
        return node
