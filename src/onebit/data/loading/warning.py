"""What a data set says of its files while it is loaded."""

import sys

import torch


def warn(text: str) -> None:
    """A line on standard error, from one process of a training."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized() and torch.distributed.get_rank()):
        print(f"onebit: warning: {text}", file=sys.stderr)
