"""TOML → frozen dataclasses, with every unknown key and wrong type refused by name."""

from __future__ import annotations

import dataclasses
import difflib
import json
import sys
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from edgesr.errors import BadConfig

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

T = TypeVar("T")


def load(cls: type[T], path: Path) -> T:
    """The dataclass `cls` read from a TOML file.

    Raises `BadConfig` for a missing file, a syntax error, an unknown key (naming the
    nearest known one), a missing key or a value of the wrong type.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as e:
        reason = getattr(e, "strerror", None) or "not a text file"
        raise BadConfig(f"cannot read {path}: {reason}") from e
    return loads(cls, text, str(path))


def loads(cls: type[T], text: str, source: str) -> T:
    """The dataclass `cls` read from TOML text; `source` is what messages call it."""
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as e:
        raise BadConfig(f"{source}: {e}") from e
    return from_dict(cls, data, source)


def from_dict(cls: type[T], data: Mapping[str, Any], source: str) -> T:
    """The dataclass `cls` made from plain dicts and lists, checked."""
    fields = {f.name: f for f in dataclasses.fields(cast(Any, cls))}
    hints = get_type_hints(cls)
    for key in data:
        if key not in fields:
            near = difflib.get_close_matches(key, fields, n=1)
            guess = f"did you mean '{near[0]}'?" if near else f"known: {', '.join(fields)}"
            raise BadConfig(f"{source}: unknown key '{key}'; {guess}")
    values = {k: _convert(hints[k], v, f"{source}: {k}") for k, v in data.items()}
    for name, f in fields.items():
        required = f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
        if required and name not in values:
            raise BadConfig(f"{source}: key '{name}' is missing")
    try:
        return cls(**values)
    except ValueError as e:
        raise BadConfig(f"{source}: {e}") from e


def _convert(hint: Any, value: Any, where: str) -> Any:
    origin, args = get_origin(hint), get_args(hint)
    if origin is Literal:
        if value not in args:
            raise BadConfig(f"{where} is {value!r}; may be {', '.join(map(repr, args))}")
        return value
    if origin in (Union, types.UnionType):
        inner = [a for a in args if a is not type(None)]
        return _convert(inner[0], value, where)
    if origin is tuple and isinstance(value, list):
        kinds = [args[0]] * len(value) if len(args) == 2 and args[1] is Ellipsis else list(args)
        if len(kinds) != len(value):
            raise BadConfig(f"{where} has {len(value)} entries, should have {len(kinds)}")
        items = zip(kinds, value, strict=True)
        return tuple(_convert(k, v, f"{where}[{i}]") for i, (k, v) in enumerate(items))
    if origin is dict and isinstance(value, dict):
        return {k: _convert(args[1], v, f"{where}.{k}") for k, v in value.items()}
    if dataclasses.is_dataclass(hint) and isinstance(value, dict):
        return from_dict(cast(type[Any], hint), value, where)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if hint is Any or (isinstance(hint, type) and type(value) is hint):
        return value
    raise BadConfig(f"{where} is {value!r}; should be {getattr(hint, '__name__', hint)}")


def dumps(config: Any) -> str:
    """TOML text that `loads` turns back into an equal dataclass."""
    return _table(dataclasses.asdict(config), "")


def _table(data: Mapping[str, Any], prefix: str) -> str:
    lines, tables = [], []
    for key, value in data.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict):
            tables.append(f"\n[{name}]\n{_table(value, name + '.')}")
        elif isinstance(value, list | tuple) and value and isinstance(value[0], dict):
            tables += [f"\n[[{name}]]\n{_table(v, name + '.')}" for v in value]
        elif value is not None:
            lines.append(f"{key} = {_scalar(value)}\n")
    return "".join(lines + tables)


def _scalar(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        # JSON's escapes are TOML's too, but TOML also forbids a bare DEL.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_scalar(v) for v in value) + "]"
    return repr(value)
