"""A small detector, for tests of what happens after training."""

from typing import Any

import torch
from torch import Tensor, nn

import onebit
from onebit.nn.l2_norm import L2Norm

LABELS = ("cat", "dog", "bird")
SIZE = (48, 64)  # height, width of its input
GRIDS = [
    {"map": [6, 8], "step": [8.0, 8.0], "boxes": [[10.0, 10.0], [20.0, 12.0]]},
    {"map": [3, 4], "step": [16.0, 16.0], "boxes": [[20.0, 20.0], [36.0, 18.0], [18.0, 36.0]]},
]
SETTINGS: dict[str, Any] = {
    "size": list(SIZE),
    "anchors": GRIDS,
    "weights": [10.0, 10.0, 5.0, 5.0],
    "score": 0.05,
    "overlap": 0.45,
    "candidates": 60,
    "most": 40,
}
ROWS = 6 * 8 * 2 + 3 * 4 * 3


class Detector(nn.Module):
    """Images (B, 3, 48, 64) -> scores (B, 132, 4), offsets (B, 132, 4): SSD's wiring on two maps.

    views   how heads become rows: "reshape" of the permuted map, or "view", as torchvision's SSD has it
    """

    def __init__(self, views: str = "reshape", seed: int = 0):
        super().__init__()
        torch.manual_seed(seed)
        self.views = views
        self.stem = nn.Conv2d(3, 16, 8, stride=8)
        self.norm = L2Norm(16, 3)
        self.down = nn.Sequential(nn.Conv2d(16, 24, 3, stride=2, padding=1), nn.ReLU())
        columns, counts, channels = len(LABELS) + 1, (2, 3), (16, 24)
        self.scores = nn.ModuleList(nn.Conv2d(c, n * columns, 3, padding=1) for c, n in zip(channels, counts))
        self.offsets = nn.ModuleList(nn.Conv2d(c, n * 4, 3, padding=1) for c, n in zip(channels, counts))
        self.settings = SETTINGS
        with torch.no_grad():
            for conv in self.scores:
                conv.weight *= 4

    def rows(self, x: Tensor, columns: int) -> Tensor:
        if self.views == "reshape":
            return x.permute(0, 2, 3, 1).reshape(len(x), -1, columns)
        batch, _, height, width = x.shape
        x = x.view(batch, -1, columns, height, width).permute(0, 3, 4, 1, 2)
        return x.reshape(batch, -1, columns)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        x = torch.relu(self.stem(images))
        maps = self.norm(x), self.down(x)
        scores = [self.rows(conv(m), len(LABELS) + 1) for conv, m in zip(self.scores, maps)]
        offsets = [self.rows(conv(m), 4) for conv, m in zip(self.offsets, maps)]
        return {"scores": torch.cat(scores, 1), "offsets": torch.cat(offsets, 1)}


def packed(path: Any, model: nn.Module | None = None, **options: Any) -> nn.Module:
    """The model that was packed as `path`."""
    model = Detector() if model is None else model
    given = {"labels": LABELS, "task": "detection", "answer": "boxes", "settings": SETTINGS, "mean": 0.5, "std": 0.25}
    onebit.pack(model, path, input_shape=(3, *SIZE), **{**given, **options})
    return model
