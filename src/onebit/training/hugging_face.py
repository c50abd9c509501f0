"""The hooks as a callback of Hugging Face's Trainer: `Trainer(..., callbacks=[BinaryCallback()])`.

Needs `transformers` and `accelerate`, which onebit does not install. The Trainer clips gradients (max_grad_norm, 1 by default)
before its callbacks see them: the regularization's gradient is added behind that, unclipped, and `after_step` gets the clipped
one. TrainingArguments(max_grad_norm=0) leaves them as they are.
"""

from typing import Any

from onebit.errors import UserError
from onebit.nn import layers
from onebit.training.hooks import add_regularization, base_class

Base: Any = base_class("TrainerCallback", "transformers")


class BinaryCallback(Base):
    """Moves the schedules of the model's binary layers at the start of each epoch, to global_step / max_steps, adds the gradient
    of their regularization to that of the loss (once a step), and calls before_step and after_step. Raises UserError where
    transformers are not installed."""

    def __init__(self) -> None:
        if Base is object:
            raise UserError("onebit.training.hugging_face needs transformers: pip install transformers accelerate")

    def on_epoch_begin(self, args: Any, state: Any, control: Any, model: Any = None, **others: Any) -> None:
        layers.set_progress(model, state.global_step / max(state.max_steps, 1))

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, model: Any = None, **others: Any) -> None:
        add_regularization(model, model.parameters())
        layers.before_step(model)

    def on_optimizer_step(self, args: Any, state: Any, control: Any, model: Any = None, **others: Any) -> None:
        layers.after_step(model)
