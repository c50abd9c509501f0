"""A network is tried on the shape of a training's inputs before anything is trained: what does not fit is one line."""

import torch
from torch import Tensor, nn

from onebit.data.inputs import Images, Inputs
from onebit.errors import UserError


def check_fits(model: nn.Module, inputs: Inputs, examples: int, counted: str) -> None:
    """Refuse a network that cannot take a training step on `examples` of these inputs at a time.

    counted: the keys that leave so many, for the message

    Runs the network on blank inputs, two inputs at most: what needs several needs no more. Its buffers, its mode and PyTorch's
    random numbers stay as they are, so a training has the same bits. Raises UserError.
    """
    reason = failure(model, inputs.blank(min(examples, 2)))
    if reason is None:
        return
    what = f"inputs of {' x '.join(map(str, inputs.shape))}"
    if examples == 1 and failure(model, inputs.blank(2)) is None:
        raise UserError(
            f"{counted} leaves 1 example of {what} at a time, of which this network's batch norms need 2 or more; "
            "choose a larger batch_size or a smaller accumulate"
        )
    remedy = "image_size" if isinstance(inputs, Images) else "length"
    raise UserError(f"this network does not take {what} ({reason}); choose another {remedy} or model")


def failure(model: nn.Module, inputs: Tensor) -> str | None:
    """Why a forward pass of training fails on inputs (B, ...), None if it does not."""
    parameter = next(model.parameters())
    training, random = model.training, torch.get_rng_state()
    before = [(buffer, buffer.clone()) for buffer in model.buffers()]
    model.train()
    try:
        with torch.no_grad():
            model(inputs.to(parameter.device, parameter.dtype if inputs.is_floating_point() else None))
    except (RuntimeError, ValueError, IndexError, TypeError, AssertionError, ZeroDivisionError) as error:
        return " ".join(str(error).split())[:200]
    finally:
        model.train(training)
        torch.set_rng_state(random)
        with torch.no_grad():
            for buffer, value in before:
                buffer.copy_(value)
    return None
