"""Tiled equals untiled, on a real network in ONNX Runtime."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edgesr.errors import BadImage, BadModel
from edgesr.runtime.ort import OrtRuntime
from edgesr.tiling import AUTO_PIXELS, Span, plan, upscale_strips, upscale_tiles

CONVS = 4  # 3×3 each, so the receptive field reaches 4 pixels


def random_network(
    *, channels: int = 16, halo: int = CONVS, shape: tuple[int, int] | None = None
) -> bytes:
    """ONNX bytes: four random 3×3 convolutions with ReLU, then 48 → PixelShuffle(4)."""
    onnx = pytest.importorskip("onnx")
    helper = onnx.helper
    rng = np.random.default_rng(7)
    nodes, weights, tensor, cin = [], [], "input", 3
    for i in range(CONVS):
        last = i == CONVS - 1
        cout = 48 if last else channels
        w = rng.normal(0, np.sqrt((0.3 if last else 2.0) / (9 * cin)), (cout, cin, 3, 3))
        b = np.full(cout, 0.5 if last else 0.02)
        weights.append(onnx.numpy_helper.from_array(w.astype(np.float32), f"w{i}"))
        weights.append(onnx.numpy_helper.from_array(b.astype(np.float32), f"b{i}"))
        inputs = [tensor, f"w{i}", f"b{i}"]
        nodes.append(helper.make_node("Conv", inputs, [f"c{i}"], pads=[1, 1, 1, 1]))
        tensor, cin = f"c{i}", cout
        if not last:
            nodes.append(helper.make_node("Relu", [tensor], [f"r{i}"]))
            tensor = f"r{i}"
    shuffle = helper.make_node("DepthToSpace", [tensor], ["output"], blocksize=4, mode="CRD")
    h, w_ = shape or ("h", "w")
    big = [4 * x if isinstance(x, int) else f"4{x}" for x in (h, w_)]
    io = [
        helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1, 3, *size])
        for name, size in (("input", (h, w_)), ("output", big))
    ]
    graph = helper.make_graph([*nodes, shuffle], "random", io[:1], io[1:], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    helper.set_model_props(model, {"edgesr.scale": "4", "edgesr.halo": str(halo)})
    data: bytes = model.SerializeToString()
    return data


@pytest.fixture(scope="module", params=[16, 12], ids=lambda c: f"{c}ch")
def network(request: pytest.FixtureRequest) -> OrtRuntime:
    return OrtRuntime(random_network(channels=request.param), threads=1)


@pytest.fixture(scope="module")
def crop(photograph) -> NDArray[np.uint8]:
    return np.ascontiguousarray(photograph("astronaut")[80:181, 150:307])  # 101 × 157


class Nearest:
    """Repeats pixels; its halo is a claim only."""

    name = "nearest"
    scale = 4

    def __init__(self, halo: int = 3, shapes: tuple[tuple[int, int], ...] = ()) -> None:
        self.halo, self.tile_shapes = halo, shapes

    def run(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        return batch.repeat(self.scale, axis=2).repeat(self.scale, axis=3)


@pytest.mark.parametrize("tile", [1, 7, 32, 64, 100])
def test_tiled_is_untiled(network: OrtRuntime, crop: NDArray[np.uint8], tile: int) -> None:
    image = crop[:23, :31] if tile == 1 else crop
    whole = upscale_tiles(image, network, tile=1000)
    assert len(np.unique(whole)) > 100  # not a saturated, trivially equal picture
    np.testing.assert_array_equal(upscale_tiles(image, network, tile), whole)


@pytest.mark.parametrize("size", [(1, 1), (1, 50), (2, 3), (33, 5), (64, 65)])
def test_odd_sizes(network: OrtRuntime, crop: NDArray[np.uint8], size: tuple[int, int]) -> None:
    image = crop[: size[0], : size[1]]
    whole = upscale_tiles(image, network, tile=1000)
    assert whole.shape == (4 * size[0], 4 * size[1], 3)
    np.testing.assert_array_equal(upscale_tiles(image, network, tile=16), whole)


def test_untiled_is_the_network_itself(network: OrtRuntime, crop: NDArray[np.uint8]) -> None:
    batch = (crop.astype(np.float32) / 255).transpose(2, 0, 1)[None]
    raw = network.run(batch)[0].transpose(1, 2, 0).astype(np.float64)
    by_hand = np.floor(np.clip(raw, 0, 1) * 255 + 0.5).astype(np.uint8)
    got = upscale_tiles(crop, network, tile=1000)
    assert int(np.abs(got.astype(int) - by_hand).max()) <= 1  # float32 against float64 rounding
    assert (got != by_hand).mean() < 1e-4


def test_a_halo_one_less_shows(crop: NDArray[np.uint8]) -> None:
    short = OrtRuntime(random_network(halo=CONVS - 1), threads=1)
    whole = upscale_tiles(crop, short, tile=1000)
    assert (upscale_tiles(crop, short, tile=32) != whole).any()


@pytest.mark.parametrize("shape", [(48, 48), (9, 157), (101, 40)])
def test_fixed_windows_are_exact(
    crop: NDArray[np.uint8], network: OrtRuntime, shape: tuple[int, int]
) -> None:
    fixed = OrtRuntime(random_network(shape=shape), threads=1)
    assert fixed.tile_shapes == (shape,)
    free = OrtRuntime(random_network(), threads=1)
    np.testing.assert_array_equal(upscale_tiles(crop, fixed), upscale_tiles(crop, free, tile=1000))


def test_a_picture_smaller_than_the_window_is_refused(crop: NDArray[np.uint8]) -> None:
    with pytest.raises(BadImage, match=r"20x30 is smaller than this model's windows \(48x48\)"):
        upscale_tiles(crop[:30, :20], Nearest(shapes=((48, 48),)))


def test_windows_inside_the_halo_are_refused(crop: NDArray[np.uint8]) -> None:
    with pytest.raises(BadImage, match="leaves nothing inside a halo of 24"):
        upscale_tiles(crop, Nearest(halo=24, shapes=((48, 48),)))


def test_tile_chooses_among_fixed_windows() -> None:
    net = Nearest(shapes=((32, 32), (64, 64), (128, 128)))
    rows, _ = plan(200, 200, net, None)
    assert rows[0].stop == 128
    rows, _ = plan(200, 200, net, 100)
    assert rows[0].stop == 64
    with pytest.raises(BadImage, match="none within a tile of 16"):
        plan(200, 200, net, 16)


@settings(max_examples=60, deadline=None)
@given(
    length=st.integers(1, 400),
    tile=st.integers(1, 130),
    halo=st.integers(0, 40),
    fixed=st.booleans(),
)
def test_spans_cover_once_and_reach_the_halo(
    length: int, tile: int, halo: int, fixed: bool
) -> None:
    window = tile + 2 * halo
    shapes = ((window, window),) if fixed and window <= length else ()
    spans, _ = plan(length, length, Nearest(halo, shapes), tile if not shapes else None)
    assert [s.first for s in spans] == [0, *(s.last for s in spans[:-1])]
    assert spans[-1].last == length
    for s in spans:
        assert s.start <= max(0, s.first - halo)
        assert s.stop >= min(length, s.last + halo)
        assert 0 <= s.start < s.stop <= length
        assert s.stop - s.start == window if shapes else s.last - s.first <= tile


def test_spans_by_hand() -> None:
    rows, columns = plan(10, 25, Nearest(halo=3), 10)
    assert rows == [Span(0, 10, 0, 10)]
    # 25 pixels in three tiles: 9, 9, 7
    assert columns == [Span(0, 12, 0, 9), Span(6, 21, 9, 18), Span(15, 25, 18, 25)]


def test_automatic_tiles_bound_the_window() -> None:
    rows, columns = plan(180, 320, Nearest(halo=40), None)
    assert len(rows) == len(columns) == 1
    rows, columns = plan(3000, 4000, Nearest(halo=40), None)
    largest = max(r.stop - r.start for r in rows) * max(c.stop - c.start for c in columns)
    assert AUTO_PIXELS // 2 < largest <= AUTO_PIXELS


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 3])
def test_type_and_channels_are_kept(dtype: type, channels: int) -> None:
    top = np.iinfo(dtype).max
    rng = np.random.default_rng(1)
    image = rng.integers(0, top, (9, 11, channels), dtype=dtype, endpoint=True)
    got = upscale_tiles(image, Nearest(), tile=4)
    assert got.dtype == dtype
    # nearest keeps every value: v / top · top + 0.5 floors back to v
    np.testing.assert_array_equal(got, image.repeat(4, axis=0).repeat(4, axis=1))


def test_grey_is_the_luma_of_the_output() -> None:
    class Tint(Nearest):
        def run(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
            return super().run(batch) * np.float32([0.5, 1.0, 0.0]).reshape(1, 3, 1, 1)

    got = upscale_tiles(np.full((2, 2, 1), 200, np.uint8), Tint())
    assert np.unique(got).tolist() == [round(200 * (0.5 * 0.299 + 0.587))]


def test_output_is_clipped() -> None:
    class Loud(Nearest):
        def run(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
            return super().run(batch) * 4 - 1

    image = np.array([[[0, 128, 255]]], np.uint8)
    assert np.unique(upscale_tiles(image, Loud()).reshape(-1, 3), axis=0).tolist() == [
        [0, 255, 255]
    ]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_not_a_number_names_the_tile(bad: float) -> None:
    class Broken(Nearest):
        calls = 0

        def run(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
            out = super().run(batch)
            self.calls += 1
            if self.calls == 4:
                out[0, 1, 5, 6] = bad
            return out

    with pytest.raises(BadModel, match=r"nearest gave NaN or infinity .* x 8\.\.16, y 8\.\.16"):
        upscale_tiles(np.zeros((16, 16, 3), np.uint8), Broken(), tile=8)


def test_a_wrong_scale_is_refused() -> None:
    class Twice(Nearest):
        def run(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
            return batch.repeat(2, axis=2).repeat(2, axis=3)

    with pytest.raises(BadModel, match="wrong scale"):
        upscale_tiles(np.zeros((4, 4, 3), np.uint8), Twice())


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((0, 4, 3), np.uint8),
        np.zeros((4, 4, 3), np.float32),
    ],
    ids=lambda a: f"{a.shape}{a.dtype}",
)
def test_other_arrays_are_refused(image: NDArray) -> None:
    with pytest.raises(BadImage, match="tiling takes"):
        upscale_tiles(image, Nearest())


def test_a_tile_of_zero_is_refused() -> None:
    with pytest.raises(BadImage, match="at least 1"):
        upscale_tiles(np.zeros((4, 4, 3), np.uint8), Nearest(), tile=0)


def test_strips_and_progress() -> None:
    seen: list[tuple[int, int]] = []
    image = np.zeros((20, 10, 3), np.uint8)
    strips = upscale_strips(image, Nearest(), 5, lambda done, total: seen.append((done, total)))
    assert next(strips).shape == (20, 40, 3)
    assert seen == [(1, 8), (2, 8)]  # the rest has not been computed yet
    assert [len(s) for s in strips] == [20, 20, 20]
    assert seen[-1] == (8, 8)
