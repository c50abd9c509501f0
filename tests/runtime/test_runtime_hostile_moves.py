"""Files that must be refused for what is wrong with a constant, an operator that moves values, an upsampling, a transposed
convolution or an attention."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nets import Builder
from test_runtime_hostile import Parts, accept, of, refuse_changed, tensor
from test_runtime_hostile_several import raw


def parts() -> Parts:
    """A valid network: constant "k", pad "p", upsample "u", channel_shuffle "s", slice "c", concat "h" and "w" of heights and
    widths, transposed_conv "t", to_sequence "q", attention "a", constant vector "v"; "m" is a mean, "l" of vectors."""
    net = Builder(0, (4, 3, 2))
    net.nodes = [
        {"op": "constant", "name": "k", "inputs": []},
        {"op": "pad", "name": "p", "inputs": ["input"], "pixels": [1, 2, 0, 1], "mode": "reflect"},
        {"op": "upsample", "name": "u", "inputs": ["p"], "scale": [1, 2], "mode": "bilinear", "align_corners": True},
        {"op": "channel_shuffle", "name": "s", "inputs": ["u"], "groups": 2},
        {"op": "slice", "name": "c", "inputs": ["s"], "axis": "height", "start": 1, "stop": 6, "step": 2},
        {"op": "concat", "name": "h", "inputs": ["c", "s"], "axis": "height"},
        {"op": "concat", "name": "w", "inputs": ["s", "u"], "axis": "width"},
        {
            "op": "transposed_conv",
            "name": "t",
            "inputs": ["w"],
            "stride": [2, 1],
            "output_padding": [1, 0],
            "groups": 2,
        },
        {"op": "to_sequence", "name": "q", "inputs": ["h"]},
        {"op": "attention", "name": "a", "inputs": ["q", "k", "k"], "heads": 2, "scale": 0.5},
        {"op": "constant", "name": "v", "inputs": []},
        {"op": "global_avg_pool", "name": "m", "inputs": ["a"]},
        {"op": "concat", "name": "l", "inputs": ["m", "v"]},
    ]
    net.tensors = {
        "k.value": net.floats(5, 1, 4),
        "v.value": net.floats(3),
        "t.weight": net.floats(6, 2, 2, 3),
        "t.bias": net.floats(6),
    }
    return net.graph("l", map="t"), net.tensors


def put(**tensors: np.ndarray) -> Callable[[Parts], Any]:
    return lambda source: source[1].update({name.replace("_", ".", 1): array for name, array in tensors.items()})


MUTATIONS: dict[str, tuple[Callable[[Parts], Any], str]] = {
    # of constants
    "constant of an input": (of("k", inputs=["input"]), r"takes 0 input\(s\)"),
    "constant of no list": (of("k", inputs={}), r"takes 0 input\(s\)"),
    "constant with a shape": (of("k", shape=[5, 1, 4]), "unknown key 'shape'"),
    "constant without a value": (lambda p: p[1].pop("k.value"), "k.value is missing"),
    "constant of two axes": (tensor("k.value", lambda a: a[:, 0]), r"shape \(any, any, any\)"),
    "constant of four axes": (tensor("k.value", lambda a: a[None]), r"shape \(any, any, any\)"),
    "constant of one number": (put(v_value=np.zeros((), np.float32)), r"shape \(any, any, any\)"),
    "constant of 8 bits": (tensor("k.value", lambda a: a.astype(np.int8)), "must be F32, got I8"),
    "constant that is NaN": (tensor("v.value", lambda a: a * np.nan), "contains NaN"),
    # of concat
    "unknown axis": (of("h", axis="depth"), "axis must be one of channels, height, width"),
    "axis a number": (of("h", axis=1), "axis must be one of channels, height, width"),
    "axis a list": (of("w", axis=["width"]), "axis must be one of channels, height, width"),
    "heights of two widths": (of("h", inputs=["c", "p"]), "maps of one width and as many channels"),
    "heights of other channels": (of("h", inputs=["c", "k"]), "maps of one width and as many channels"),
    "widths of two heights": (of("w", inputs=["s", "c"]), "maps of one height and as many channels"),
    "heights of vectors": (of("l", axis="height"), r"needs a map \(H, W, C\)"),
    "widths of vectors": (of("l", axis="width"), r"needs a map \(H, W, C\)"),
    "width of a map and a vector": (of("w", inputs=["s", "v"]), "maps of one height|cyclic or unknown"),
    "channels of two heights": (of("h", axis="channels"), "maps of one height and width, or two vectors"),
    # of slice
    "slice without an axis": (of("c", axis=None), "lacks axis"),
    "slice of an unknown axis": (of("c", axis="batch"), "axis must be one of channels, height, width"),
    "slice without a start": (of("c", start=None), "lacks start"),
    "slice without a stop": (of("c", stop=None), "lacks stop"),
    "start below 0": (of("c", start=-1), "start must be an integer from 0 to 268435456"),
    "start a float": (of("c", start=1.0), "start must be an integer"),
    "start too large": (of("c", start=2**28 + 1), "start must be an integer"),
    "stop of 0": (of("c", start=0, stop=0), "stop must be an integer from 1 to 268435456"),
    "stop at the start": (of("c", stop=1), "stop 1 must be more than start 1"),
    "stop beyond the map": (of("c", stop=7), "stop 7 is beyond the size 6"),
    "stop beyond the width": (of("c", axis="width", stop=7), "stop 7 is beyond"),
    "step of 0": (of("c", step=0), "step must be an integer from 1"),
    "step below 0": (of("c", step=-1), "step must be an integer from 1"),
    "slice of two": (of("c", inputs=["s", "s"]), r"takes 1 input\(s\)"),
    # of channel_shuffle
    "shuffle without groups": (of("s", groups=None), "lacks groups"),
    "groups of 0": (of("s", groups=0), "groups must be an integer from 1 to 32768"),
    "groups that do not divide": (of("s", groups=3), "groups 3 must divide 4 channels"),
    # of to_sequence
    "sequence of a vector": (of("q", inputs=["m"]), "cyclic or unknown"),
    "sequence of a constant vector": (
        lambda p: (p[0]["nodes"].insert(0, p[0]["nodes"].pop(10)), of("q", inputs=["v"])(p)),
        r"needs a map \(H, W, C\)",
    ),
    "parts that do not divide": (of("q", parts=3), r"\(to_sequence\): parts 3 must divide 4 channels"),
    "more parts than channels": (of("q", parts=8), "parts 8 must divide 4 channels"),
    "parts of 0": (of("q", parts=0), "parts must be an integer from 1 to 32768"),
    "parts a float": (of("q", parts=2.0), "parts must be an integer"),
    "parts a pair": (of("q", parts=[2, 2]), "parts must be an integer"),
    "sequence with an attribute": (of("q", axis="height"), "unknown key 'axis'"),
    # of pad
    "pad without pixels": (of("p", pixels=None), "lacks pixels"),
    "pad of two": (of("p", pixels=[1, 1]), "pixels must be a list of 4 integers"),
    "pad of a number": (of("p", pixels=1), "pixels must be a list of 4 integers"),
    "pad below 0": (of("p", pixels=[0, 0, -1, 0]), "pixels must be an integer from 0 to 32768"),
    "pad too large": (of("p", pixels=[0, 0, 0, 2**15 + 1]), "pixels must be an integer from 0 to 32768"),
    "pad of floats": (of("p", pixels=[1.0, 1, 1, 1]), "pixels must be an integer"),
    "unknown mode of pad": (of("p", mode="mirror"), "mode must be one of zeros, reflect, replicate, circular"),
    "mode of pad true": (of("p", mode=True), "mode must be one of"),
    "a mirror of all": (of("p", pixels=[3, 0, 0, 0]), "mode reflect pads 3 pixels by 2 at most"),
    "a mirror of all columns": (of("p", pixels=[0, 0, 2, 0]), "mode reflect pads 2 pixels by 1 at most"),
    "more than a turn": (of("p", pixels=[0, 4, 0, 0], mode="circular"), "mode circular pads 3 pixels by 3 at most"),
    "too many pixels": (of("p", pixels=[2**15] * 4, mode="zeros"), "the image is too small or big"),
    # of upsample
    "upsample without a scale": (of("u", scale=None), "lacks scale"),
    "scale a number": (of("u", scale=2), "scale must be a list of two integers"),
    "scale of 0": (of("u", scale=[0, 1]), "scale must be an integer from 1 to 32768"),
    "scale a fraction": (of("u", scale=[1.5, 1]), "scale must be an integer"),
    "scale too large": (of("u", scale=[2**15, 2**15]), "the image is too small or big"),
    "upsample without a mode": (of("u", mode=None), "lacks mode"),
    "unknown mode of upsample": (of("u", mode="bicubic"), "mode must be one of nearest, bilinear"),
    "corners a number": (of("u", align_corners=1), "align_corners must be true or false"),
    "corners of the nearest": (of("u", mode="nearest"), "align_corners is for the mode bilinear"),
    # of transposed_conv
    "transposed of a vector": (of("t", inputs=["l"]), "cyclic or unknown"),
    "transposed without a weight": (lambda p: p[1].pop("t.weight"), "t.weight is missing"),
    "transposed weight of PyTorch": (tensor("t.weight", lambda a: a.swapaxes(0, 1)), "must divide|input channels"),
    "transposed weight of another map": (tensor("t.weight", lambda a: a[:, :1]), "weight has 1 input channels"),
    "transposed groups": (of("t", groups=3), "groups 3 must divide"),
    "transposed bias": (tensor("t.bias", lambda a: a[1:]), r"t.bias must have shape \(6\)"),
    "transposed stride": (of("t", stride=[0, 1]), "stride must be an integer from 1"),
    "transposed padding": (of("t", padding=[-1, 1]), "padding must be an integer from 0"),
    "transposed dilation": (of("t", dilation=[1, 2**15 + 1]), "dilation must be an integer from 1"),
    "all cut off": (of("t", padding=[0, 8]), "the image is too small or big"),
    "far apart": (of("t", stride=[2**15, 2**15]), "the image is too small or big"),
    "extra a number": (of("t", output_padding=1), "output_padding must be a list of two integers"),
    "extra below 0": (of("t", output_padding=[-1, 0]), "output_padding must be an integer from 0"),
    "extra of a stride": (of("t", output_padding=[2, 0]), "must be less than stride .* or dilation"),
    "extra of a column": (of("t", output_padding=[0, 1]), "must be less than stride .* or dilation"),
    "transposed in 8 bits": (
        put(t_weight=np.ones((6, 2, 2, 3), np.int8)),
        "t.weight_scale is missing",
    ),
    # of attention
    "attention of two": (of("a", inputs=["q", "k"]), "takes 3 to 4 inputs, got"),
    "attention of maps": (of("a", inputs=["h", "k", "k"]), "needs sequences"),
    "attention of a vector": (
        lambda p: (p[0]["nodes"].insert(0, p[0]["nodes"].pop(10)), of("a", inputs=["q", "k", "v"])(p)),
        r"needs a map \(H, W, C\)",
    ),
    "keys of other channels": (tensor("k.value", lambda a: a[..., :2]), "needs sequences"),
    "values of another length": (of("a", inputs=["k", "k", "q"]), "needs sequences"),
    "attention without heads": (of("a", heads=None), "lacks heads"),
    "heads of 0": (of("a", heads=0), "heads must be an integer from 1 to 32768"),
    "heads that do not divide": (of("a", heads=3), "heads 3 must divide 4 and 4 channels"),
    "attention without a scale": (of("a", scale=None), "lacks scale"),
    "scale of infinity": (of("a", scale=1e39), "scale must be a finite number"),
    "scale a word": (of("a", scale="sqrt"), "scale must be a finite number"),
    "attention with a mask": (of("a", mask="causal"), "unknown key 'mask'"),
}


def test_the_unchanged_file_is_accepted(tmp_path: Path) -> None:
    accept(tmp_path, raw(*parts()))


@pytest.mark.parametrize("name", MUTATIONS)
def test_hostile_graphs(tmp_path: Path, name: str) -> None:
    refuse_changed(tmp_path, raw, parts(), MUTATIONS[name])
