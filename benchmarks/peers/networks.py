"""The peers' networks as they run: re-parameterised branches folded, random weights.

Written anew from the papers and from the entries' public descriptions; what a network is called,
where it is from and which figures prove it the same is in `field.py`. Each function gives the
writer, with its counts, and the output tensor.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from benchmarks.peers.nets import SCALE, Net, Tensor

Built: TypeAlias = tuple[Net, Tensor]
RGB_TAIL = 3 * SCALE**2
DIV2K_MEAN = (0.4488, 0.4371, 0.4040)


def fsrcnn(height: int, width: int) -> Built:
    """FSRCNN(56, 12, 4): shrink, four mappings, expand, a 9×9 transposed convolution; Y only."""
    net = Net("fsrcnn", 1, height, width)
    x = net.act(net.conv(net.x, 56, 5), "prelu")
    x = net.act(net.conv(x, 12, 1), "prelu")
    for _ in range(4):
        x = net.act(net.conv(x, 12), "prelu")
    x = net.act(net.conv(x, 56, 1), "prelu")
    return net, net.deconv(x, 1, 9, SCALE)


def espcn(height: int, width: int) -> Built:
    """ESPCN: 5×5, 3×3, 3×3 and the first PixelShuffle; Y only."""
    net = Net("espcn", 1, height, width)
    x = net.act(net.conv(net.x, 64, 5), "tanh")
    x = net.act(net.conv(x, 32), "tanh")
    return net, net.shuffle(net.conv(x, SCALE**2))


def sesr_m5(height: int, width: int) -> Built:
    """SESR-M5, linear blocks collapsed: 5×5, five 3×3, 5×5 without biases, two long skips; Y."""
    net = Net("sesr-m5", 1, height, width)
    first = x = net.conv(net.shift(net.x, -0.5), 16, 5, bias=False)
    for _ in range(5):
        x = net.act(net.conv(x, 16, bias=False), "prelu")
    x = net.add(net.conv(net.add(x, first), SCALE**2, 5, bias=False), net.x)
    return net, net.act(net.shuffle(net.shuffle(x, 2), 2), "clip")


def ecbsr(blocks: int, width_: int) -> Callable[[int, int], Built]:
    """ECBSR, its edge blocks folded: a plain net with PReLU on top of the repeated input; Y."""

    def build(height: int, width: int) -> Built:
        net = Net(f"ecbsr-m{blocks}c{width_}", 1, height, width)
        x = net.x
        for _ in range(blocks + 1):
            x = net.act(net.conv(x, width_), "prelu")
        return net, net.shuffle(net.add(net.conv(x, SCALE**2), net.x))

    return build


def tsr(height: int, width: int) -> Built:
    """TSR (NTIRE 2025, entry 58): four blocks of four 3×3 with SiLU, 32 channels, no attention."""
    net = Net("tsr", 3, height, width)
    first = x = net.conv(net.x, 32)
    for _ in range(4):
        start = x
        for _ in range(4):
            x = net.act(net.conv(x, 32), "silu")
        x = net.add(x, start)
    x = net.add(net.conv(x, 32, 1), first)
    return net, net.shuffle(net.conv(x, RGB_TAIL))


def spanf(height: int, width: int) -> Built:
    """SPANF (NTIRE 2025, entry 24): SPAN's blocks at 32 channels, nearest skip as a convolution."""
    net = Net("spanf", 3, height, width)
    near = net.conv(net.x, RGB_TAIL, bias=False, groups=3)
    x = net.act(net.conv(net.x, 32), "silu")
    first = x = net.conv(net.act(net.conv(x, 32), "silu"), 32)
    for _ in range(4):
        y = net.act(net.conv(net.act(net.conv(x, 32), "silu"), 32), "silu")
        y = net.conv(y, 32)
        attention = net.shift(net.act(y, "sigmoid"), -0.5)
        x = net.mul(net.add(y, x), attention)
    x = net.conv(net.concat(near, x, first), 32, 1)
    return net, net.shuffle(net.conv(x, RGB_TAIL))


def efqn(height: int, width: int) -> Built:
    """EFQN (NTIRE 2024, entry 11): QuickSRNet at 64 channels, activations clipped to [0, 1]."""
    net = Net("efqn", 3, height, width)
    x = net.act(net.conv(net.concat(*[net.x] * 4), 64), "clip")
    for _ in range(11):
        x = net.act(net.conv(x, 64), "clip")
    x = net.add(net.conv(x, RGB_TAIL), net.conv(net.x, RGB_TAIL, 1))
    return net, net.shuffle(net.act(x, "clip"))


def edsr_baseline(height: int, width: int) -> Built:
    """EDSR-baseline: 16 residual blocks of 64 channels, two PixelShuffle stages."""
    net = Net("edsr-baseline", 3, height, width)
    first = x = net.conv(net.shift(net.x, tuple(-m for m in DIV2K_MEAN)), 64)
    for _ in range(16):
        x = net.add(net.conv(net.act(net.conv(x, 64), "relu"), 64), x)
    x = net.add(net.conv(x, 64), first)
    for _ in range(2):
        x = net.shuffle(net.conv(x, 256), 2)
    return net, net.shift(net.conv(x, 3), DIV2K_MEAN)


def esa(net: Net, x: Tensor, width: int, *, mix: bool, relus: bool = False) -> Tensor:
    """Enhanced spatial attention: a weight for each pixel, found on a map a sixth as large.

    `mix` is the 1×1 on its full-size skip, `relus` RFDN's longer form with three convolutions.
    """
    reduced = net.conv(x, width, 1)
    y = net.max_pool(net.conv(reduced, width, stride=2, pad=0), 7, 3)
    if relus:
        y = net.act(net.conv(net.act(net.conv(y, width), "relu"), width), "relu")
    y = net.resize(net.conv(y, width), x.height, x.width)
    skip = net.conv(reduced, width, 1) if mix else reduced
    return net.mul(x, net.act(net.conv(net.add(y, skip), x.channels, 1), "sigmoid"))


def rlfn(height: int, width: int) -> Built:
    """RLFN as it won NTIRE 2022: four blocks of 46 and 48 channels, each with ESA."""
    net = Net("rlfn", 3, height, width)
    first = x = net.conv(net.x, 46)
    for _ in range(4):
        y = x
        for channels in (48, 48, 46):
            y = net.act(net.conv(y, channels), "leaky_relu")
        x = esa(net, net.conv(net.add(y, x), 46, 1), 16, mix=True)
    x = net.add(net.conv(x, 46), first)
    return net, net.shuffle(net.conv(x, RGB_TAIL))


def dipnet(height: int, width: int) -> Built:
    """DIPNet, slim v2 (NTIRE 2025, entry 15): RLFN's block at 32 channels, SiLU, few biases."""
    net = Net("dipnet", 3, height, width)
    first = x = net.conv(net.x, 32, bias=False)
    for _ in range(4):
        x = _slim_block(net, x, convs=3, mix=True)
    x = net.add(net.conv(x, 32, 1, bias=False), first)
    return net, net.shuffle(net.conv(x, RGB_TAIL, bias=False))


def iesrnet(height: int, width: int) -> Built:
    """IESRNet (NTIRE 2025, entry 21): as DIPNet, the two middle blocks with two convolutions."""
    net = Net("iesrnet", 3, height, width)
    first = x = net.conv(net.x, 32, bias=False)
    for convs in (3, 2, 2, 3):
        x = _slim_block(net, x, convs=convs, mix=False)
    x = net.add(net.conv(x, 32, bias=False), first)
    return net, net.shuffle(net.conv(x, RGB_TAIL, bias=False))


def _slim_block(net: Net, x: Tensor, *, convs: int, mix: bool) -> Tensor:
    y = x
    for _ in range(convs):
        y = net.act(net.conv(y, 32, bias=False), "silu")
    if convs == 3:
        y = net.add(y, x)
    return esa(net, net.conv(y, 32, 1, bias=False), 16, mix=mix)


def eecnet(height: int, width: int) -> Built:
    """EECNet (NTIRE 2025, entry 47): eight blocks of two folded 3×3 with ESA, 32 channels."""
    net = Net("eecnet", 3, height, width)
    first = x = net.conv(net.x, 32)
    for _ in range(8):
        x = net.conv(net.act(net.conv(x, 32), "prelu"), 32)
        x = esa(net, x, 16, mix=False)
    x = net.add(net.conv(x, 32, 1), first)
    return net, net.shuffle(net.conv(x, RGB_TAIL))


def smrn(height: int, width: int) -> Built:
    """SMRN (NTIRE 2024, entry 10): separable, dense, separable 3×3 with GELU and ESA, 48."""
    net = Net("smrn", 3, height, width)

    def separable(x: Tensor) -> Tensor:
        return net.conv(net.conv(x, 48, 1, bias=False), 48, groups=48)

    first = x = net.conv(net.shift(net.x, tuple(-m for m in DIV2K_MEAN)), 48, bias=False)
    for _ in range(4):
        y = net.act(separable(x), "gelu")
        y = net.act(net.conv(y, 48, bias=False), "gelu")
        y = net.add(net.act(separable(y), "gelu"), x)
        x = esa(net, net.conv(y, 48, 1, bias=False), 16, mix=True)
    x = net.add(separable(x), first)
    return net, net.shift(net.shuffle(net.conv(x, RGB_TAIL)), DIV2K_MEAN)


def rfdn(height: int, width: int) -> Built:
    """RFDN as it won AIM 2020: four distillation blocks of 50 channels with the longer ESA."""
    net = Net("rfdn", 3, height, width)
    first = x = net.conv(net.x, 50)
    blocks = []
    for _ in range(4):
        parts = []
        for _ in range(3):
            parts.append(net.act(net.conv(x, 25, 1), "leaky_relu"))
            x = net.act(net.add(net.conv(x, 50), x), "leaky_relu")
        parts.append(net.act(net.conv(x, 25), "leaky_relu"))
        x = esa(net, net.conv(net.concat(*parts), 50, 1), 12, mix=True, relus=True)
        blocks.append(x)
    x = net.act(net.conv(net.concat(*blocks), 50, 1), "leaky_relu")
    x = net.add(net.conv(x, 50), first)
    return net, net.shuffle(net.conv(x, RGB_TAIL))


def imdn(height: int, width: int) -> Built:
    """IMDN: six multi-distillation blocks of 64 channels, contrast-aware channel attention."""
    net = Net("imdn", 3, height, width)
    first = x = net.conv(net.x, 64)
    blocks = []
    for _ in range(6):
        y, parts = x, []
        for _ in range(3):
            kept, y = net.split(net.act(net.conv(y, 64), "leaky_relu"), 16)
            parts.append(kept)
        y = net.concat(*parts, net.conv(y, 16))
        weight = net.act(net.conv(net.add(net.deviation(y), net.mean(y)), 4, 1), "relu")
        y = net.mul(y, net.act(net.conv(weight, 64, 1), "sigmoid"))
        x = net.add(net.conv(y, 64, 1), x)
        blocks.append(x)
    x = net.act(net.conv(net.concat(*blocks), 64, 1), "leaky_relu")
    x = net.add(net.conv(x, 64), first)
    return net, net.shuffle(net.conv(x, RGB_TAIL))


def light_safmnpp(height: int, width: int) -> Built:
    """light-SAFMN++ (AIS 2024): two blocks of 32 channels, no biases; sides: multiples of 8."""
    net = Net("light-safmn++", 3, height, width)
    first = x = net.conv(net.x, 32, bias=False)
    for _ in range(2):
        x = _modulated(net, x, 16, bias=False)
        x = net.act(net.conv(x, 48, bias=False), "gelu")
        x = net.conv(x, 32, 1, bias=False)
    return net, net.shuffle(net.conv(net.add(x, first), RGB_TAIL, bias=False))


def expandrepnet(height: int, width: int) -> Built:
    """ExpandRepNet (NTIRE 2025, entry 39): six residual SAFM blocks of 36; multiples of 8."""
    net = Net("expandrepnet", 3, height, width)
    x = net.conv(net.x, 36)
    for _ in range(6):
        y = _modulated(net, x, 12, bias=True)
        y = net.conv(net.act(net.conv(y, 54), "gelu"), 36, 1)
        x = net.add(y, x)
    enlarged = net.resize(net.x, height * SCALE, width * SCALE)
    return net, net.add(net.shuffle(net.conv(x, RGB_TAIL)), enlarged)


def _modulated(net: Net, x: Tensor, pooled: int, *, bias: bool) -> Tensor:
    """SAFM in its simple form: some channels weighed by their own maxima over 8×8 pixels."""
    weighed, rest = net.split(net.conv(x, x.channels, bias=bias), pooled)
    y = net.conv(net.max_pool(weighed, 8, 8), pooled, groups=pooled, bias=False)
    y = net.mul(net.act(net.resize(y, x.height, x.width), "gelu"), weighed)
    return net.conv(net.act(net.concat(rest, y), "gelu"), x.channels, 1, bias=bias)
