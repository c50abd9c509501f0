"""SSD's normalisation of its first source (Liu et al., ECCV 2016, sec. 3.1, after ParseNet, arXiv 1506.04579)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class L2Norm(nn.Module):
    """y[c] = weight[c] x[c] / max(sqrt(sum_c x[c]^2), 1e-12) at each pixel: (B, C, H, W) -> same. Weights start at `scale`."""

    def __init__(self, channels: int, scale: float = 20.0):
        super().__init__()
        self.weight = nn.Parameter(torch.full((channels,), float(scale)))

    def forward(self, x: Tensor) -> Tensor:
        return F.normalize(x, dim=1) * self.weight[:, None, None]
