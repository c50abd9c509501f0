"""The keys of a recipe that concern what a network is to answer."""

from dataclasses import dataclass

from onebit.options import FRACTION, Options, key


@dataclass
class TaskOptions(Options):
    """Loss"""

    label_smoothing: float = key(0.0, "label smoothing of the cross-entropy loss", FRACTION)
