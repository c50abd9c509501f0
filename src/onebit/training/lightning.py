"""The hooks as a callback of Lightning's Trainer: `Trainer(callbacks=[BinaryCallback()])`, and the module stays as it is.

Needs `lightning` (or `pytorch_lightning`), which onebit does not install.
"""

from typing import Any

import torch
from torch import Tensor

from onebit.errors import UserError
from onebit.nn import layers
from onebit.training.hooks import add_regularization, base_class

Base: Any = base_class("Callback", "lightning.pytorch", "pytorch_lightning")


class BinaryCallback(Base):
    """Moves the schedules of a module's binary layers at the start of each epoch, adds the gradient of their regularization to
    that of the loss (once a step, whatever accumulate_grad_batches), and calls before_step and after_step.

    The progress is current_epoch / max_epochs, or global_step / max_steps where only that is set. Raises UserError for
    a trainer without an end, and for several optimizers: which of them has which layers only their loop knows; and where
    Lightning is not installed.
    """

    def __init__(self) -> None:
        if Base is object:
            raise UserError("onebit.training.lightning needs Lightning: pip install lightning")
        self.steps = 0
        self.clipping: Tensor | None = None

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        self.steps = trainer.global_step
        if len(trainer.optimizers) > 1:
            raise UserError(
                f"BinaryCallback serves one optimizer, the module has {len(trainer.optimizers)}; call the hooks of onebit in its "
                "training_step"
            )

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        layers.set_progress(pl_module, progress(trainer))

    def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        add_regularization(pl_module, parameters)
        layers.before_step(pl_module)
        self.clipping = None
        if trainer.gradient_clip_val and trainer.gradient_clip_algorithm != "value":  # Lightning clips after this
            norm = torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
            self.clipping = (trainer.gradient_clip_val / (norm + 1e-6)).clamp(max=1.0)

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if trainer.global_step > self.steps:  # gradients are kept until the next batch
            self.steps = trainer.global_step
            layers.after_step(pl_module, self.clipping)


def progress(trainer: Any) -> float:
    """The fraction of the training that is done. Raises UserError for one that never ends."""
    if (trainer.max_epochs or -1) > 0:
        return trainer.current_epoch / trainer.max_epochs
    if trainer.max_steps > 0:
        return trainer.global_step / trainer.max_steps
    raise UserError(
        "BinaryCallback: the trainer has neither max_epochs nor max_steps, by which schedules move; set one"
    )
