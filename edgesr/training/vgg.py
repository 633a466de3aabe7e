"""VGG16 and AlexNet as far as their last convolution, and the perceptual loss on VGG16."""

from __future__ import annotations

from collections.abc import Collection

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgesr.training.pretrained import Arrays, NetName, packaged_weights

MEAN_RGB = (0.485, 0.456, 0.406)  # of ImageNet
STD_RGB = (0.229, 0.224, 0.225)
# The convolutions before each pooling: of Simonyan and Zisserman (ICLR 2015), configuration D,
# and of Krizhevsky's second AlexNet (2014), which has stride 4 in the first.
_POOL_AFTER: dict[NetName, tuple[int, ...]] = {"vgg": (1, 3, 6, 9), "alex": (0, 1)}
_POOL_SIDE: dict[NetName, int] = {"vgg": 2, "alex": 3}
_COUNT: dict[NetName, int] = {"vgg": 13, "alex": 5}
_LAYERS: dict[NetName, str] = {"vgg": "VGG16_0", "alex": "AlexNet_0"}
# conv3_3 and conv4_3. They see 40 and 92 pixels, the next block's 196: more than a patch.
PERCEPTUAL_LAYERS = (6, 9)


class ImageNet(nn.Module):
    """The convolutions of VGG16 or AlexNet with ImageNet's weights, frozen.

    Weights are buffers outside of `state_dict`: they follow `.to()`, and no checkpoint carries
    them. `arrays` replaces the packaged weights. Raises `MissingExtra` without these.
    """

    def __init__(self, net: NetName, arrays: Arrays | None = None) -> None:
        super().__init__()
        self.net: NetName = net
        arrays = packaged_weights(net) if arrays is None else arrays
        for i in range(_COUNT[net]):
            at = f"{_LAYERS[net]}/Conv_{i}"
            kernel = torch.tensor(arrays[f"{at}/kernel"]).permute(3, 2, 0, 1).contiguous()
            self.register_buffer(f"weight{i}", kernel, persistent=False)
            self.register_buffer(f"bias{i}", torch.tensor(arrays[f"{at}/bias"]), persistent=False)
        for name, values in (("mean", MEAN_RGB), ("std", STD_RGB)):
            constant = torch.tensor(values).view(1, 3, 1, 1)
            self.register_buffer(name, constant, persistent=False)

    def forward(self, picture: Tensor, keep: Collection[int]) -> dict[int, Tensor]:
        """By number, the outputs before ReLU of the convolutions in `keep`; the rest is not run.

        `picture` is NCHW RGB in [0, 1]; values outside are taken as they are.
        """
        x = (picture - self.get_buffer("mean")) / self.get_buffer("std")
        kept = {}
        for i in range(max(keep) + 1):
            weight = self.get_buffer(f"weight{i}")
            stride = 4 if self.net == "alex" and i == 0 else 1
            padding = 2 if stride == 4 else weight.shape[-1] // 2
            x = F.conv2d(x, weight, self.get_buffer(f"bias{i}"), stride, padding)
            if i in keep:
                kept[i] = x
            x = F.relu(x)
            if i in _POOL_AFTER[self.net]:
                x = F.max_pool2d(x, _POOL_SIDE[self.net], 2)
        return kept


class PerceptualLoss(nn.Module):
    """Mean absolute difference of VGG16's features (Johnson et al., ECCV 2016), of two layers.

    Taken before the ReLU as in ESRGAN (Wang et al., ECCVW 2018, section 3.3): after it most
    of the deep features are 0 and teach nothing, and the brightness drifts. The two layers'
    means are added, not scaled, so that published weights of the term mean the same here.
    Raises `MissingExtra` without the packaged weights; `arrays` replaces them.
    """

    def __init__(self, arrays: Arrays | None = None) -> None:
        super().__init__()
        self.net = ImageNet("vgg", arrays)

    def forward(self, output: Tensor, photograph: Tensor) -> Tensor:
        """The loss of NCHW pictures in [0, 1]; its gradient reaches `output` only."""
        with torch.no_grad():
            wanted = self.net(photograph, PERCEPTUAL_LAYERS)
        made = self.net(output, PERCEPTUAL_LAYERS)
        return torch.stack([(made[i] - wanted[i]).abs().mean() for i in PERCEPTUAL_LAYERS]).sum()
