"""The devices and processes of a training: one process a device, started here, by torchrun or by SLURM."""

import logging
import os
from collections.abc import Callable
from typing import TypeVar

import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins.environments import SLURMEnvironment
from lightning_fabric.utilities.exceptions import MisconfigurationException
from torch import nn

from onebit.errors import UserError
from onebit.training.recipe import DeviceOptions

T = TypeVar("T")


def make_fabric(options: DeviceOptions, precision: str) -> Fabric:
    """Fabric with the devices of the options. Raises UserError for devices that this machine, or the launcher, does not have."""
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # which tells the precision, once a process
    devices, nodes = device_counts(options)
    try:
        return Fabric(
            accelerator=options.accelerator,
            devices=devices,
            num_nodes=nodes,
            strategy=options.strategy,
            precision=precision,  # type: ignore[arg-type]
        )
    except (ValueError, RuntimeError, TypeError, MisconfigurationException) as error:
        reason = " ".join(str(error).split())[:300]
        raise UserError(
            f"accelerator = {options.accelerator!r}, devices = {options.devices!r}, num_nodes = {options.num_nodes}, "
            f"strategy = {options.strategy!r} cannot be used: {reason}"
        ) from error


def device_counts(options: DeviceOptions) -> tuple[int | str, int]:
    """(devices of a machine, machines): what torchrun or SLURM started where one did, else what the options say.

    Raises UserError where options that name numbers contradict the launcher.
    """
    devices: int | str = int(options.devices) if options.devices.isdigit() else options.devices
    if torch.distributed.is_torchelastic_launched():
        launcher, here, everywhere = "torchrun", int(os.environ["LOCAL_WORLD_SIZE"]), int(os.environ["WORLD_SIZE"])
    elif SLURMEnvironment.detect():
        everywhere = int(os.environ["SLURM_NTASKS"])
        launcher, here = "SLURM", everywhere // int(os.environ.get("SLURM_NNODES", 1))
    else:
        if options.num_nodes > 1 and not {"MASTER_ADDR", "NODE_RANK"} <= set(os.environ):
            raise UserError(
                f"num_nodes = {options.num_nodes}: nothing says where the other machines are; start each with torchrun or "
                "SLURM (or set MASTER_ADDR, MASTER_PORT and NODE_RANK)"
            )
        return devices, options.num_nodes
    nodes = everywhere // max(here, 1)
    if here * nodes != everywhere:
        raise UserError(f"{launcher} started {everywhere} processes unevenly; start as many on each machine")
    for key, value, started, unset in (
        ("devices", devices, here, "auto"),
        ("num_nodes", options.num_nodes, nodes, 1),
    ):
        if value not in (unset, started):
            what = "processes on each machine" if key == "devices" else "machines"
            raise UserError(f"{key} = {value} but {launcher} started {started} {what}; leave {key} out")
    return here, nodes


def share_of_batch(batch_size: int, accumulate: int, world_size: int) -> int:
    """Examples of a step on one device. Raises UserError where batch_size does not divide."""
    if batch_size % world_size:
        raise UserError(f"batch_size = {batch_size} is not a multiple of the {world_size} devices")
    share = batch_size // world_size
    if share % accumulate:
        raise UserError(
            f"accumulate = {accumulate} does not divide the {share} examples of a device "
            f"(batch_size = {batch_size}, {world_size} devices); choose a divisor of {share}"
        )
    return share


def synchronize_norms(model: nn.Module, fabric: Fabric) -> nn.Module:
    """The model with batch norms whose statistics come from all devices. UserError where they are not GPUs."""
    if fabric.device.type != "cuda":
        raise UserError(f"sync_batch_norm = true needs GPUs, not {fabric.device.type}; set it to false")
    return torch.nn.SyncBatchNorm.convert_sync_batchnorm(model)


def first_alone(fabric: Fabric, load: Callable[[], T]) -> T:
    """load() on the first process of each machine, then on its others: the first one downloads.

    A UserError is raised when all have tried; inside, it would leave the others in a broken connection.
    """
    with fabric.rank_zero_first(local=True):
        try:
            return load()
        except UserError as error:
            failure = error
    raise failure


@torch.no_grad()
def share_buffers(model: nn.Module, fabric: Fabric) -> None:
    """Give all ranks the buffers of rank 0: statistics of batch norms, schedules, rotations.

    DistributedDataParallel does so in the first forward pass of a step; evaluation runs outside of it, and singular value
    decompositions of two machines may round differently.
    """
    if fabric.world_size > 1:
        for buffer in model.buffers():
            contiguous = buffer.contiguous()
            torch.distributed.broadcast(contiguous, 0)
            buffer.copy_(contiguous)
