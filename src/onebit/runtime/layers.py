"""A network layer by layer: what each computes and weighs. The table of `onebit.summary` and of `onebit info --layers`.

Counted as the papers do, for one input:

    1-bit MACs    +-1 products: outputs x products of an output, times the number of pairs of forms where a layer has several
    float MACs    products of real numbers, of convolutions and linear layers alone: batch norms, activations, pools and sums
                  count nothing, nor does what functions compute (F.linear, attention), and neither do the scales of binary layers nor their sums over windows
    OPs           1-bit MACs / 64 + float MACs (Bi-Real Net's rule, by which most papers since compare)
    bytes         in float32: of weights, biases, norms' parameters and statistics. Packed: weights of binary layers in 1
                  bit, all else, their scales and thresholds included, in 4 bytes; of a packed file, what it holds
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

BOPS_OF_AN_OP = 64


@dataclass(frozen=True)
class Layer:
    """A row: its name, kind, shape of the output without the batch, bits of weights and of what they multiply ("1/1"; "" where
    there are no products), 1-bit and float MACs, bytes in float32 and packed."""

    name: str
    kind: str
    shape: tuple[int, ...]
    bits: str
    binary_macs: int
    float_macs: int
    float32_bytes: int
    packed_bytes: int

    @property
    def ops(self) -> float:
        """1-bit MACs / 64 + float MACs."""
        return self.binary_macs / BOPS_OF_AN_OP + self.float_macs


@dataclass(frozen=True)
class Summary:
    """The layers of a network for one input, and their totals. As text, a table."""

    layers: tuple[Layer, ...]

    def total(self, what: str) -> float:
        """The sum of a column, such as "ops" or "packed_bytes"."""
        return sum(getattr(layer, what) for layer in self.layers)

    @property
    def totals(self) -> dict[str, int | float]:
        """{"binary_macs", "float_macs", "ops", "float32_bytes", "packed_bytes"}."""
        names = ("binary_macs", "float_macs", "ops", "float32_bytes", "packed_bytes")
        return {name: self.total(name) for name in names}

    def record(self) -> list[dict[str, Any]]:
        """The rows as plain values."""
        return [{**asdict(layer), "shape": list(layer.shape), "ops": layer.ops} for layer in self.layers]

    def __str__(self) -> str:
        head = ("layer", "kind", "output", "bits", "1-bit MACs", "float MACs", "float32 bytes", "packed bytes")
        rows = [
            (layer.name, layer.kind, "x".join(map(str, layer.shape)), layer.bits, *_numbers(layer))
            for layer in self.layers
        ]
        last = ("total", "", "", "", *(f"{round(self.total(name)):,}" for name in COLUMNS))
        lines = _aligned([head, *rows, last])
        return "\n".join([*lines, f"OPs {self.total('ops'):.3g} (1-bit MACs / {BOPS_OF_AN_OP} + float MACs)"])


COLUMNS = ("binary_macs", "float_macs", "float32_bytes", "packed_bytes")


def _numbers(layer: Layer) -> list[str]:
    return [f"{getattr(layer, name):,}" if getattr(layer, name) else "" for name in COLUMNS]


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Columns two spaces apart, the numbers at the right."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    sides = ["<"] * 4 + [">"] * len(COLUMNS)
    return [
        "  ".join(f"{cell:{side}{width}}" for cell, side, width in zip(row, sides, widths)).rstrip() for row in rows
    ]
