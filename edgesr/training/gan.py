"""The adversary of the GAN track: a discriminator, its optimiser, and what it makes of pictures."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.nn.utils.parametrizations import spectral_norm

from edgesr.errors import BadConfig
from edgesr.training.precision import autocast, exact

MULTIPLE = 8  # the U-Net halves a picture three times
MIN_SIDE = 32


class Discriminator(nn.Module):
    """The U-Net of Real-ESRGAN (Wang et al., ICCVW 2021), a verdict for each pixel.

    Three convolutions of stride 2 down, three bilinear steps up whose inputs are the sums
    with the way down, three more convolutions. All but the first and the last have spectral
    normalisation (Miyato et al., ICLR 2018). `width` channels at full size; the paper has 64.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        w = width
        self.first = nn.Conv2d(3, w, 3, padding=1)
        self.down = nn.ModuleList(_normed(w << i, w << (i + 1), 4, 2) for i in range(3))
        self.up = nn.ModuleList(_normed(w << (i + 1), w << i, 3, 1) for i in (2, 1, 0))
        self.more = nn.ModuleList(_normed(w, w, 3, 1) for _ in range(2))
        self.last = nn.Conv2d(w, 1, 3, padding=1)

    def forward(self, picture: Tensor) -> Tensor:
        """Logits N1HW of an NCHW picture in [0, 1]: above 0 where it takes it for a photograph."""
        levels = [_leaky(self.first(picture))]
        for conv in self.down:
            levels.append(_leaky(conv(levels[-1])))
        x = levels.pop()
        for conv in self.up:
            x = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
            x = _leaky(conv(x)) + levels.pop()
        for conv in self.more:
            x = _leaky(conv(x))
        with exact(x.device.type):
            logits: Tensor = self.last(x.to(self.last.weight.dtype))
        return logits

    def normalise(self) -> None:
        """Compute the normalised weights, for as long as `parametrize.cached` lasts."""
        for conv in (*self.down, *self.up, *self.more):
            _ = conv.weight


def _normed(cin: int, out: int, kernel: int, stride: int) -> nn.Module:
    conv = nn.Conv2d(cin, out, kernel, stride, padding=1, bias=False)
    return spectral_norm(conv)


def _leaky(x: Tensor) -> Tensor:
    return F.leaky_relu(x, 0.2)


class Adversary:
    """A discriminator that learns beside the student and tells it how real it looks.

    The loss is the relativistic average one (Jolicoeur-Martineau, ICLR 2019; ESRGAN, eq. 1):
    a photograph should look more real than the average output, and an output less than the
    average photograph. Both sides' losses are the mean of the two cross-entropies, log 2 =
    0.69 when nothing can be told. Averages go over the pictures of this process alone.
    Only the start draws random numbers, from `seed`. With `bf16` its convolutions but the last
    run in bfloat16, in about half the time where the hardware multiplies it; weights, their
    normalisation, logits, loss and optimiser stay in float32.
    """

    def __init__(
        self, *, seed: int, lr: float, device: str, width: int = 32, bf16: bool = False
    ) -> None:
        self.device, self.bf16 = device, bf16
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            net = Discriminator(width)
        self.net = net.to(device).requires_grad_(False)
        self.optimizer = torch.optim.Adam(self.net.parameters(), lr=lr, betas=(0.9, 0.99))

    def generator_loss(self, output: Tensor, photograph: Tensor) -> Tensor:
        """What the student minimises; the gradient reaches `output` only.

        Pictures are NCHW in [0, 1]. They are cut to multiples of 8; raises `BadConfig` for
        sides under 32.
        """
        # In eval mode the power iteration of the spectral norm stands still.
        self.net.eval()
        with parametrize.cached():
            with torch.no_grad():
                real = self._logits(photograph)
            fake = self._logits(output)
        return _relativistic(fake, real)

    def learn(
        self,
        output: Tensor,
        photograph: Tensor,
        reduce: Callable[[list[Tensor]], None] = lambda tensors: None,
    ) -> dict[str, float]:
        """One step of the discriminator on detached pictures, as of `generator_loss`.

        `reduce` averages tensors over processes in place: the gradients, and last the two
        figures given back, so that all skip together. Gives `discriminator`, its loss, and
        `gap`, how much higher its logits are for photographs; with `skipped` = 1 when loss or
        gradient is not finite and nothing was learnt.
        """
        self.net.train().requires_grad_(True)
        try:
            self.optimizer.zero_grad(set_to_none=True)
            # One power iteration a step, not one for each picture.
            with parametrize.cached():
                real = self._logits(photograph.detach())
                fake = self._logits(output.detach())
                loss = _relativistic(real, fake)
            torch.autograd.backward(loss)
        finally:
            self.net.requires_grad_(False)
        figures = torch.stack([loss.detach(), (real.mean() - fake.mean()).detach()])
        gradients = [p.grad for p in self.net.parameters() if p.grad is not None]
        reduce([*gradients, figures])
        size = torch.stack([g.norm() for g in gradients]).sum()
        # One look at the device for all three: each would wait for the GPU.
        value, gap, length = torch.cat([figures, size[None]]).tolist()
        told = {"discriminator": value, "gap": gap}
        if not math.isfinite(value + length):
            return {**told, "skipped": 1.0}
        self.optimizer.step()
        return told

    def _logits(self, picture: Tensor) -> Tensor:
        # Before autocast, which would take the power iteration to bfloat16 too.
        self.net.normalise()
        with autocast(self.device, self.bf16):
            logits: Tensor = self.net(_cut(picture))
        return logits

    def set_rate(self, lr: float) -> None:
        """The learning rate of the steps to come."""
        for group in self.optimizer.param_groups:
            group["lr"] = lr

    def state_dict(self) -> dict[str, Any]:
        """Weights, the vectors of the power iterations, and the optimiser: all that changes."""
        return {"net": self.net.state_dict(), "optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on bit for bit from what `state_dict` gave; same `width`, or `RuntimeError`."""
        self.net.load_state_dict(state["net"])
        self.optimizer.load_state_dict(state["optimizer"])


def _cut(picture: Tensor) -> Tensor:
    height, width = picture.shape[2:]
    if min(height, width) < MIN_SIDE:
        raise BadConfig(
            f"an adversarial loss needs patches of at least {MIN_SIDE} pixels a side after "
            f"enlarging, not {width}x{height}; raise patch in the recipe"
        )
    return picture[:, :, : height - height % MULTIPLE, : width - width % MULTIPLE]


def _relativistic(high: Tensor, low: Tensor) -> Tensor:
    """The loss of logits `high` that should lie above the mean of `low`, and the reverse."""
    above, below = high - low.mean(), low - high.mean()
    # softplus(-x) is the cross-entropy of logit x with the verdict "real".
    return (F.softplus(-above).mean() + F.softplus(below).mean()) / 2
