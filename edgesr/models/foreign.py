"""Other projects' `.pth` weights, recognised by their keys and turned into checkpoints.

A `.pth` is a pickle, which can run code when it is read; torch's restricted reader takes
tensors and plain containers only, and everything else is refused before anything runs. Each
key of the file must find its place: a network that resembles a known one but is not it is
refused as well, instead of giving wrong pictures.
"""

from __future__ import annotations

import hashlib
import math
import pickle
import re
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from edgesr.checkpoint import Checkpoint
from edgesr.errors import BadModel, MissingExtra
from edgesr.graph.spec import Graph, Weights
from edgesr.models.rrdb import rrdb
from edgesr.models.span import BLOCKS, span
from edgesr.models.srresnet import srresnet
from edgesr.models.srvgg import srvgg

Array: TypeAlias = NDArray[np.float64]

RECOGNISED = "SRResNet/SRGAN, RRDBNet (ESRGAN, Real-ESRGAN), SRVGGNetCompact and SPAN"
_NESTED = ("params_ema", "params", "state_dict", "model", "generator", "g_ema", "net_g")
_PREFIXES = ("module.", "_orig_mod.", "generator.")
_BN_EPS = 1e-5  # torch's default, which these networks keep


@dataclass
class State:
    """The tensors of a file, by key (float64), each of which is to be taken once."""

    tensors: Mapping[str, Array]
    taken: set[str] = field(default_factory=set)

    def has(self, key: str) -> bool:
        """Whether the file has this tensor."""
        return key in self.tensors

    def take(self, key: str) -> Array:
        """The tensor `key`; `BadModel` if the file lacks it."""
        if key not in self.tensors:
            raise BadModel(f"'{key}' is missing")
        self.taken.add(key)
        return self.tensors[key]

    def conv(self, name: str, norm: str = "") -> tuple[Array, Array]:
        """Weight (O, I, K, K) and bias of a convolution, the batch norm after it folded in."""
        weight = self.take(f"{name}.weight")
        if weight.ndim != 4 or weight.shape[2] != weight.shape[3]:
            raise BadModel(f"'{name}.weight' is no square convolution")
        bias = self.take(f"{name}.bias") if self.has(f"{name}.bias") else np.zeros(len(weight))
        if norm and self.has(f"{norm}.running_var"):
            gain = self.take(f"{norm}.weight") / np.sqrt(self.take(f"{norm}.running_var") + _BN_EPS)
            weight = weight * gain.reshape(-1, 1, 1, 1)
            bias = (bias - self.take(f"{norm}.running_mean")) * gain + self.take(f"{norm}.bias")
        return weight, bias

    def ignore(self, pattern: str) -> None:
        """Mark keys as taken that carry nothing for inference."""
        self.taken |= {key for key in self.tensors if re.fullmatch(pattern, key)}

    def count(self, pattern: str) -> int:
        """How many different numbers the one group of `pattern` matches in the keys."""
        found = (re.match(pattern, key) for key in self.tensors)
        return len({m.group(1) for m in found if m})

    def left(self) -> list[str]:
        """Keys that nobody took."""
        return sorted(set(self.tensors) - self.taken)


Network: TypeAlias = tuple[Graph, dict[str, Array]]


def load_foreign(path: Path) -> Checkpoint:
    """The network in a `.pth` file of another project, with its batch norms folded.

    Raises `BadModel` for a file that is missing, is no torch file, would run code, or holds
    a network of another kind; `MissingExtra` without torch.
    """
    tensors = _tensors(path, _unpickled(path))
    for kind, key, read in _KINDS:
        if any(re.fullmatch(key, k) for k in tensors):
            return _checkpoint(path, kind, State(tensors), read)
    if {"conv_first.weight", "body.0.conv1.weight", "upconv1.weight"} <= tensors.keys():
        raise BadModel(
            f"{path}: MSRResNet adds a bilinear picture, which EdgeSR's networks do not have; "
            f"recognised: {RECOGNISED}"
        )
    raise BadModel(
        f"{path}: not a network that EdgeSR recognises ({RECOGNISED}); distilling from others "
        "needs the zoo extra, which this version does not have"
    )


def _checkpoint(
    path: Path, kind: str, state: State, read: Callable[[State], Network]
) -> Checkpoint:
    try:
        graph, arrays = read(state)
        state.ignore(r".*\.num_batches_tracked")
        if state.left():
            raise BadModel(f"unknown tensors {state.left()[:3]}")
        weights: Weights = {k: v.astype(np.float32) for k, v in arrays.items()}
        graph.check_weights(weights)
    except (BadModel, ValueError, IndexError) as e:
        raise BadModel(f"{path}: resembles {kind} but is not it: {e}") from e
    if not all(np.isfinite(w).all() for w in weights.values()):
        raise BadModel(f"{path}: holds weights that are not finite numbers")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return Checkpoint(graph, weights, {"origin": path.name, "kind": kind, "sha256": digest}, {})


def _unpickled(path: Path) -> object:
    try:
        import torch
    except ImportError as e:
        raise MissingExtra("torch", "train", f"reading {path.name}") from e
    try:
        with path.open("rb") as file:
            start = file.read(2)
    except OSError as e:
        raise BadModel(f"{path}: cannot be read ({e.strerror})") from e
    if not start.startswith((b"PK", b"\x80")):  # a zip archive, or a bare pickle as before 1.6
        raise BadModel(f"{path}: not a torch file")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of odd pickles; they are taken or refused
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as e:
        raise BadModel(
            f"{path}: refused, it holds more than tensors and could run code; "
            "save only the state_dict"
        ) from e
    except (RuntimeError, EOFError, ValueError, KeyError, TypeError, AttributeError, OSError,
            IndexError, UnicodeDecodeError) as e:  # fmt: skip
        raise BadModel(f"{path}: not a torch file, or cut off") from e


def _tensors(path: Path, content: object) -> dict[str, Array]:
    """The state dict in `content`, taken out of the containers it is nested in."""
    import torch

    for _ in range(3):
        if isinstance(content, Mapping):
            inner = (content[k] for k in _NESTED if isinstance(content.get(k), Mapping))
            content = next(inner, content)
    entries = content.items() if isinstance(content, Mapping) else ()
    tensors = {str(k): v for k, v in entries if isinstance(v, torch.Tensor)}
    if not tensors:
        raise BadModel(f"{path}: holds no weights of a network")
    for prefix in _PREFIXES:
        if all(k.startswith(prefix) for k in tensors):
            tensors = {k.removeprefix(prefix): v for k, v in tensors.items()}
    return {k: v.detach().to(torch.float64).numpy() for k, v in tensors.items()}


def _put(weights: dict[str, Array], name: str, conv: tuple[Array, Array]) -> None:
    weights[f"{name}.weight"], weights[f"{name}.bias"] = conv


@dataclass(frozen=True)
class _Srresnet:
    """Where one project keeps the parts of an SRResNet; `{}` is a number, from `first` on."""

    head: tuple[str, str]  # convolution, slope
    block: tuple[str, str, str, str, str]  # convolution, norm, slope, convolution, norm
    body: tuple[str, str]  # convolution, norm
    up: tuple[str, str]  # convolution, slope
    tail: str
    tanh: bool
    first: int = 0  # number of the first residual block


def _read_srresnet(state: State, at: _Srresnet, blocks: int, upsamples: int) -> Network:
    weights: dict[str, Array] = {}
    _put(weights, "head", state.conv(at.head[0]))
    weights["head_act.slope"] = state.take(f"{at.head[1]}.weight")
    for i in range(blocks):
        conv1, norm1, slope, conv2, norm2 = (key.format(i + at.first) for key in at.block)
        _put(weights, f"b{i}_conv1", state.conv(conv1, norm1))
        weights[f"b{i}_act.slope"] = state.take(f"{slope}.weight")
        _put(weights, f"b{i}_conv2", state.conv(conv2, norm2))
    _put(weights, "body", state.conv(*at.body))
    for i in range(upsamples):
        _put(weights, f"up{i}", state.conv(at.up[0].format(i)))
        weights[f"up{i}_act.slope"] = state.take(f"{at.up[1].format(i)}.weight")
    _put(weights, "tail", state.conv(at.tail))
    width, _, kernel, _ = weights["head.weight"].shape
    tail_kernel = weights["tail.weight"].shape[2]
    graph = srresnet(
        blocks, width, tail_kernel, head_kernel=kernel, upsamples=upsamples, tanh=at.tanh
    )
    return graph, weights


def _srresnet_trunk(state: State) -> Network:
    """Lornatang's SRGAN-PyTorch, older (`conv_block1`) and newer (`conv1`) names."""
    stem = "conv_block" if state.has("conv_block1.0.weight") else "conv"
    block = tuple(f"trunk.{{}}.rcb.{j}" for j in range(5))
    up = "upsampling.{}.upsample_block"
    at = _Srresnet(
        head=(f"{stem}1.0", f"{stem}1.1"),
        block=(block[0], block[1], block[2], block[3], block[4]),
        body=(f"{stem}2.0", f"{stem}2.1"),
        up=(f"{up}.0", f"{up}.2"),
        tail=f"{stem}3",
        tanh=False,  # its clamp to 0..1 is left to whoever stores the picture
    )
    return _read_srresnet(state, at, state.count(r"trunk\.(\d+)\."),
                          state.count(r"upsampling\.(\d+)\."))  # fmt: skip


def _srresnet_blocks(state: State) -> Network:
    """leftthomas's SRGAN: `block1` head, residual blocks from `block2`, (tanh + 1) / 2."""
    residual = state.count(r"block(\d+)\.conv1\.weight")
    ups = state.count(rf"block{residual + 3}\.(\d+)\.conv\.weight")
    last = f"block{residual + 3}"
    at = _Srresnet(
        head=("block1.0", "block1.1"),
        block=("block{}.conv1", "block{}.bn1", "block{}.prelu", "block{}.conv2", "block{}.bn2"),
        body=(f"block{residual + 2}.0", f"block{residual + 2}.1"),
        up=(f"{last}.{{}}.conv", f"{last}.{{}}.prelu"),
        tail=f"{last}.{ups}",
        tanh=True,
        first=2,
    )
    return _read_srresnet(state, at, residual, ups)


_RRDB_KEYS = (  # pattern of a project's key → our layer; ESRGAN, early BasicSR, BasicSR
    (r"model\.1\.sub\.(\d+)\.RDB(\d)\.conv(\d)\.0", r"b\1_rdb\2_conv\3"),
    (r"model\.1\.sub\.\d+", "conv_body"),
    (r"RRDB_trunk\.(\d+)\.RDB(\d)\.conv(\d)", r"b\1_rdb\2_conv\3"),
    (r"body\.(\d+)\.rdb(\d)\.conv(\d)", r"b\1_rdb\2_conv\3"),
    (r"trunk_conv", "conv_body"),
    (r"upconv(\d)", r"conv_up\1"),
    (r"HRconv", "conv_hr"),
    (r"model\.0", "conv_first"),
    (r"model\.3", "conv_up1"),
    (r"model\.6", "conv_up2"),
    (r"model\.8", "conv_hr"),
    (r"model\.10", "conv_last"),
    (r"(conv_first|conv_body|conv_up[12]|conv_hr|conv_last)", r"\1"),
)


def _rrdb(state: State) -> Network:
    weights: dict[str, Array] = {}
    for key in state.tensors:
        name, _, part = key.rpartition(".")
        for pattern, ours in _RRDB_KEYS:
            match = re.fullmatch(pattern, name)
            if match and part in ("weight", "bias"):
                weights[f"{match.expand(ours)}.{part}"] = state.take(key)
                break
    if "conv_first.weight" not in weights or "b0_rdb1_conv1.weight" not in weights:
        raise BadModel("its first convolutions are missing")
    width, cin = weights["conv_first.weight"].shape[:2]
    if cin != 3:
        raise BadModel(f"it takes {cin} channels; only the x4 networks take a picture as it is")
    blocks = len({m.group(1) for k in weights if (m := re.match(r"b(\d+)_", k))})
    return rrdb(blocks, width, weights["b0_rdb1_conv1.weight"].shape[0]), weights


def _srvgg(state: State) -> Network:
    numbers = sorted(int(k.split(".")[1]) for k in state.tensors
                     if re.fullmatch(r"body\.\d+\.weight", k))  # fmt: skip
    if numbers != list(range(len(numbers))) or len(numbers) % 2 == 0:
        raise BadModel("its convolutions do not alternate with PReLU")
    weights: dict[str, Array] = {}
    convs = len(numbers) // 2 - 1
    for i in range(convs + 1):
        _put(weights, f"conv{i}", state.conv(f"body.{2 * i}"))
        weights[f"act{i}.slope"] = state.take(f"body.{2 * i + 1}.weight")
    _put(weights, "tail", state.conv(f"body.{numbers[-1]}"))
    return srvgg(convs, len(weights["conv0.weight"]), scale=_scale(weights["tail.weight"])), weights


def _span(state: State) -> Network:
    weights: dict[str, Array] = {}
    _put(weights, "conv_1", _conv3xc(state, "conv_1"))
    for i in range(1, BLOCKS + 1):
        for j in (1, 2, 3):
            _put(weights, f"block_{i}_c{j}", _conv3xc(state, f"block_{i}.c{j}_r"))
    _put(weights, "conv_2", _conv3xc(state, "conv_2"))
    _put(weights, "conv_cat", state.conv("conv_cat"))
    _put(weights, "upsampler", state.conv("upsampler.0"))
    norm = not state.has("no_norm")  # how its descendants say that nothing is subtracted
    state.ignore("no_norm")
    scale = _scale(weights["upsampler.weight"])
    return span(len(weights["conv_1.weight"]), scale=scale, norm=norm), weights


def _conv3xc(state: State, name: str) -> tuple[Array, Array]:
    """SPAN's convolution, its branches (1×1 → 3×3 → 1×1, plus 1×1) folded into one 3×3.

    The branch pads before its first 1×1, so that folding is exact up to the border. A file
    that was folded already has `eval_conv` alone; with branches that one may be stale.
    """
    if not state.has(f"{name}.sk.weight"):
        return state.conv(f"{name}.eval_conv" if state.has(f"{name}.eval_conv.weight") else name)
    (w1, b1), (w2, b2), (w3, b3) = (state.conv(f"{name}.conv.{i}") for i in range(3))
    skip, skip_bias = state.conv(f"{name}.sk")
    state.ignore(re.escape(name) + r"\.eval_conv\..*")
    weight = np.einsum("om,mnyx,ni->oiyx", w3[:, :, 0, 0], w2, w1[:, :, 0, 0])
    weight[:, :, 1, 1] += skip[:, :, 0, 0]
    bias = w3[:, :, 0, 0] @ (w2.sum((2, 3)) @ b1 + b2) + b3 + skip_bias
    return weight, bias


def _scale(tail: Array) -> int:
    scale = math.isqrt(len(tail) // 3)
    if len(tail) != 3 * scale**2:
        raise BadModel(f"its last convolution gives {len(tail)} channels, not 3 times a square")
    return scale


_KINDS: tuple[tuple[str, str, Callable[[State], Network]], ...] = (
    ("SRResNet/SRGAN", r"trunk\.0\.rcb\.0\.weight", _srresnet_trunk),
    ("SRResNet/SRGAN", r"block2\.conv1\.weight", _srresnet_blocks),
    ("RRDBNet", r"model\.1\.sub\.0\.RDB1\.conv1\.0\.weight", _rrdb),
    ("RRDBNet", r"(RRDB_trunk\.0\.RDB|body\.0\.rdb)1\.conv1\.weight", _rrdb),
    ("SPAN", r"block_1\.c1_r\.(sk\.|eval_conv\.)?weight", _span),
    ("SRVGGNetCompact", r"body\.0\.weight", _srvgg),
)
