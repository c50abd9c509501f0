"""Several outputs as one, (B, N), so that one array is compared and timed: output after output, each pixel by pixel with its
channels together. One output stays as it is.

Of an image's pixels an engine's (B, C, H, W) and PyTorch's tokens (B, T, C) then lie in one order, T being H·W of a sequence.
"""

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor


def joined(found: Any) -> np.ndarray:
    """Of a packed network's outputs: an array, or arrays (B, ...) by name."""
    if not isinstance(found, dict):
        return found
    rows = [x.transpose(0, 2, 3, 1) if x.ndim == 4 else x for x in found.values()]  # (B, H, W, C)
    return np.concatenate([x.reshape(len(x), -1) for x in rows], 1)


def joined_tensors(found: Any) -> "Tensor":
    """Of a PyTorch network's outputs: a tensor, or tensors (B, ...) by name."""
    import torch

    if not isinstance(found, dict):
        return found
    rows = [x.permute(0, 2, 3, 1) if x.dim() == 4 else x for x in found.values()]  # (B, H, W, C)
    return torch.cat([x.flatten(1) for x in rows], 1)
