"""Networks with random weights, for tests and measurements."""

from __future__ import annotations

from typing import Any

import numpy as np

from onebit.errors import FormatError
from onebit.runtime import bits
from onebit.runtime.format import validate
from onebit.runtime.vocabulary import encoded

STEPS = ("affine", "hardtanh", "relu", "prelu", "rprelu", "maxout", "clip", "hardsigmoid", "hardswish")
STEPS += ("sigmoid", "tanh", "silu", "elu", "gelu", "gelu_tanh")


class Builder:
    """Collects nodes and random tensors; each method returns the name of the node it adds."""

    def __init__(self, seed: int, shape: tuple[int, int, int]) -> None:
        self.random = np.random.default_rng(seed)
        self.nodes: list[dict[str, Any]] = []
        self.tensors: dict[str, np.ndarray] = {}
        self.shape = shape

    def floats(self, *shape: int) -> np.ndarray:
        return self.random.normal(size=shape).astype(np.float32)

    def node(self, op: str, inputs: list[str], tensors: dict[str, np.ndarray] | None = None, **attributes: Any) -> str:
        name = f"{op}{len(self.nodes)}"
        self.nodes.append({"op": op, "name": name, "inputs": inputs, **attributes})
        self.tensors |= {f"{name}.{what}": array for what, array in (tensors or {}).items()}
        return name

    def conv(self, x: str, in_: int, out: int, kernel: int | tuple[int, int] = 3, **attributes: Any) -> str:
        kernel = (kernel, kernel) if isinstance(kernel, int) else kernel
        weight = self.floats(out, in_ // attributes.get("groups", 1), *kernel)
        stored = self.stored(weight)
        if "weight_scale" in stored and weight.shape[1] == in_ and len(self.nodes) % 2:
            attributes["activations"] = "int8"
        return self.node("conv", [x], stored, **attributes)

    def stored(self, weight: np.ndarray) -> dict[str, np.ndarray]:
        """A float weight (O, ...), one in three in 8 bits."""
        if self.random.integers(3):
            return {"weight": weight}
        eight = self.random.integers(-128, 128, weight.shape).astype(np.int8)
        return {"weight": eight, "weight_scale": self.floats(len(weight)) / 128}

    def binary_conv(
        self, x: str, in_: int, out: int, kernel: int | tuple[int, int] = 3, rows: int = 2, **attributes: Any
    ) -> str:
        """`rows` 3 adds a weight offset. Scales have both signs."""
        kernel = (kernel, kernel) if isinstance(kernel, int) else kernel
        weight = self.floats(out, in_ // attributes.get("groups", 1), *kernel)
        tensors = {"bits": bits.pack_weight(weight), "channels": self.floats(rows, out)}
        if attributes.get("threshold") == "channel":
            tensors["threshold"] = self.floats(in_)
        return self.node("binary_conv", [x], tensors, in_channels=in_, kernel=list(kernel), **attributes)

    def transposed_conv(self, x: str, in_: int, out: int, kernel: tuple[int, int], **attributes: Any) -> str:
        tensors = self.stored(self.floats(out, in_ // attributes.get("groups", 1), *kernel))
        if self.random.integers(2):
            tensors["bias"] = self.floats(out)
        return self.node("transposed_conv", [x], tensors, **attributes)

    def embedding(self, tokens: str, count: int, channels: int) -> str:
        return self.node("embedding", [tokens], self.stored(self.floats(count, channels)))

    def step(self, op: str, x: str, channels: int) -> str:
        """An elementwise operator."""
        rows = {"affine": 2, "prelu": None, "rprelu": 3, "maxout": 2}
        tensors, attributes = {}, {}
        if op in rows:
            shape = (channels,) if rows[op] is None else (rows[op], channels)
            tensors = {"slope" if op == "prelu" else "channels": self.floats(*shape)}
        elif op == "clip":
            attributes = dict(zip(("low", "high"), np.sort(self.random.normal(size=2)).tolist()))
        elif op == "elu":
            attributes = {"alpha": float(self.random.uniform(0.1, 2))}
        return self.node(op, [x], tensors, **attributes)

    def norm(self, op: str, x: str, channels: int, groups: int = 1) -> str:
        """layer_norm, group_norm or l2_norm."""
        if op == "l2_norm":
            return self.node(op, [x], {"channels": self.floats(1, channels)})
        attributes = {"eps": 1e-3, **({"groups": groups} if op == "group_norm" else {})}
        return self.node(op, [x], {"channels": self.floats(2, channels)}, **attributes)

    def image(self) -> dict[str, Any]:
        channels = self.shape[0]
        return {"shape": list(self.shape), "mean": [0.5] * channels, "std": [0.25] * channels}

    def graph(self, output: str, *others: dict[str, Any], **outputs: str) -> dict[str, Any]:
        """Of version 2. `others` are inputs beside the image "input", `outputs` nodes beside the first output by name."""
        return {
            "name": "test",
            "method": "none",
            "inputs": [{"name": "input", "type": "image", **self.image()}, *others],
            "nodes": self.nodes,
            "outputs": [{"name": name, "node": node} for name, node in ({"output": output} | outputs).items()],
            "task": {"name": "classification", "answer": "one"},
        }

    def graph1(self, output: str) -> dict[str, Any]:
        """Of version 1."""
        return {
            "name": "test",
            "method": "none",
            "input": self.image(),
            "labels": None,
            "recipe": None,
            "accuracy": None,
            "nodes": self.nodes,
            "output": output,
        }


def detector(seed: int = 0, labels: int = 3, proposals: bool = False) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Two maps of a 3×24×32 image, (6, 8) and (3, 4), with 2 and 3 boxes a cell and two heads each: 96 + 36 rows. Of proposals
    instead of anchors a box is moved for each label."""
    net = Builder(seed, (3, 24, 32))
    x = net.node("relu", [net.conv("input", 3, 8, padding=[1, 1], stride=[4, 4])])
    maps = (
        (net.node("l2_norm", [x], {"channels": net.floats(1, 8)}), 2),
        (net.conv(x, 8, 8, stride=[2, 2], padding=[1, 1]), 3),
    )
    heads = {"scores": labels + 1, "offsets": 4 * (labels + 1) if proposals else 4}
    outputs = {}
    for name, columns in heads.items():
        made = [net.node("to_sequence", [net.conv(m, 8, n * columns, 1)], parts=n) for m, n in maps]
        outputs[name] = net.node("concat", made, axis="height")
    if proposals:
        corners = net.random.uniform(0, 16, (132, 1, 2))
        places = np.concatenate([corners, corners + net.random.uniform(2, 16, (132, 1, 2))], -1).astype(np.float32)
        outputs["proposals"] = net.node("constant", [], {"value": places})
    graph = net.graph("")
    graph["outputs"] = [{"name": name, "node": node} for name, node in outputs.items()]
    grids = [
        {"map": [6, 8], "step": [4, 4], "boxes": [[5, 5], [8.5, 4]]},
        {"map": [3, 4], "step": [8, 8], "boxes": [[9, 9], [14, 7], [7, 14]]},
    ]
    settings = {
        "size": [24, 32],
        **({} if proposals else {"anchors": grids}),
        "weights": [10, 10, 5, 5],
        "score": 0.1,
        "overlap": 0.45,
        **({"smallest": 0.01} if proposals else {"candidates": 40}),
        "most": 50,
    }
    graph["task"] = {"name": "detection", "answer": "boxes", "labels": list("abcdefgh"[:labels]), "settings": settings}
    return graph, net.tensors


def resnet20(seed: int = 0) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """ResNet-20 for 3×32×32: binary 3×3 convolutions of 16, 32 and 64 channels, each with a shortcut and a maxout."""
    net = Builder(seed, (3, 32, 32))
    x = net.conv("input", 3, 16, padding=[1, 1])
    channels = 16
    for out, stride in [(16, 1)] * 6 + [(32, 2)] + [(32, 1)] * 5 + [(64, 2)] + [(64, 1)] * 5:
        y = net.binary_conv(x, channels, out, padding=[1, 1], stride=[stride, stride])
        if stride != 1:
            x = net.node("option_a", [x], stride=stride, pad=[(out - channels) // 2] * 2)
        x = net.node("add", [y, x])
        x = net.node("maxout", [x], {"channels": net.floats(2, out)})
        channels = out
    x = net.node("global_avg_pool", [x])
    x = net.node("linear", [x], {"weight": net.floats(10, channels), "bias": net.floats(10)})
    return net.graph(x), net.tensors


def random_net(seed: int) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """A small network of random operators with random attributes, odd sizes included.

    A network that shrinks its map to nothing is refused by the format, rightly; another one is drawn then.
    """
    while True:
        graph, tensors = draw_net(seed)
        try:
            validate(graph, tensors)
        except FormatError as error:
            if "too small" not in str(error):
                raise
            seed += 1_000_000
        else:
            return graph, tensors


def draw_net(seed: int) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """One draw of `random_net`, which may not fit its own image."""
    random = np.random.default_rng(seed)

    def any_of(*values: Any) -> Any:
        return values[random.integers(len(values))]

    channels, height, width = int(random.integers(1, 5)), int(random.integers(7, 20)), int(random.integers(7, 41))
    net = Builder(seed, (channels, height, width))
    x, c = "input", channels
    for _ in range(random.integers(3, 8)):
        op = any_of(
            *(
                "conv",
                "binary_conv",
                "binary_conv",
                "binary_conv",
                "step",
                "step",
                "pool",
                "option_a",
                "residual",
                "dense",
            ),
            *("norm", "gate"),
        )
        if op in ("conv", "binary_conv"):
            groups = any_of(1, 1, c if c < 9 else 1)
            out = groups * any_of(1, 3, 8, 17, 33, 70) if groups == 1 else groups * any_of(1, 2)
            kernel = any_of((1, 1), (3, 3), (2, 3))
            window = {"stride": [any_of(1, 1, 2), 1], "padding": [1, any_of(1, 2)], "dilation": [1, any_of(1, 1, 2)]}
            if op == "conv":
                x = net.conv(x, c, out, kernel, groups=groups, **window)
            else:
                shift, threshold = any_of(0, 0.25, -1.5), any_of(0, 0.3, "sample_mean", "channel")
                rows = any_of(2, 3)
                x = net.binary_conv(x, c, out, kernel, rows, groups=groups, shift=shift, threshold=threshold, **window)
            c = out
        elif op == "step":
            x = net.step(any_of(*STEPS), x, c)
        elif op == "norm":
            name = any_of("softmax", "layer_norm", "group_norm", "l2_norm")
            groups = any_of(*(n for n in range(1, c + 1) if c % n == 0))
            x = net.node(name, [x]) if name == "softmax" else net.norm(name, x, c, groups)
        elif op == "gate":  # of a value for each channel, each pixel or both
            z = net.node("global_avg_pool", [x]) if any_of(True, False) else net.conv(x, c, any_of(1, c), 1)
            x = net.node("multiply", [x, net.node(any_of("sigmoid", "hardsigmoid"), [z])])
        elif op == "pool":
            name = any_of("max_pool", "avg_pool")
            extra = {"count_include_pad": any_of(True, False)} if name == "avg_pool" else {}
            x = net.node(
                name,
                [x],
                kernel=[2, 3],
                stride=[1, any_of(1, 2)],
                padding=[1, 1],
                ceil_mode=any_of(True, False),
                **extra,
            )
        elif op == "option_a":
            x, c = net.node("option_a", [x], stride=any_of(1, 2), pad=[1, 2]), c + 3
        elif op == "dense":
            y, more = net.binary_conv(x, c, 5, 3, padding=[1, 1]), any_of(True, False)
            x, c = net.node("concat", any_of([x, y], [y, x])), c + 5
            if more:
                x, c = net.node("concat", [x, x]), 2 * c
        else:
            y = net.binary_conv(x, c, c, 3, padding=[1, 1])
            x = net.node("add", any_of([x, y], [y, x], [y, y]))
            x = net.node("maxout", [x], {"channels": net.floats(2, c)})
    x = net.node("global_avg_pool", [x])
    weight = net.floats(7, c)
    if any_of(True, False):
        x = net.node("linear", [x], {**net.stored(weight), "bias": net.floats(7)})
    else:
        x = net.node(
            "binary_linear",
            [x],
            {"bits": bits.pack(weight), "channels": net.floats(3, 7), "threshold": net.floats(c)},
            shift=0.5,
            threshold="channel",
        )
    return net.graph(x), net.tensors


def moving_net(seed: int) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """A small network of operators that move values, of constants, transposed convolutions and attention, and of others
    between them. Of every third network all values are outputs; of the others none but the last must be kept."""
    random = np.random.default_rng(seed)

    def any_of(*values: Any) -> Any:
        return values[random.integers(len(values))]

    c, h, w = int(random.integers(1, 7)), int(random.integers(5, 14)), int(random.integers(5, 14))
    net, x = Builder(seed, (c, h, w)), "input"
    shortcut = ("input", c, h, w)
    for _ in range(random.integers(4, 9)):
        op = any_of(
            "concat", "slice", "shuffle", "pad", "upsample", "transposed_conv", "constant", "conv", "conv", "step"
        )
        axis = any_of("channels", "height", "width")
        if op == "concat":
            sizes = {"channels": c, "height": h, "width": w}
            same = shortcut[1:] == (c, h, w)
            other, size = (shortcut[0], sizes[axis]) if same and random.integers(2) else (x, sizes[axis])
            if random.integers(2):  # a part of it
                other, size = net.node("slice", [other], axis=axis, start=size // 2, stop=size), size - size // 2
            x = net.node("concat", any_of([x, other], [other, x]), axis=axis)
            c, h, w = (old + size * (axis == name) for name, old in sizes.items())
        elif op == "slice" or max(h, w) > 24:
            axis = axis if op == "slice" else "height" if h > w else "width"
            size = {"channels": c, "height": h, "width": w}[axis]
            start, step = int(random.integers(0, size // 2 + 1)), any_of(1, 1, 2, 3)
            stop = int(random.integers(max(start + 1, size - 1), size + 1))
            x = net.node("slice", [x], axis=axis, start=start, stop=stop, step=step)
            left = -((start - stop) // step)
            c, h, w = (left if axis == name else old for name, old in (("channels", c), ("height", h), ("width", w)))
        elif op == "shuffle":
            x = net.node("channel_shuffle", [x], groups=any_of(*(g for g in range(1, c + 1) if c % g == 0)))
        elif op == "pad":
            mode = any_of("zeros", "reflect", "replicate", "circular")
            most = [min(4, size - (mode == "reflect")) for size in (h, h, w, w)]
            pixels = [int(random.integers(0, size + 1)) for size in most]
            x = net.node("pad", [x], pixels=pixels, mode=mode)
            h, w = h + sum(pixels[:2]), w + sum(pixels[2:])
        elif op == "upsample":
            scale = [any_of(1, 2, 3), any_of(1, 2, 5)]
            x = net.node("upsample", [x], scale=scale, **any_of(*UPSAMPLINGS))
            h, w = h * scale[0], w * scale[1]
        elif op == "transposed_conv":
            groups = any_of(1, c)
            out = groups * any_of(1, 2, 17) if groups == 1 else groups * any_of(1, 2)
            kernel, stride = (any_of(1, 2, 3), any_of(1, 3, 4)), [any_of(1, 2), any_of(1, 2, 3, 5)]
            window = {"stride": stride, "dilation": [any_of(1, 2), any_of(1, 2, 3)], "padding": [0, any_of(0, 1, 2)]}
            window["output_padding"] = [int(random.integers(0, size)) for size in stride]
            spans = [(k - 1) * d + 1 for k, d in zip(kernel, window["dilation"])]
            if (w - 1) * stride[1] + spans[1] > 2 * window["padding"][1]:
                x = net.transposed_conv(x, c, out, kernel, groups=groups, **window)
                of_axes = zip((h, w), stride, window["padding"], spans, window["output_padding"])
                h, w = ((size - 1) * s - 2 * p + span + more for size, s, p, span, more in of_axes)
                c = out
        elif op == "constant":
            other = net.node("constant", [], {"value": net.floats(h, w, c)})
            x = net.node("add", any_of([x, other], [other, x]))
        elif op == "conv":
            shortcut = (x, c, h, w)
            out = c if random.integers(2) else any_of(3, 8, 20)
            convolve = any_of(net.conv, net.binary_conv)
            x, c = convolve(x, c, out, 3, padding=[1, 1]), out
        else:
            x = net.node(*any_of(("relu", [x]), ("rprelu", [x], {"channels": net.floats(3, c)})))
    if h * w * c > 6000 or h * w > 400:
        x, h, w = (
            net.node("max_pool", [x], kernel=[3, 3], stride=[3, 3], padding=[1, 1], ceil_mode=True),
            -(-h // 3),
            -(-w // 3),
        )
    parts = any_of(1, *(n for n in range(2, c + 1) if c % n == 0))
    x, c = net.node("to_sequence", [x], parts=parts), c // parts
    heads, depth, out = any_of(1, 2, 3), any_of(1, 4, 11), any_of(1, 5, 18)
    q, k = (net.conv(x, c, heads * depth, 1) for _ in range(2))
    v = net.conv(x, c, heads * out, 1)
    if random.integers(2):  # to a sequence of another length
        k, v = (net.node("constant", [], {"value": net.floats(21, 1, heads * size)}) for size in (depth, out))
    made = net.node("attention", [q, k, v], heads=heads, scale=any_of(0.5, -1, 0))
    y = net.node("add", [made, made if random.integers(2) else net.conv(x, c, heads * out, 1)])
    if random.integers(2):
        y = net.binary_conv(net.conv(y, heads * out, 9, 1), 9, heads * out, 1, threshold=any_of(0, "sample_mean"))
    mean = net.node("global_avg_pool", [y])
    vector = net.node("concat", [mean, net.node("constant", [], {"value": net.floats(3)})])
    x = net.node("slice", [vector], axis="channels", start=1, stop=heads * out + 2, step=any_of(1, 2))
    others = {} if seed % 3 else {f"y{i}": entry["name"] for i, entry in enumerate(net.nodes[:60])}
    return net.graph(x, **others), net.tensors


PIECES = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")


def text_net(
    seed: int = 0, heads: int = 2, depth: int = 6, bits_of_attention: bool = True, softmax: bool = True
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """A classifier of texts of 7 pieces or any other number up to 12: embeddings of words (one bit) and types, positions, a norm,
    attention that heeds the mask, an 1x1 binary convolution, the first token, a linear layer of 3. All values are outputs."""
    net = Builder(seed, (1, 1, 1))
    vocabulary = (*PIECES, "a", "##b", "film", "Ärger", "gripping", "##ing", "é")
    count, width = len(vocabulary), heads * depth
    words = net.node(
        "binary_embedding",
        ["ids"],
        {"bits": bits.pack(net.floats(count, width)), "channels": net.floats(1 + seed % 2, count)},
        width=width,
    )
    x = net.node("add", [words, net.embedding("types", 2, width)])
    x = net.node("positions", [x], net.stored(net.floats(12, width)))
    x = net.norm("layer_norm", x, width)
    q, k, v = (net.conv(x, width, width, 1) for _ in range(3))
    if bits_of_attention:
        thresholds = {what: net.floats(width) / 4 for what in ("query", "key", "value")}
        level = 0.15 if softmax else 0.4
        attributes: dict[str, Any] = {"heads": heads, "scale": 0.4, "level": level, "factor": -0.3, "softmax": softmax}
        y = net.node("binary_attention", [q, k, v, "mask"], thresholds, **attributes)
    else:
        y = net.node("attention", [q, k, v, "mask"], heads=heads, scale=0.4)
    x = net.node("add", [x, net.binary_conv(y, width, width, 1, threshold="channel")])
    first = net.node("flatten", [net.node("slice", [x], axis="height", start=0, stop=1)])
    x = net.node("linear", [net.node("tanh", [first])], {"weight": net.floats(3, width)})
    graph = net.graph(x, **{f"y{i}": entry["name"] for i, entry in enumerate(net.nodes[:-1])})
    graph["inputs"] = [
        {"name": "ids", "type": "tokens", "length": 7, "count": count, "holds": "pieces", "lowercase": True},
        {"name": "types", "type": "tokens", "length": 7, "count": 2, "holds": "types"},
        {"name": "mask", "type": "tokens", "length": 7, "count": 2, "holds": "mask"},
    ]
    graph["task"] = {"name": "text", "answer": "one"}
    return graph, {**net.tensors, "ids.vocabulary": encoded(vocabulary)}


UPSAMPLINGS = (
    {"mode": "nearest"},
    {"mode": "bilinear"},
    {"mode": "bilinear", "align_corners": True},
)
