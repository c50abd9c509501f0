"""ONNX Runtime: the parent exported by torch.onnx, in float32 and in int8."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from onebit.bench.peers.peer import Call, FilePeer

if TYPE_CHECKING:
    from torch import nn


class OnnxRuntime(FilePeer):
    """ONNX Runtime; int8 is static, QDQ, per channel, activations U8 and weights S8."""

    packages: ClassVar[tuple[str, ...]] = ("onnxruntime", "onnx", "onnxscript")
    onednn: ClassVar[bool] = False

    def __init__(self, parent: nn.Module, samples: Sequence[np.ndarray], folder: str) -> None:
        import torch
        from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
        from onnxruntime.quantization.shape_inference import quant_pre_process

        class Reader(CalibrationDataReader):
            def __init__(self) -> None:
                self.rest = iter(samples)

            def get_next(self) -> dict[str, np.ndarray] | None:
                inputs = next(self.rest, None)
                return None if inputs is None else {"inputs": inputs}

        names = ("float32", "prepared", "int8")
        path, prepared, int8 = (os.path.join(folder, f"{name}.onnx") for name in names)
        self.paths = {"float32": path, "int8": int8}
        example = (torch.from_numpy(samples[0]),)
        # dynamo is the exporter that is not deprecated; weights inside the file, where the quantizer looks for them.
        settings: dict[str, Any] = {"dynamo": True, "external_data": False, "verbose": False}
        torch.onnx.export(parent, example, path, input_names=["inputs"], **settings)
        quant_pre_process(path, prepared, skip_symbolic_shape=True)  # every shape is known; folds the batch norms
        quantize_static(
            prepared,
            int8,
            Reader(),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )

    @staticmethod
    def open(path: str, precision: str, threads: int) -> Call:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
        run = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"]).run
        return lambda inputs: run(None, {"inputs": inputs})[0]
