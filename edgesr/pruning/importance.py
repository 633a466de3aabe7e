"""How much a prune unit matters: three ways to rank, one number a unit.

`l1` and `median` look at the weights alone and count in average filters: the sizes of a
convolution's filters are divided by their mean, so that layers of different scale can be
compared, and a unit of eighteen filters weighs about eighteen. `taylor` needs gradients and
estimates by how much the loss changes, in the same unit for all layers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from edgesr.errors import UnknownName
from edgesr.graph.groups import Group
from edgesr.graph.spec import Weights

Importance: TypeAlias = Literal["l1", "median", "taylor"]
# Per convolution Σ w·∂L/∂w over each filter: float (batches, O).
Sensitivity: TypeAlias = Mapping[str, NDArray[np.floating]]

_TINY = 1e-12


def unit_importance(
    group: Group,
    weights: Weights,
    importance: str = "l1",
    sensitivity: Sensitivity | None = None,
) -> NDArray[np.float64]:
    """Importance of each unit of `group`; float64 (units,), not negative.

    `l1`: the L1 norm of each filter ÷ the mean of its convolution's filters in the group, summed
    over the unit (Li et al., ICLR 2017). `median`: see `_median`. `taylor`: see `_taylor`; it
    needs `sensitivity`. Raises `UnknownName` for any other.
    """
    match importance:
        case "l1":
            return _l1(group, weights)
        case "median":
            return _median(group, weights)
        case "taylor":
            assert sensitivity is not None, "taylor ranks by a sensitivity, and none is given"
            return _taylor(group, sensitivity)
    raise UnknownName("importance", importance, get_args(Importance))


def _l1(group: Group, weights: Weights) -> NDArray[np.float64]:
    def norms(filters: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(np.abs(filters).sum(axis=2))

    relative = [norms(f) / _mean(norms(f)) for f in _filters(group, weights)]
    return np.asarray(sum(r.sum(axis=1) for r in relative))


def _median(group: Group, weights: Weights) -> NDArray[np.float64]:
    """How far a unit is from all others of its group: FPGM (He et al., CVPR 2019, equation 6).

    The filters of a unit, each convolution's divided by their mean Euclidean norm, are joined to
    one vector; a unit near the geometric median of the group is the one whose summed distance to
    the others is smallest, and the others can stand in for it. The sums are divided by their
    mean and multiplied by the number of filters in a unit.
    """
    parts = []
    for filters in _filters(group, weights):
        scale = _mean(np.linalg.norm(filters, axis=2))
        parts.append((filters / scale).reshape(group.width, -1))
    vectors = np.concatenate(parts, axis=1)
    distances = np.array([np.linalg.norm(vectors - v, axis=1).sum() for v in vectors])
    return np.asarray(distances / _mean(distances) * len(group.units[0].filters))


def _taylor(group: Group, sensitivity: Sensitivity) -> NDArray[np.float64]:
    """First-order Taylor expansion (Molchanov et al., CVPR 2019, equations 8 and 9).

    The mean over the batches of (Σ w·∂L/∂w)², summed over all filters of the unit before it is
    squared: by how much the loss would change, squared, were the unit zero.
    """
    scores = []
    for unit in group.units:
        change = np.sum([sensitivity[name][:, i] for name, i in unit.filters], axis=0)
        scores.append(float(np.mean(np.square(change, dtype=np.float64))))
    return np.array(scores)


def _filters(group: Group, weights: Weights) -> list[NDArray[np.float64]]:
    """For each producer its filters by unit: (units, filters a unit, I·K·K)."""
    found = []
    for name, count in group.producers:
        index = [i for unit in group.units for producer, i in unit.filters if producer == name]
        flat = weights[f"{name}.weight"][index].astype(np.float64)
        found.append(flat.reshape(group.width, count, -1))
    return found


def _mean(values: NDArray[np.float64]) -> float:
    return max(float(values.mean()), _TINY)
