"""The schedule of surrogate gradients that sharpen towards sign as training goes on."""

import math

import torch
from torch import Tensor, nn


class Schedule(nn.Module):
    """Buffers t = 10^(T_min + f (T_max - T_min)), with f the progress, and k = max(1/t, 1).

    IR-Net eq. 11, RBNN eq. 12; AdaBin's released code. `t_floor` bounds t from below (1 for RBNN's activations: k = 1).
    """

    t: Tensor
    k: Tensor

    def __init__(self, t_min: float, t_max: float, t_floor: float = 0.0):
        super().__init__()
        self.log10_t = (math.log10(t_min), math.log10(t_max))
        self.t_floor = t_floor
        self.register_buffer("t", torch.tensor(1.0))
        self.register_buffer("k", torch.tensor(1.0))
        self.set_progress(0.0)

    def set_progress(self, fraction: float) -> None:
        low, high = self.log10_t
        t = max(10.0 ** (low + fraction * (high - low)), self.t_floor)
        self.t.fill_(t)
        self.k.fill_(max(1.0 / t, 1.0))
