"""Measures of binarization that need no more than the binary form: angle, errors, entropy, divergence, histogram.

Of what is binarized, x (O, ...), with n weights and B = sign(x), as one vector or filter by filter (x_o of n_o weights):

    cosine          <x, B> / (sqrt(n) ||x||), with theta the angle in degrees (RBNN, eq. 3)
    error           sum_o min_l ||l B_o - x_o||^2 = sum_o ||x_o||^2 sin^2 theta_o (RBNN, eq. 1 and 2)
    norm            ||x||, the one part of the error
    angle_part      error / ||x||^2, the other: the mean of sin^2 theta_o, weighted by ||x_o||^2
    reconstruction  ||w - w_b||^2 / ||w||^2 of the latent weights w and the binary ones w_b, with the method's own scales

Of the signs, p the share of +1:

    entropy         H(p) = -p log2 p - (1 - p) log2 (1 - p) bits, over the layer; entropy_filters is the mean over filters
    kl              KL(P || Q) in bits (AdaBin's criterion). P is the distribution of x_o / mean|x_o| over the layer, Q that of its
                    signs. Of a density and two points the divergence is infinite, so both are blurred by a Gaussian of a
                    quarter of the distance between the two points: it is 0 where x has two values already
"""

import math
from collections.abc import Sequence
from functools import cache

import torch
from torch import Tensor

from onebit.nn.binarizer import WeightForm, filter_mean

BLUR = 0.5  # standard deviation of the blur, in units of half the distance between the two values
BINS = 48  # of a recorded histogram
REACH = 8  # how far from the middle values count in a divergence, in the same units


def cosine(x: Tensor, signs: Tensor) -> Tensor:
    """<x, B> / (||x|| ||B||) of x and signs, shaped alike, as one vector each; NaN where x is 0."""
    return (x * signs).sum() / (torch.linalg.vector_norm(x) * math.sqrt(x.numel()))


def filter_errors(x: Tensor, signs: Tensor) -> tuple[Tensor, Tensor]:
    """(||x_o||^2, sin^2 theta_o), each (O,), of x and signs (O, ...): their product is the least error of a filter (eq. 2).

    sin^2 theta_o is 0 of a filter that is 0.
    """
    flat, signs = x.flatten(1), signs.flatten(1)  # (O, n)
    square = flat.square().sum(1)
    along = (flat * signs).sum(1).square() / flat.shape[1]  # ||x_o||^2 cos^2 theta_o
    return square, torch.where(square > 0, 1 - along / square, 0.0).clamp(min=0)


def entropy(share: Tensor) -> Tensor:
    """H(p) in bits of shares p in [0, 1], shaped like them; H(0) = H(1) = 0."""
    q = 1 - share
    return -(torch.xlogy(share, share) + torch.xlogy(q, q)) / math.log(2)


def divergence(values: Tensor, low: float, high: float, share: float) -> float:
    """KL(P || Q) in bits: P the distribution of values, Q that of `high` with probability share, else `low`; both blurred by a
    Gaussian of standard deviation BLUR (high - low) / 2. NaN where low is not below high, or a value is not finite.

    Computed in bins of an eighth of (high - low) / 2; values further than REACH of those from the middle count as so far.
    """
    half = (high - low) / 2
    if not half > 0 or not torch.isfinite(values).all() or not values.numel():
        return math.nan
    z = ((values.float().flatten() - (high + low) / 2) / half).clamp(-REACH, REACH).cpu()
    bins, blur = blurring()
    p = torch.histc(z, bins, -REACH - 2, REACH + 2).double()  # (bins,)
    # The two points stand where the histogram puts values of theirs, so that equal distributions are equal.
    q = torch.histc(torch.tensor([-1.0, 1.0]), bins, -REACH - 2, REACH + 2).double()
    q[q > 0] = torch.tensor([1 - share, share]).double()
    p, q = (mass / mass.sum() @ blur for mass in (p, q))
    return float(torch.xlogy(p, p / q).sum()) / math.log(2)


@cache
def blurring() -> tuple[int, Tensor]:
    """(number of bins between -REACH - 2 and REACH + 2, (bins, bins): what a value in bin i adds to bin j when blurred)."""
    bins = 16 * (REACH + 2)
    edges = torch.linspace(-REACH - 2, REACH + 2, bins + 1, dtype=torch.float64)
    z = (edges[None] - (edges[1:, None] + edges[:-1, None]) / 2) / BLUR  # (bins, bins + 1)
    # On the upper side the tails are subtracted: two numbers close to 1 would leave nothing of a small difference. By erfc, since
    # PyTorch's ndtr is 0 from -9 on.
    lower, upper = (
        (0.5 * torch.special.erfc(-z * 0.5**0.5)).diff(dim=1),
        -(0.5 * torch.special.erfc(z * 0.5**0.5)).diff(dim=1),
    )
    spread = torch.where(z[:, :-1] < 0, lower, upper)
    return bins, spread / spread.sum(1, keepdim=True)


def weight_measures(weight: Tensor, forms: Sequence[WeightForm], xs: Sequence[Tensor]) -> dict[str, float]:
    """The module's measures by name, means over the forms. Those that need x are left out where xs is empty."""
    binary = torch.stack([form.weight() for form in forms]).sum(0)
    square = weight.float().square().sum()
    found = {"reconstruction": [((weight - binary).float().square().sum() / square).item()]}
    for form in forms:
        positive = (form.signs > 0).float().flatten(1)  # (O, n)
        found.setdefault("entropy", []).append(entropy(positive.mean()).item())
        found.setdefault("entropy_filters", []).append(entropy(positive.mean(1)).mean().item())
    for x, form in zip(xs, forms):
        signs = form.signs.float()
        square, sine = filter_errors(x, signs)
        aligned = cosine(x, signs)
        unit = filter_mean(x, magnitude=True)  # (O, 1, ...)
        total, error = square.sum(), (square * sine).sum()
        share = (signs > 0).float().mean()
        for name, value in (
            ("cosine", aligned),
            ("angle", torch.rad2deg(torch.acos(aligned.clamp(-1, 1)))),
            ("norm", total.sqrt()),
            ("error", error),
            ("angle_part", error / total),
        ):
            found.setdefault(name, []).append(value.item())
        found.setdefault("kl", []).append(divergence((x / unit)[(unit > 0).expand_as(x)], -1.0, 1.0, share.item()))
    return {name: sum(values) / len(values) for name, values in found.items()}


def histogram(x: Tensor, bins: int = BINS) -> tuple[float, float, list[int]]:
    """(first edge, last edge, counts) of x in bins of equal width between -r and r, r = 4 root mean squares or max |x|.

    What lies outside is not counted.
    """
    x = x.detach().float().cpu()
    r = min(float(x.abs().max()), 4 * float(x.square().mean().sqrt())) or 1.0
    return -r, r, [int(count) for count in torch.histc(x, bins, -r, r)]
