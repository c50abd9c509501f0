"""The course of the binary weights' signs: how many flip against the start of the training, in an epoch, and from step to step.

With b_t the sign of a weight after step t, of a layer of n weights:

    flips_initial   share of b that differs from what the network began with
    flips_latent    share of b that differs from the signs of the weights as they were drawn, before any rotation (RBNN, Fig. 7)
    flips_epoch     share of b that differs from the end of the epoch before
    flips_hook      the part of it that the hook of the epoch's start makes, before the first step (RBNN's rotations)
    flips_step      mean of 1/n |{b_t != b_{t-1}}| over the observed steps
    oscillation     mean of 1/n |{b_t != b_{t-1} and b_{t-1} != b_{t-2}}|: signs that flip and flip back (ReBNN, Sec. 3)

Steps are observed in one window at the end of each epoch, since signs of all layers after each step would cost as much as a
part of the forward pass. The signs that are remembered travel in the checkpoint, one bit each, so that a run that continues
counts as one that was never interrupted.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from onebit.errors import UserError
from onebit.nn.layers import BinaryConv2d, BinaryLinear, binary_layers

WINDOW = 17  # observed steps of an epoch at most: 16 pairs, 15 triples
SHARE = 10  # no more than every so many steps, but for the 3 that oscillation needs


class Signs:
    """What training remembers of its binary weights' signs. Without binary weights, or inactive, every method does nothing.

    model    whose weights change
    steps    of an epoch
    active   whether signs are watched
    """

    def __init__(self, model: nn.Module, steps: int, active: bool = True):
        found = [(name, layer) for name, layer in binary_layers(model) if layer.weight_binarizer is not None]
        self.layers: dict[str, BinaryConv2d | BinaryLinear] = dict(found) if active else {}
        self.window = min(steps, max(3, min(WINDOW, steps // SHARE)))
        self.steps = steps
        self.initial: Tensor | None = None  # (n,) bool, of all layers one after the other: whether a sign is -1
        self.latent: Tensor | None = None
        self.end: Tensor | None = None
        self.hook: list[int] | None = None
        self.forget()

    def forget(self) -> None:
        """Begin another window."""
        self.last: Tensor | None = None
        self.changed: Tensor | None = None
        self.flips: Tensor | None = None  # (layers,) sums over the window
        self.returns: Tensor | None = None
        self.pairs = self.triples = 0

    @torch.no_grad()
    def bits(self) -> Tensor:
        """Whether a binary weight's sign is -1: (n,) bool, of all layers and all their forms."""
        parts = []
        for layer in self.layers.values():
            assert layer.weight_binarizer is not None
            parts += [form.signs.reshape(-1) < 0 for form in layer.weight_binarizer.freeze(layer.weight)]
        return torch.cat(parts)

    @torch.no_grad()
    def latent_bits(self) -> Tensor:
        """The same of the latent weights, as often as the layer has forms."""
        sizes = self.sizes()
        return torch.cat(
            [
                (layer.weight.reshape(-1) < 0).repeat(sizes[name] // layer.weight.numel())
                for name, layer in self.layers.items()
            ]
        )

    @torch.no_grad()
    def sizes(self) -> dict[str, int]:
        """Bits by layer."""
        if not hasattr(self, "_sizes"):
            self._sizes = {
                name: layer.weight.numel() * len(layer.weight_binarizer.freeze(layer.weight))  # type: ignore[union-attr]
                for name, layer in self.layers.items()
            }
        return self._sizes

    def counts(self, different: Tensor) -> Tensor:
        """How many of (n,) are true, by layer: (layers,)."""
        parts = different.split(list(self.sizes().values()))
        return torch.stack([part.count_nonzero() for part in parts])

    def begin(self) -> None:
        """The training begins: these are the signs that others are compared with."""
        if self.layers:
            self.initial, self.latent = self.bits(), self.latent_bits()
            self.end = self.initial

    def start_epoch(self) -> None:
        """The hooks of an epoch's start have run."""
        self.forget()
        self.hook = None
        if self.layers and self.end is not None:
            self.hook = self.counts(self.bits() != self.end).tolist()

    def after_step(self, number: int) -> None:
        """Step `number` of the epoch is done."""
        if not self.layers or number < self.steps - self.window:
            return
        now = self.bits()
        if self.last is not None:
            changed = now != self.last
            flips = self.counts(changed)
            self.flips, self.pairs = flips if self.flips is None else self.flips + flips, self.pairs + 1
            if self.changed is not None:
                returns = self.counts(changed & self.changed)
                self.returns = returns if self.returns is None else self.returns + returns
                self.triples += 1
            self.changed = changed
        self.last = now

    def end_epoch(self) -> dict[str, list[float | None]]:
        """The module's measures of the epoch that ends here, by name, each with a number for every layer."""
        if not self.layers:
            return {}
        now, sizes = self.bits(), torch.tensor(list(self.sizes().values())).double()

        def shares(counts: Tensor | None, times: int = 1) -> list[float | None]:
            if counts is None:
                return [None] * len(sizes)
            return (counts.double().cpu() / sizes / times).tolist()

        def against(before: Tensor | None) -> list[float | None]:
            return shares(None if before is None else self.counts(now != before))

        found = {
            "flips_initial": against(self.initial),
            "flips_latent": against(self.latent),
            "flips_epoch": against(self.end),
            "flips_hook": shares(None if self.hook is None else torch.tensor(self.hook)),
            "flips_step": shares(self.flips, self.pairs),
            "oscillation": shares(self.returns, self.triples),
        }
        self.end, self.hook = now, None
        self.forget()
        return found

    def record(self) -> dict[str, Any] | None:
        """All of it as plain values and tensors, for a checkpoint; None where nothing is known."""
        if self.initial is None and self.end is None:
            return None
        bits = {key: getattr(self, key) for key in ("initial", "latent", "end", "last", "changed")}
        sums = {key: getattr(self, key) for key in ("flips", "returns")}
        return {
            "sizes": self.sizes(),
            **{key: None if value is None else packed(value) for key, value in bits.items()},
            **{key: None if value is None else value.tolist() for key, value in sums.items()},
            **{key: getattr(self, key) for key in ("hook", "pairs", "triples")},
        }

    def load(self, record: dict[str, Any] | None, where: str) -> None:
        """Continue from a record. Raises UserError, which starts with `where`, for one of other layers."""
        if not self.layers or record is None:
            return
        try:
            if record["sizes"] != self.sizes():
                raise ValueError("it is of other layers")
            device, total = next(iter(self.layers.values())).weight.device, sum(self.sizes().values())
            for key in ("initial", "latent", "end", "last", "changed"):
                bits = record[key]
                setattr(self, key, None if bits is None else unpacked(bits, total).to(device))
            for key in ("flips", "returns"):
                setattr(self, key, None if record[key] is None else torch.tensor(record[key]).to(device))
            self.hook, self.pairs, self.triples = record["hook"], int(record["pairs"]), int(record["triples"])
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise UserError(f"{where}: the record of signs cannot be read ({error}); it may be damaged") from error


def packed(bits: Tensor) -> Tensor:
    """(n,) bool -> (ceil(n / 8),) uint8, the first bit the highest of its byte."""
    return torch.from_numpy(np.packbits(bits.cpu().numpy()))


def unpacked(record: Tensor, count: int) -> Tensor:
    """The inverse of `packed` for `count` bits. Raises ValueError for a record of another length or type."""
    if record.dtype != torch.uint8 or record.shape != (-(-count // 8),):
        raise ValueError(f"{count} signs are not {tuple(record.shape)} {record.dtype}")
    return torch.from_numpy(np.unpackbits(record.numpy(), count=count).astype(bool))
