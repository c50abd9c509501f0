"""torch.compile of a training step, and its replay as CUDA graphs.

A step of a small network is many short kernels, which a CPU launches more slowly than a GPU computes them. On one GPU the compiled forward
and backward passes are therefore recorded once, as CUDA graphs, and replayed with one launch each.
What a replay computes lies where the last one's results lay:

- parameters, buffers and schedules are read and written in place; where one is replaced by another tensor, its graph is recorded anew
- gradients are there until the next step's first pass: of a step in parts they add up, as without graphs
- what a step returns is a copy
"""

from typing import Any

import torch
from torch import nn

from onebit.training.recipe import DeviceOptions
from onebit.training.step import Step

# As mode reduce-overhead, but that batches of many sizes, which are compiled for any size, are launched kernel by kernel.
GRAPHS = {"triton.cudagraphs": True, "triton.cudagraph_skip_dynamic_graphs": True}


def compiles(options: DeviceOptions, steps: int) -> bool:
    """torch.compile takes about a minute: auto switches it on from 2000 steps of a run, which repay it."""
    if options.compile == "auto":
        return steps >= 2000 and not options.deterministic
    return options.compile == "true"


def replays(options: DeviceOptions, device: torch.device, processes: int) -> bool:
    """Whether compiled steps are CUDA graphs. Not of several processes, whose gradients are exchanged while a backward pass runs."""
    return options.cuda_graphs and device.type == "cuda" and processes == 1


def compile_step(step: Step, objective: nn.Module, graphs: bool, **options: Any) -> None:
    """Compile what a step differentiates, in place, and the methods' hooks around it; options are torch.compile's.

    objective: that of the step, not wrapped by fabric
    """
    objective.compile(options=GRAPHS if graphs else None, **options)
    step.graphs = graphs
    step.hooks.compile()
