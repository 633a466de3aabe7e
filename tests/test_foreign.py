"""Foreign weights: loaded, each network gives what its own torch form gives.

The torch modules here are written from the papers and the key names of the public files;
they share nothing with the graphs. Sizes are small, weights random, batch norms have
statistics other than 0 and 1.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgesr.errors import BadModel, MissingExtra
from edgesr.graph.onnx import to_onnx
from edgesr.models.foreign import load_foreign
from edgesr.runtime.ort import OrtRuntime


class Residual(nn.Module):
    def __init__(self, width: int, names: tuple[str, ...], bias: bool) -> None:
        super().__init__()
        conv1, bn1, act, conv2, bn2 = names
        self.order = names
        self.add_module(conv1, nn.Conv2d(width, width, 3, padding=1, bias=bias))
        self.add_module(bn1, nn.BatchNorm2d(width))
        self.add_module(act, nn.PReLU())
        self.add_module(conv2, nn.Conv2d(width, width, 3, padding=1, bias=bias))
        self.add_module(bn2, nn.BatchNorm2d(width))

    def forward(self, x: Tensor) -> Tensor:
        y = x
        for name in self.order:
            y = self.get_submodule(name)(y)
        return x + y


class TrunkResidual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.rcb = Residual(width, ("0", "1", "2", "3", "4"), bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.rcb(x)


class TrunkUp(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        conv = nn.Conv2d(width, 4 * width, 3, padding=1)
        self.upsample_block = nn.Sequential(conv, nn.PixelShuffle(2), nn.PReLU())

    def forward(self, x: Tensor) -> Tensor:
        return self.upsample_block(x)


class TrunkGenerator(nn.Module):
    """The generator with a `trunk`; `stem` is what its newer and older files differ in."""

    def __init__(self, stem: str, width: int = 6, blocks: int = 3) -> None:
        super().__init__()
        self.stem = stem
        head = nn.Sequential(nn.Conv2d(3, width, 9, padding=4), nn.PReLU())
        body = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.add_module(f"{stem}1", head)
        self.trunk = nn.Sequential(*(TrunkResidual(width) for _ in range(blocks)))
        self.add_module(f"{stem}2", nn.Sequential(body, nn.BatchNorm2d(width)))
        self.upsampling = nn.Sequential(TrunkUp(width), TrunkUp(width))
        self.add_module(f"{stem}3", nn.Conv2d(width, 3, 9, padding=4))

    def forward(self, x: Tensor) -> Tensor:
        head, body, tail = (self.get_submodule(f"{self.stem}{i}") for i in (1, 2, 3))
        features = head(x)
        return tail(self.upsampling(features + body(self.trunk(features))))


class BlockUp(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, 4 * width, 3, padding=1)
        self.prelu = nn.PReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.prelu(F.pixel_shuffle(self.conv(x), 2))


class BlockGenerator(nn.Module):
    """The generator whose parts are `block1` to `block8`, with five residual blocks."""

    def __init__(self, width: int = 6) -> None:
        super().__init__()
        names = ("conv1", "bn1", "prelu", "conv2", "bn2")
        self.block1 = nn.Sequential(nn.Conv2d(3, width, 9, padding=4), nn.PReLU())
        for i in range(2, 7):
            self.add_module(f"block{i}", Residual(width, names, bias=True))
        self.block7 = nn.Sequential(nn.Conv2d(width, width, 3, padding=1), nn.BatchNorm2d(width))
        tail = nn.Conv2d(width, 3, 9, padding=4)
        self.block8 = nn.Sequential(BlockUp(width), BlockUp(width), tail)

    def forward(self, x: Tensor) -> Tensor:
        first = y = self.block1(x)
        for i in range(2, 8):
            y = self.get_submodule(f"block{i}")(y)
        return (torch.tanh(self.block8(first + y)) + 1) / 2


class DenseBlock(nn.Module):
    def __init__(self, width: int, growth: int) -> None:
        super().__init__()
        for i in range(5):
            out = growth if i < 4 else width
            self.add_module(f"conv{i + 1}", nn.Conv2d(width + i * growth, out, 3, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        everything = x
        for i in range(1, 5):
            y = F.leaky_relu(self.get_submodule(f"conv{i}")(everything), 0.2)
            everything = torch.cat((everything, y), 1)
        return 0.2 * self.get_submodule("conv5")(everything) + x


class Rrdb(nn.Module):
    def __init__(self, width: int, growth: int) -> None:
        super().__init__()
        self.rdb1 = DenseBlock(width, growth)
        self.rdb2 = DenseBlock(width, growth)
        self.rdb3 = DenseBlock(width, growth)

    def forward(self, x: Tensor) -> Tensor:
        return 0.2 * self.rdb3(self.rdb2(self.rdb1(x))) + x


class RrdbNet(nn.Module):
    def __init__(self, width: int = 8, growth: int = 4, blocks: int = 2, cin: int = 3) -> None:
        super().__init__()
        self.conv_first = nn.Conv2d(cin, width, 3, padding=1)
        self.body = nn.Sequential(*(Rrdb(width, growth) for _ in range(blocks)))
        self.conv_body = nn.Conv2d(width, width, 3, padding=1)
        self.conv_up1 = nn.Conv2d(width, width, 3, padding=1)
        self.conv_up2 = nn.Conv2d(width, width, 3, padding=1)
        self.conv_hr = nn.Conv2d(width, width, 3, padding=1)
        self.conv_last = nn.Conv2d(width, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv_first(x)
        y = y + self.conv_body(self.body(y))
        for up in (self.conv_up1, self.conv_up2):
            y = F.leaky_relu(up(F.interpolate(y, scale_factor=2, mode="nearest")), 0.2)
        return self.conv_last(F.leaky_relu(self.conv_hr(y), 0.2))


EARLY_BASICSR = {
    r"^body\.(\d+)\.rdb": r"RRDB_trunk.\1.RDB",
    r"^conv_body": "trunk_conv",
    r"^conv_up": "upconv",
    r"^conv_hr": "HRconv",
}
ESRGAN = {
    r"^body\.(\d+)\.rdb(\d)\.(conv\d)": r"model.1.sub.\1.RDB\2.\3.0",
    r"^conv_first": "model.0",
    r"^conv_body": "model.1.sub.2",  # after the two blocks
    r"^conv_up1": "model.3",
    r"^conv_up2": "model.6",
    r"^conv_hr": "model.8",
    r"^conv_last": "model.10",
}


class Compact(nn.Module):
    def __init__(self, width: int = 6, convs: int = 3, scale: int = 4) -> None:
        super().__init__()
        self.scale = scale
        layers: list[nn.Module] = []
        for i in range(convs + 1):
            layers += [nn.Conv2d(width if i else 3, width, 3, padding=1), nn.PReLU(width)]
        self.body = nn.Sequential(*layers, nn.Conv2d(width, 3 * scale**2, 3, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        base = F.interpolate(x, scale_factor=self.scale, mode="nearest")
        return F.pixel_shuffle(self.body(x), self.scale) + base


class Branches(nn.Module):
    """SPAN's convolution as it is trained."""

    def __init__(self, cin: int, out: int) -> None:
        super().__init__()
        self.sk = nn.Conv2d(cin, out, 1)
        wide = nn.Conv2d(2 * cin, 2 * out, 3)
        self.conv = nn.Sequential(nn.Conv2d(cin, 2 * cin, 1), wide, nn.Conv2d(2 * out, out, 1))
        self.eval_conv = nn.Conv2d(cin, out, 3, padding=1)  # never up to date in this test

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.pad(x, (1, 1, 1, 1))) + self.sk(x)


class AttentionBlock(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.c1_r = Branches(width, width)
        self.c2_r = Branches(width, width)
        self.c3_r = Branches(width, width)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        first = F.silu(self.c1_r(x))
        y = self.c3_r(F.silu(self.c2_r(first)))
        return (y + x) * (torch.sigmoid(y) - 0.5), first


class Span(nn.Module):
    def __init__(self, width: int = 4, scale: int = 4, norm: bool = True) -> None:
        super().__init__()
        if not norm:
            self.register_buffer("no_norm", torch.zeros(1))
        self.norm, self.scale = norm, scale
        self.conv_1 = Branches(3, width)
        for i in range(1, 7):
            self.add_module(f"block_{i}", AttentionBlock(width))
        self.conv_2 = Branches(width, width)
        self.conv_cat = nn.Conv2d(4 * width, width, 1)
        self.upsampler = nn.Sequential(nn.Conv2d(width, 3 * scale**2, 3, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        if self.norm:
            x = 255 * (x - torch.tensor([0.4488, 0.4371, 0.4040]).view(3, 1, 1))
        first = y = self.conv_1(x)
        outputs, inner = [], first
        for i in range(1, 7):
            y, inner = self.get_submodule(f"block_{i}")(y)
            outputs.append(y)
        everything = torch.cat((first, self.conv_2(y), outputs[0], inner), 1)
        return F.pixel_shuffle(self.upsampler(self.conv_cat(everything)), self.scale)


def randomised(net: nn.Module, seed: int = 0) -> nn.Module:
    """`net` in eval mode; batch norms and slopes get values that a loader cannot skip."""
    generator = torch.Generator().manual_seed(seed)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.weight, module.running_var):
                tensor.data = 0.5 + torch.rand(tensor.shape, generator=generator)
            for tensor in (module.bias, module.running_mean):
                tensor.data = torch.rand(tensor.shape, generator=generator) - 0.5
        elif isinstance(module, nn.PReLU):
            module.weight.data = torch.rand(module.weight.shape, generator=generator)
        elif isinstance(module, nn.Conv2d):
            fan_in = module.weight[0].numel()
            noise = torch.randn(module.weight.shape, generator=generator)
            module.weight.data = noise / fan_in**0.5
            if module.bias is not None:
                module.bias.data = torch.randn(module.bias.shape, generator=generator) / 10
    return net.eval()


def assert_same(net: nn.Module, path: Path) -> None:
    """The file at `path`, loaded and run in ONNX Runtime, gives what `net` gives."""
    ckpt = load_foreign(path)
    batch = np.random.default_rng(1).random((1, 3, 13, 17), dtype=np.float32)
    got = OrtRuntime(to_onnx(ckpt.graph, ckpt.weights), threads=1).run(batch)
    with torch.no_grad():
        want = net.double()(torch.from_numpy(batch).double()).numpy()
    assert want.std() > 0.01  # a dead network would prove nothing
    tolerance = 1e-5 * max(1.0, float(np.abs(want).max()))
    np.testing.assert_allclose(got, want, atol=tolerance, rtol=0)


def saved(path: Path, content: object) -> Path:
    torch.save(content, path)
    return path


@pytest.mark.parametrize("stem", ["conv", "conv_block"])
def test_srgan_with_a_trunk(tmp_path: Path, stem: str) -> None:
    net = randomised(TrunkGenerator(stem))
    content = {"epoch": 3, "state_dict": net.state_dict(), "optimizer": {"lr": 1e-4}}
    path = saved(tmp_path / "g.pth.tar", content)
    ckpt = load_foreign(path)
    assert ckpt.lineage["kind"] == "SRResNet/SRGAN"
    assert not any("norm" in name for name in ckpt.weights)
    assert_same(net, path)


def test_srgan_of_numbered_blocks_ends_in_tanh(tmp_path: Path) -> None:
    net = randomised(BlockGenerator())
    assert_same(net, saved(tmp_path / "g.pth", net.state_dict()))


@pytest.mark.parametrize("names", [{}, EARLY_BASICSR, ESRGAN], ids=["new", "early", "esrgan"])
def test_rrdb_in_three_layouts(tmp_path: Path, names: dict[str, str]) -> None:
    net = randomised(RrdbNet())
    state = dict(net.state_dict())
    for pattern, replacement in names.items():
        state = {re.sub(pattern, replacement, key): value for key, value in state.items()}
    assert_same(net, saved(tmp_path / "g.pth", {"params_ema": state}))


@pytest.mark.parametrize("scale", [2, 4])
def test_srvgg(tmp_path: Path, scale: int) -> None:
    net = randomised(Compact(scale=scale))
    assert_same(net, saved(tmp_path / "g.pth", {"params": net.state_dict()}))


@pytest.mark.parametrize("norm", [True, False])
def test_span_folds_its_branches_exactly(tmp_path: Path, norm: bool) -> None:
    net = randomised(Span(norm=norm))
    if norm:  # with inputs of 0..255 and random weights, float32 alone would cost four digits
        for conv in (net.conv_1.sk, net.conv_1.conv[2]):
            conv.weight.data /= 128
    assert_same(net, saved(tmp_path / "g.pth", {"params_ema": net.state_dict()}))


def test_span_that_was_folded_already(tmp_path: Path) -> None:
    net = randomised(Span())
    branches = load_foreign(saved(tmp_path / "a.pth", net.state_dict()))
    state = {k: v for k, v in net.state_dict().items() if ".sk." not in k and ".conv." not in k}
    for key in [k for k in state if ".eval_conv." in k]:
        ours = re.sub(r"\.c(\d)_r", r"_c\1", key.replace(".eval_conv", ""))
        state[key] = torch.from_numpy(branches.weights[ours])
    folded = load_foreign(saved(tmp_path / "b.pth", state))
    for name, weight in branches.weights.items():
        np.testing.assert_array_equal(folded.weights[name], weight)


def test_containers_and_prefixes_are_unwrapped(tmp_path: Path) -> None:
    net = randomised(Compact())
    state = net.state_dict()
    plain = load_foreign(saved(tmp_path / "a.pth", state))
    parallel = {f"module.{key}": value.half() for key, value in state.items()}
    for content in ({"model": {"state_dict": state}, "step": torch.tensor(3)}, parallel):
        other = load_foreign(saved(tmp_path / "b.pth", content))
        assert other.graph == plain.graph
        np.testing.assert_allclose(
            other.weights["tail.weight"], plain.weights["tail.weight"], atol=1e-3
        )


def refused(path: Path, match: str) -> str:
    with pytest.raises(BadModel, match=match) as caught:
        load_foreign(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_that_runs_code_is_refused_and_runs_nothing(tmp_path: Path, zipped: bool) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[object, ...]:
            return os.mkdir, (str(tmp_path / "ran"),)

    path = tmp_path / "x.pth"
    content = {"params": Compact().state_dict(), "extra": Bomb()}
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    refused(path, "could run code")
    assert not (tmp_path / "ran").exists()


def test_other_networks_are_named_as_such(tmp_path: Path) -> None:
    path = tmp_path / "x.pth"
    message = refused(saved(path, {"fc.weight": torch.zeros(2, 2)}), "not a network")
    for word in ("SRGAN", "RRDBNet", "SRVGGNetCompact", "SPAN", "zoo"):
        assert word in message
    keys = ("conv_first.weight", "body.0.conv1.weight", "upconv1.weight")
    refused(saved(path, dict.fromkeys(keys, torch.zeros(1))), "bilinear")
    refused(saved(path, {"epoch": 3}), "no weights")
    refused(saved(path, [torch.zeros(1)]), "no weights")
    endless: dict[str, object] = {}
    endless["model"] = endless
    refused(saved(path, endless), "no weights")


def test_resembling_networks_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.pth"
    state = dict(randomised(Compact()).state_dict())
    refused(saved(path, {**state, "extra.weight": torch.zeros(1)}), r"unknown.*extra\.weight")
    refused(saved(path, {**state, "body.1.weight": torch.zeros(5)}), "resembles SRVGG")
    refused(saved(path, {k: v for k, v in state.items() if "body.2." not in k}), "alternate")
    refused(saved(path, {**state, "body.0.bias": torch.full((6,), np.inf)}), "not finite")
    state = dict(randomised(TrunkGenerator("conv")).state_dict())
    del state["trunk.1.rcb.2.weight"]
    refused(saved(path, state), r"trunk\.1\.rcb\.2\.weight")
    refused(saved(path, RrdbNet(cin=12).state_dict()), "12 channels")
    state = dict(Span().state_dict())
    del state["block_4.c2_r.conv.1.bias"]
    load_foreign(saved(path, state))  # a convolution without bias is fine
    del state["block_4.c2_r.conv.1.weight"]
    refused(saved(path, state), "resembles SPAN")


def test_files_that_are_no_torch_files(tmp_path: Path) -> None:
    path = tmp_path / "x.pth"
    refused(path, "cannot be read")
    refused(tmp_path, "cannot be read")
    for content in (b"", b"a text file", b"PK\x03\x04 and nothing else", b"\x80\x02 nothing"):
        path.write_bytes(content)
        refused(path, "torch file|refused")
    saved(path, Compact().state_dict())
    path.write_bytes(path.read_bytes()[:-200])
    refused(path, "not a torch file, or cut off")


def test_without_torch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "torch", None)
    with pytest.raises(MissingExtra, match=r"edgesr\[train\]"):
        load_foreign(tmp_path / "x.pth")
