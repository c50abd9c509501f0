"""OpenVINO: the parent in float32 and in int8, and the packed network in its 1-bit operator."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from onebit.bench.peers.peer import PACKED, Call, FilePeer
from onebit.errors import UserError

if TYPE_CHECKING:
    from torch import nn


class OpenVino(FilePeer):
    """OpenVINO; int8 by NNCF's post-training quantization, and the packed network by BinaryConvolution; what stays real in
    the precision OpenVINO chooses."""

    packages: ClassVar[tuple[str, ...]] = ("openvino", "nncf")
    onednn: ClassVar[bool] = True

    def __init__(self, parent: nn.Module, samples: Sequence[np.ndarray], folder: str) -> None:
        # Both packages report their use to their makers through this one, and do without where it is missing.
        sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
        import nncf
        import openvino
        import torch

        nncf.set_log_level(logging.ERROR)
        # From a module with the shape given: from torch.export's program the shape stays open, and it runs 3 times slower.
        shape, example = tuple(samples[0].shape), torch.from_numpy(samples[0])
        network = openvino.convert_model(parent, example_input=example, input=[shape])
        int8 = nncf.quantize(network, nncf.Dataset(list(samples)), subset_size=len(samples))
        self.paths = {precision: os.path.join(folder, f"{precision}.xml") for precision in ("float32", "int8")}
        for model, path in zip((network, int8), self.paths.values(), strict=True):
            openvino.save_model(model, path, compress_to_fp16=False)

    def add_packed(self, path: str, batch: int, folder: str) -> None:
        import openvino

        from onebit.export.openvino import openvino_model

        file = os.path.join(folder, "packed.xml")
        openvino.save_model(openvino_model(path, batch), file, compress_to_fp16=False)
        self.paths[PACKED] = file

    @staticmethod
    def open(path: str, precision: str, threads: int) -> Call:
        import openvino

        settings: dict[str, Any] = {"INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1}
        if precision == "float32":
            settings["INFERENCE_PRECISION_HINT"] = "f32"
        try:
            compiled = openvino.Core().compile_model(path, "CPU", settings)
        except RuntimeError:  # it takes bf16 where the processor has it, even if ONEDNN_MAX_CPU_ISA says not to
            settings["INFERENCE_PRECISION_HINT"] = "f32"
            try:
                compiled = openvino.Core().compile_model(path, "CPU", settings)
            except RuntimeError as error:
                reason = " ".join(str(error).split())[:300]
                raise UserError(
                    f"openvino cannot compile the {precision} network ({reason}); leave it out of --peers"
                ) from error
        request = compiled.create_infer_request()

        def call(inputs: np.ndarray) -> np.ndarray:  # 0.06 ms quicker than request.infer({0: inputs})[0]
            request.set_input_tensor(openvino.Tensor(inputs, shared_memory=True))
            request.infer()
            return request.get_output_tensor().data.copy()

        return call
