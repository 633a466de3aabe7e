"""Sizes of sparse weights: counts by hand, and a coding that gives back every bit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import random_weights, small_networks

from edgesr import sparsity
from edgesr.errors import BadModel
from edgesr.graph import counts
from edgesr.models.student import student
from edgesr.pruning.magnitude import prune_magnitude
from edgesr.pruning.two_four import prune_two_four

NETWORKS = small_networks()
HEADER = 12  # magic and number of tensors


def one(value: np.ndarray) -> dict[str, np.ndarray]:
    return {"x.weight": value.astype(np.float32)}


def payload(value: np.ndarray) -> int:
    """Bytes of one tensor without names and shapes."""
    about = 2 + len("x.weight") + 2 + 4 * value.ndim
    return sparsity.coded_bytes(one(value)) - HEADER - about


@settings(deadline=None, max_examples=40)
@given(
    name=st.sampled_from(sorted(NETWORKS)),
    seed=st.integers(0, 10_000),
    how=st.sampled_from(["dense", "magnitude", "2:4"]),
    keep=st.floats(0.0, 1.0),
)
def test_every_bit_comes_back(name: str, seed: int, how: str, keep: float) -> None:
    graph = NETWORKS[name]
    weights = random_weights(graph, seed)
    if how == "magnitude":
        weights = prune_magnitude(weights, graph, keep)
    elif how == "2:4":
        weights = prune_two_four(graph, weights, seed=seed, search=False).weights
    back = sparsity.decode(sparsity.encode(weights))
    assert list(back) == list(weights)
    for key, value in weights.items():
        assert back[key].shape == value.shape and back[key].dtype == np.float32
        assert back[key].tobytes() == value.tobytes()


@pytest.mark.parametrize("shape", [(1, 4, 1, 1), (3, 8, 3, 3), (5,), (2, 3), (0,), (), (1, 4)])
def test_odd_values_come_back_too(shape: tuple[int, ...]) -> None:
    value = np.zeros(shape, np.float32)
    odd = [-0.0, np.nan, np.inf, 1e-45, -1.0]
    value.ravel()[: len(odd)] = odd[: value.size]
    back = sparsity.decode(sparsity.encode({"x": value}))["x"]
    assert back.shape == shape
    assert back.tobytes() == value.tobytes()


def test_bytes_by_hand() -> None:
    rng = np.random.default_rng(0)
    dense = rng.normal(size=(8, 8, 3, 3))
    assert payload(dense) == 4 * 576
    sparse = dense.copy()
    sparse.ravel()[:300] = 0
    assert payload(sparse) == 576 // 8 + 4 * 276
    # One zero saves 4 bytes and a bitmap costs 72: written dense.
    nearly = dense.copy()
    nearly[0, 0, 0, 0] = 0
    assert payload(nearly) == 4 * 576
    assert sparsity.dense_bytes(one(sparse)) == 4 * 576
    assert sparsity.nonzeros(one(sparse)) == 276
    two_four = dense.reshape(8, 2, 4, 3, 3).copy()
    two_four[:, :, [0, 3]] = 0
    coded = sparsity.encode(one(two_four.reshape(8, 8, 3, 3)))
    # Two float32 and two times two bits for every four.
    assert payload(two_four.reshape(8, 8, 3, 3)) == 144 * 8 + 144 // 2
    assert coded[HEADER + 2 + len("x.weight")] == 2  # the 2:4 coding was taken
    assert payload(np.zeros((8, 8, 3, 3))) == 72


def test_places_of_the_2_4_coding_read_by_hand() -> None:
    value = np.array([0, 7, 0, 9], np.float32).reshape(1, 4)
    coded = sparsity.encode({"x": value})
    # In one byte: place 1 in bits 0 and 1, place 3 in bits 2 and 3. A bitmap takes as much.
    assert coded[-9:] == np.array([7, 9], "<f4").tobytes() + bytes([0b1101])


def test_pattern_names_what_was_done() -> None:
    graph = student(16, 3)
    weights = random_weights(graph)
    assert sparsity.pattern(weights) == "dense"
    magnitude = prune_magnitude(weights, graph, 0.82)
    assert sparsity.pattern(magnitude) == "unstructured"
    assert sparsity.pattern(prune_two_four(graph, weights, seed=0).weights) == "2:4"
    weights["body0.weight"][0, 0, 0, 0] = 0
    assert sparsity.pattern(weights) == "dense"


def test_sizes_of_a_pruned_student() -> None:
    graph = student(32, 4)
    weights = random_weights(graph)
    pruned = prune_magnitude(weights, graph, 0.5)
    in_convs = sum(w.size for n, w in weights.items() if n.endswith("weight"))
    others = counts.parameters(graph) - in_convs
    assert sparsity.nonzeros(pruned) == round(0.5 * in_convs) + others
    assert sparsity.dense_bytes(pruned) == 4 * counts.parameters(graph)
    expected = 4 * sparsity.nonzeros(pruned) + in_convs / 8
    assert sparsity.coded_bytes(pruned) == pytest.approx(expected, rel=0.01)
    assert "faster" in sparsity.ZEROS_SENTENCE


def test_damaged_files_are_refused() -> None:
    data = sparsity.encode(random_weights(NETWORKS["student"]))
    for bad in (b"", b"something else", data[:-1], data + b"x", data[:40]):
        with pytest.raises(BadModel):
            sparsity.decode(bad)
    swapped = bytearray(sparsity.encode({"x": np.zeros(3, np.float32)}))
    swapped[HEADER + 2 + 1] = 9  # an unknown coding
    with pytest.raises(BadModel, match="no coding 9"):
        sparsity.decode(bytes(swapped))


def test_violations_need_fours() -> None:
    with pytest.raises(BadModel, match="four"):
        sparsity.violations(np.zeros((4, 3, 3, 3), np.float32))
