"""A network is tried on the shape of a training's inputs before anything is trained: what does not fit is one line."""

import torch
from torch import nn

from onebit.errors import UserError


def check_fits(model: nn.Module, shape: tuple[int, ...], examples: int, counted: str) -> None:
    """Refuse a network that cannot take a training step on `examples` inputs of this shape (C, H, W) at a time.

    counted: the keys that leave so many, for the message

    Runs the network on zeros, two inputs at most: what needs several needs no more. Its buffers, its mode and PyTorch's
    random numbers stay as they are, so a training has the same bits. Raises UserError.
    """
    reason = failure(model, shape, min(examples, 2))
    if reason is None:
        return
    what = f"inputs of {' x '.join(map(str, shape))}"
    if examples == 1 and failure(model, shape, 2) is None:
        raise UserError(
            f"{counted} leaves 1 example of {what} at a time, of which this network's batch norms need 2 or more; "
            "choose a larger batch_size or a smaller accumulate"
        )
    raise UserError(f"this network does not take {what} ({reason}); choose another image_size or model")


def failure(model: nn.Module, shape: tuple[int, ...], examples: int) -> str | None:
    """Why a forward pass of training fails, None if it does not."""
    parameter = next(model.parameters())
    training, random = model.training, torch.get_rng_state()
    before = [(buffer, buffer.clone()) for buffer in model.buffers()]
    model.train()
    try:
        with torch.no_grad():
            model(torch.zeros(examples, *shape, device=parameter.device, dtype=parameter.dtype))
    except (RuntimeError, ValueError, IndexError, TypeError, AssertionError, ZeroDivisionError) as error:
        return " ".join(str(error).split())[:200]
    finally:
        model.train(training)
        torch.set_rng_state(random)
        with torch.no_grad():
            for buffer, value in before:
                buffer.copy_(value)
    return None
