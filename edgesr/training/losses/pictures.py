"""Distances of two pictures, pixel by pixel or frequency by frequency."""

from __future__ import annotations

import torch
from torch import Tensor


def distance(norm: str, a: Tensor, b: Tensor) -> Tensor:
    """Mean distance of two pictures: `l1`, `l2` (squared), or `charbonnier`.

    Charbonnier is sqrt(d² + 1e-6), the differentiable L1 of Lai et al. (CVPR 2017).
    """
    if norm == "l1":
        return (a - b).abs().mean()
    if norm == "l2":
        return (a - b).square().mean()
    return torch.sqrt((a - b).square() + 1e-6).mean()


def frequency(a: Tensor, b: Tensor) -> Tensor:
    """Mean absolute difference of the spectra of two NCHW pictures, real and imaginary part.

    The multi-scale frequency reconstruction loss of MIMO-UNet (Cho et al., ICCV 2021, eq. 7)
    at one scale. The 2-D Fourier transform is orthonormal, so that the value does not depend
    on the patch, and the mean goes over its non-redundant half, of W // 2 + 1 columns.
    """
    # The transform is linear: one of the difference does for both.
    spectrum = torch.fft.rfft2(a - b, norm="ortho")
    return torch.view_as_real(spectrum).abs().mean()
