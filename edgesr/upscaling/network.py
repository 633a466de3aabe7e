"""The network that a run uses: opened by name, and told apart from others."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from edgesr.models.find import onnx_of
from edgesr.runtime.base import Runtime
from edgesr.runtime.open import ENGINE, open_runtime
from edgesr.upscaling.options import Options


def open_model(name: str, runtime: str = "auto") -> Runtime:
    """The model of that name or path, ready to run: on this machine's CPU unless `runtime` says."""
    is_engine = name.endswith(ENGINE) and Path(name).is_file()
    return open_runtime(Path(name) if is_engine else onnx_of(name), runtime)


@contextmanager
def opened(model: str | Runtime, name: str = "auto") -> Iterator[Runtime]:
    """`model`, opened if it is a name or path, and closed again if it was opened here."""
    if isinstance(model, str):
        with closing(open_model(model, name)) as runtime:
            yield runtime
    else:
        yield model  # the caller closes what the caller opened


def described(model: str | Runtime, options: Options) -> str:
    """A line that is another one when the network would make other pixels."""
    if not isinstance(model, str):
        return f"{model.name} x{model.scale}"
    found = Path(model) if model.endswith(ENGINE) else onnx_of(model)
    data = found if isinstance(found, bytes) else found.read_bytes()
    ensemble = ", self-ensemble" if options.ensemble else ""
    return f"{model} {hashlib.sha256(data).hexdigest()[:16]}{ensemble}"
