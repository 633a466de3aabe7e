"""Training-only branches beside a 3×3 convolution, folded into it exactly.

Three linear branches run in parallel: the 3×3 itself, a 1×1, and a 1×1 that widens to
twice the channels followed by a 3×3 (no bias between them, so that zero padding commutes);
an identity joins where the widths agree. Their sum is one 3×3 convolution. During training
the sum is taken in weight space, as OREPA does, so a step costs what the plain convolution
costs. Re-parameterisation: RepVGG (Ding et al., CVPR 2021); branches of ECBSR (Zhang et
al., ACM MM 2021); folding before the convolution: OREPA (Hu et al., CVPR 2022).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class RepConv(nn.Module):
    """A 3×3 convolution with parallel linear branches; NCHW in and out, zero padding."""

    def __init__(
        self, cin: int, cout: int, kernel: int = 3, *, padding: int = 1, bias: bool = True
    ) -> None:
        super().__init__()
        assert kernel == 3 and padding == 1
        self.plain = nn.Conv2d(cin, cout, 3, padding=1, bias=bias)
        self.point = nn.Parameter(torch.zeros(cout, cin))
        middle = 2 * max(cin, cout)
        self.widen = nn.Parameter(torch.empty(middle, cin))
        self.narrow = nn.Parameter(torch.empty(cout, middle, 3, 3))
        nn.init.kaiming_uniform_(self.widen, a=5**0.5)
        nn.init.normal_(self.narrow, std=0.1 / (9 * middle) ** 0.5)
        self.identity = nn.Parameter(torch.ones(())) if cin == cout else None
        self.register_buffer("eye", torch.eye(cin) if cin == cout else None, persistent=False)

    def folded(self) -> tuple[Tensor, Tensor | None]:
        """The one (O, I, 3, 3) kernel and bias that the branches amount to."""
        centre: Tensor = self.point
        if self.identity is not None:
            centre = centre + self.identity * self.get_buffer("eye")
        sequence = torch.einsum("omhw,mi->oihw", self.narrow, self.widen)
        return self.plain.weight + sequence + F.pad(centre[:, :, None, None], (1, 1, 1, 1)), (
            self.plain.bias
        )

    def forward(self, x: Tensor) -> Tensor:
        """The folded convolution of `x`."""
        weight, bias = self.folded()
        return F.conv2d(x, weight, bias, padding=1)

    def branches(self, x: Tensor) -> Tensor:
        """The same result, branch by branch; what the folding is tested against."""
        y: Tensor = self.plain(x) + F.conv2d(x, self.point[:, :, None, None])
        y = y + F.conv2d(F.conv2d(x, self.widen[:, :, None, None]), self.narrow, padding=1)
        return y if self.identity is None else y + self.identity * x

    @torch.no_grad()
    def unfold(self, weight: Tensor, bias: Tensor | None) -> None:
        """Make the branches amount to `weight` and `bias`: the plain 3×3 takes the rest."""
        self.plain.weight.zero_()
        rest = weight - self.folded()[0]
        self.plain.weight.copy_(rest)
        if bias is not None and self.plain.bias is not None:
            self.plain.bias.copy_(bias)
