"""What happens to a photograph on its way into a network, in training and in evaluation."""

import re
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from PIL import Image
from timm.data import auto_augment
from torch import Tensor
from torchvision.transforms import InterpolationMode, v2

from onebit.data.inputs import IMAGENET_MEAN
from onebit.data.options import LoadOptions
from onebit.errors import UserError
from onebit.runtime.pictures import cut

# Of the covariance of ImageNet's RGB pixels, scaled to [0, 1]; an eigenvector is a column. Published with fb.resnet.torch.
EIGENVALUES = torch.tensor([0.2175, 0.0188, 0.0045])
EIGENVECTORS = torch.tensor([[-0.5675, 0.7192, 0.4009], [-0.5808, -0.0045, -0.8140], [-0.5836, -0.6948, 0.4203]])


def resize_of(image_size: int) -> int:
    """Shorter side before the centre crop: 256 for 224, in proportion for other sizes."""
    return round(image_size * 256 / 224)


def evaluation_transform(image_size: int) -> Callable[[Image.Image], Tensor]:
    """Pillow image -> uint8 (3, S, S): the shorter side resized to S * 256 / 224 (bilinear, antialiased), the centre cut out."""
    return cut_to(image_size, image_size, resize_of(image_size))


def cut_to(height: int, width: int, resize: int | None) -> Callable[[Image.Image], Tensor]:
    """Pillow image -> uint8 (3, H, W), as `onebit run` takes it (`onebit.runtime.pictures.cut`)."""
    return partial(_cut, height=height, width=width, resize=resize)


def _cut(picture: Image.Image, height: int, width: int, resize: int | None) -> Tensor:
    pixels = np.array(cut(picture, height, width, resize))  # (H, W, 3), of its own memory
    return torch.from_numpy(pixels).permute(2, 0, 1)


def training_transform(options: LoadOptions) -> v2.Transform:
    """Pillow image -> uint8 (3, S, S): random resized crop, random mirror, colour jitter, RandAugment.

    The crop keeps crop_scale to 100 % of the area (Szegedy et al., CVPR 2015). color_jitter c scales brightness, contrast
    and saturation each by U(1 - c, 1 + c). Raises UserError for an unusable rand_augment.
    """
    size, scale = options.image_size, (options.crop_scale, 1.0)
    steps: list[object] = [
        v2.RandomResizedCrop(size, scale, interpolation=InterpolationMode.BILINEAR),
        v2.RandomHorizontalFlip(),
    ]
    if c := options.color_jitter:
        steps.append(v2.ColorJitter(c, c, c))
    if options.rand_augment:
        steps.append(rand_augment(options.rand_augment, size))
    return v2.Compose([*steps, v2.PILToTensor()])


def rand_augment(description: str, image_size: int) -> object:
    """RandAugment (Cubuk et al., 2020) as timm describes and sets it up, such as rand-m9-mstd0.5."""
    mean = tuple(round(255 * value) for value in IMAGENET_MEAN)
    # timm skips sections that it cannot parse, and takes unknown sets of operations (t...) for the default
    section = r"-((m|n|mmax|inc)\d+|(p|mstd)\d+(\.\d+)?|t(weights|3aw?))"
    try:
        if not re.fullmatch(f"rand({section})*", description):
            raise ValueError("a section is none of m, n, p, mstd, mmax, inc with a number, or tweights, t3a, t3aw")
        transform = auto_augment.rand_augment_transform(
            description, {"translate_const": int(image_size * 0.45), "img_mean": mean}
        )
    except (AssertionError, ValueError, KeyError) as error:
        raise UserError(
            f"rand_augment = {description!r} is not a RandAugment of timm ({error}); write one like rand-m9-mstd0.5"
        ) from error
    for operation in transform.ops:
        if operation.aug_fn is auto_augment.posterize:
            operation.aug_fn = posterize
    return transform


def posterize(image: Image.Image, bits: int, **_: object) -> Image.Image:
    """Keep the highest bits of each pixel. The strongest RandAugment keeps none, which new versions of Pillow refuse."""
    return auto_augment.posterize(image, bits) if bits > 0 else Image.new(image.mode, image.size)


def lighting_shift(std: float) -> Tensor:
    """What AlexNet's PCA noise adds to a pixel's red, green and blue in [0, 1]: float32 (3,), from PyTorch's generator.

    With eigenvectors p_i and eigenvalues l_i of the covariance of the training set's RGB pixels, all pixels of an image get
    [p_1 p_2 p_3] [a_1 l_1, a_2 l_2, a_3 l_3]^T, a_i ~ N(0, std^2) drawn anew each time the image is used (Krizhevsky et
    al., NeurIPS 2012, section 4.1; std 0.1). The sum is not clipped. Code that adds the same shift to pixels in 0..255
    before rounding, as many copies of this noise do, leaves almost none of it.
    """
    return EIGENVECTORS @ (torch.randn(3) * std * EIGENVALUES)
