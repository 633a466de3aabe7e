"""Unstructured pruning: the weights nearest to zero, over the whole generator, become zero.

All convolutions compete with each other, as in Han et al. (NeurIPS 2015): one threshold for
head, trunk, up-convolutions and tail. Biases and slopes stay. The share that remains falls
along the cubic schedule of Zhu & Gupta (arXiv 1710.01878, equation 1): fast while many weights
do not matter, slowly at the end.
"""

from __future__ import annotations

import numpy as np

from edgesr.errors import BadConfig
from edgesr.graph.spec import Graph, Weights


def cubic_keep(keep: float, done: float) -> float:
    """Share of the weights that remain when `done` (0 to 1) of the way to `keep` is gone.

    keep + (1 - keep)(1 - done)³: 1 at the start, `keep` at the end.
    """
    return keep + (1 - keep) * (1 - done) ** 3


def prune_magnitude(weights: Weights, graph: Graph, keep: float) -> Weights:
    """Copies in which round(`keep` · n) of the n convolution weights are not zero.

    The smallest magnitudes go; among equal ones those that come first in the graph, so zeros
    stay zeros and a later call with a smaller `keep` only adds to them. Where more are zero
    already than `keep` asks for, nothing changes. Raises `BadConfig` for `keep` outside 0 to 1.
    """
    if not 0 <= keep <= 1:
        raise BadConfig(f"keep = {keep:g} is not a share of the weights: give 0 to 1")
    names = [f"{conv.name}.weight" for conv in graph.convs()]
    magnitudes = np.abs(np.concatenate([weights[name].ravel() for name in names]))
    doomed = np.argsort(magnitudes, kind="stable")[
        : magnitudes.size - round(keep * magnitudes.size)
    ]
    stays = np.ones(magnitudes.size, bool)
    stays[doomed] = False
    pruned = {name: value.copy() for name, value in weights.items()}
    at = 0
    for name in names:
        w = pruned[name]
        w[~stays[at : at + w.size].reshape(w.shape)] = 0
        at += w.size
    return pruned
