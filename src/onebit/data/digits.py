"""Handwritten digits (Alpaydin & Kaynak 1998, UCI), embedded in scikit-learn: 1797 grey images of 8x8 pixels.

The last 360 images, in scikit-learn's order, are the test set.
"""

from pathlib import Path

import torch
from sklearn.datasets import load_digits

from onebit.data.dataset import Data, MemorySet
from onebit.data.inputs import Images, Normalization
from onebit.data.options import LoadOptions

TEST_IMAGES = 360


def digits(root: Path, options: LoadOptions) -> Data:
    bunch = load_digits()
    images = torch.from_numpy(bunch.images * (255 / 16)).round().to(torch.uint8)[:, None]  # (1797, 1, 8, 8)
    labels = torch.from_numpy(bunch.target).long()
    normalization = Normalization((0.306,), (0.377,))
    train = MemorySet(images[:-TEST_IMAGES], labels[:-TEST_IMAGES], normalization, pad=1)
    test = MemorySet(images[-TEST_IMAGES:], labels[-TEST_IMAGES:], normalization)
    return Data("digits", train, test, Images(1, 8, normalization), tuple("0123456789"))
