"""Whether optional packages are here, asked before they are needed."""

from __future__ import annotations

from importlib.util import find_spec

from edgesr.errors import MissingExtra


def need_torch(purpose: str) -> None:
    """Raise `MissingExtra` unless torch, onnx and safetensors are installed."""
    for package in ("torch", "onnx", "safetensors"):
        if find_spec(package) is None:
            raise MissingExtra(package, "train", purpose)
