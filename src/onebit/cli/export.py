"""`onebit export`: a network as a file of another runtime."""

import argparse
import tempfile
from pathlib import Path
from typing import Any

from onebit import export
from onebit.cli.arguments import add_model, check_output, is_checkpoint, positive, refuse, verb
from onebit.cli.output import one_line

DETAILS = """  onebit export adabin.safetensors --to onnx
  onebit export runs/cifar/last.ckpt --to onnx --int8 --pixels
  onebit export adabin.safetensors --to openvino --batch 8
ONNX: standard operators alone, opset 18, one bit a binary weight, any batch. Inputs are those of the packed file, images as
float32 (B, C, H, W), normalised already; with --pixels as bytes. docs/export.md says more."""


def add(verbs: Any) -> None:
    parser = verb(
        verbs,
        "export",
        run,
        "Write a network as a file of another runtime: ONNX, OpenVINO",
        DETAILS,
        "file to write (default: the model's name with .onnx, or .xml, beside which .bin is written)",
    )
    add_model(parser, "checkpoint (.ckpt), packed file (.safetensors)")
    parser.add_argument("--to", default="onnx", help=f"one of {', '.join(export.FORMATS)} (default onnx)")
    parser.add_argument(
        "--int8", action="store_true", help="of a checkpoint: store the weights that are not binary in 8 bits"
    )
    parser.add_argument(
        "--pixels", action="store_true", help="ONNX: images go in as bytes (B, H, W, C), normalised inside"
    )
    parser.add_argument(
        "--qonnx", action="store_true", help="ONNX: signs as QONNX's BipolarQuant, float32 weights, for FINN and hls4ml"
    )
    parser.add_argument(
        "--batch", type=positive, help="samples of a call (default: ONNX any number, QONNX and OpenVINO 1)"
    )


def run(options: argparse.Namespace) -> tuple[dict[str, Any], str]:
    settings = {"qonnx": options.qonnx, "pixels": options.pixels, "batch": options.batch}
    export.check(options.to, **settings)
    checkpoint = is_checkpoint(options.model)
    out = options.out or export.default_name(options.model, options.to)
    kind = {"onnx": "ONNX", "openvino": "OpenVINO"}[options.to]
    check_output(out, [options.model], kind)
    if checkpoint:
        result = packed_first(options, out, settings)
    else:
        refuse(options, f"{options.model} is packed already; give the checkpoint, or pack it with --int8", int8=False)
        result = export.write(options.model, out, options.to, **settings)
    ends = " -> ".join(
        ", ".join(f"{name} {words}" for name, words in result[side].items()) for side in ("inputs", "outputs")
    )
    opset = f", opset {result['opset']}" if "opset" in result else ""
    return result, one_line(f"{out}: {kind}{opset}, {result['bytes']} bytes; {ends}")


def packed_first(options: argparse.Namespace, out: str, settings: dict[str, Any]) -> dict[str, Any]:
    """Of a checkpoint, by way of its packed file."""
    from onebit.checkpoints import checkpoint
    from onebit.packing.from_checkpoint import pack_checkpoint

    content = checkpoint.load(options.model)
    with tempfile.TemporaryDirectory() as folder:
        packed = str(Path(folder) / "packed.safetensors")
        summary = pack_checkpoint(content, packed, options.int8)
        result = export.write(packed, out, options.to, **settings)
    return {**result, "packed_bytes": summary["bytes"], "float32_bytes": summary["float32_bytes"]}
