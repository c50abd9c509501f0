"""The engines that `onebit bench --peers` times beside ours: they run the full-precision parent of the binary network.

A peer is one class and one line of PEERS. It is made once, from the parent and some batches of images to calibrate int8
with; `sessions(threads)` then gives a function from images to logits for each precision it has. Images are numpy arrays,
float32 (batch, C, H, W), for every peer as for our engine, so each pays for its own change of layout.
"""

import copy
import logging
import os
import sys
from collections.abc import Callable, Sequence
from importlib import metadata
from importlib.util import find_spec
from typing import Any, ClassVar, Protocol

import numpy as np
import torch
from torch import nn

from onebit.errors import UserError

Call = Callable[[np.ndarray], np.ndarray]
PACKED = "1 bit"  # the precision of the packed network itself


class Peer(Protocol):
    packages: ClassVar[tuple[str, ...]]  # the first one is the engine
    onednn: ClassVar[bool]  # whether ONEDNN_MAX_CPU_ISA holds for it

    def __init__(self, parent: nn.Module, samples: Sequence[np.ndarray], folder: str) -> None: ...

    def sessions(self, threads: int) -> dict[str, Call]: ...


class Eager:
    """PyTorch as it is, channels last: its fastest layout for convolutions."""

    packages: ClassVar[tuple[str, ...]] = ("torch",)
    onednn: ClassVar[bool] = True

    def __init__(self, parent: nn.Module, samples: Sequence[np.ndarray], folder: str) -> None:
        self.network = copy.deepcopy(parent).to(memory_format=torch.channels_last)

    def sessions(self, threads: int) -> dict[str, Call]:
        return {"float32": run_torch(self.network)}


class Compiled(Eager):
    """torch.compile with frozen weights, which folds the batch norms."""

    def sessions(self, threads: int) -> dict[str, Call]:
        torch.set_num_threads(threads)  # the number is written into the generated code, and part of its cache's key
        options: dict[str, Any] = {"freezing": True, "cpp.threads": threads}
        return {"float32": run_torch(torch.compile(copy.deepcopy(self.network), dynamic=False, options=options))}


def run_torch(network: Callable[..., Any]) -> Call:
    def call(images: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return network(torch.from_numpy(images).contiguous(memory_format=torch.channels_last)).numpy()

    return call


class FilePeer:
    """A peer that makes files, which other processes can run as well."""

    files: dict[str, str]  # by precision

    def add_packed(self, path: str, batch: int, folder: str) -> None:
        """Adds the packed network itself to `files`, as PACKED, if the engine has 1-bit operators. Raises UserError for
        networks that they do not cover."""

    def sessions(self, threads: int) -> dict[str, Call]:
        return {precision: self.open(path, precision, threads) for precision, path in self.files.items()}

    @staticmethod
    def open(path: str, precision: str, threads: int) -> Call:
        raise NotImplementedError


class OnnxRuntime(FilePeer):
    """ONNX Runtime; int8 is static, QDQ, per channel, activations U8 and weights S8."""

    packages: ClassVar[tuple[str, ...]] = ("onnxruntime", "onnx", "onnxscript")
    onednn: ClassVar[bool] = False

    def __init__(self, parent: nn.Module, samples: Sequence[np.ndarray], folder: str) -> None:
        from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
        from onnxruntime.quantization.shape_inference import quant_pre_process

        class Reader(CalibrationDataReader):
            def __init__(self) -> None:
                self.rest = iter(samples)

            def get_next(self) -> dict[str, np.ndarray] | None:
                images = next(self.rest, None)
                return None if images is None else {"images": images}

        names = ("float32", "prepared", "int8")
        path, prepared, int8 = (os.path.join(folder, f"{name}.onnx") for name in names)
        self.files = {"float32": path, "int8": int8}
        example = (torch.from_numpy(samples[0]),)
        # dynamo is the exporter that is not deprecated; weights inside the file, where the quantizer looks for them.
        settings: dict[str, Any] = {"dynamo": True, "external_data": False, "verbose": False}
        torch.onnx.export(parent, example, path, input_names=["images"], **settings)
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
        return lambda images: run(None, {"images": images})[0]


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

        nncf.set_log_level(logging.ERROR)
        # From a module with the shape given: from torch.export's program the shape stays open, and it runs 3 times slower.
        shape, example = tuple(samples[0].shape), torch.from_numpy(samples[0])
        network = openvino.convert_model(parent, example_input=example, input=[shape])
        int8 = nncf.quantize(network, nncf.Dataset(list(samples)), subset_size=len(samples))
        self.files = {precision: os.path.join(folder, f"{precision}.xml") for precision in ("float32", "int8")}
        for model, path in zip((network, int8), self.files.values(), strict=True):
            openvino.save_model(model, path, compress_to_fp16=False)

    def add_packed(self, path: str, batch: int, folder: str) -> None:
        import openvino

        from onebit.export import openvino as peer_openvino

        file = os.path.join(folder, "packed.xml")
        openvino.save_model(peer_openvino.model(path, batch), file, compress_to_fp16=False)
        self.files[PACKED] = file

    @staticmethod
    def open(path: str, precision: str, threads: int) -> Call:
        import openvino

        settings: dict[str, Any] = {"INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1}
        if precision == "float32":
            settings["INFERENCE_PRECISION_HINT"] = "f32"
        request = openvino.Core().compile_model(path, "CPU", settings).create_infer_request()

        def call(images: np.ndarray) -> np.ndarray:  # 0.06 ms quicker than request.infer({0: images})[0]
            request.set_input_tensor(openvino.Tensor(images, shared_memory=True))
            request.infer()
            return request.get_output_tensor().data.copy()

        return call


PEERS: dict[str, type[Peer]] = {
    "torch": Eager,
    "torch-compile": Compiled,
    "onnxruntime": OnnxRuntime,
    "openvino": OpenVino,
}


def versions(names: Sequence[str]) -> dict[str, str]:
    """The engines' versions by peer. Raises UserError for an unknown name, and where a package is not installed."""
    for name in names:
        if name not in PEERS:
            raise UserError(f"--peers: {name!r} is unknown; choose from {','.join(PEERS)}")
        if missing := [package for package in PEERS[name].packages if find_spec(package) is None]:
            raise UserError(
                f"--peers {name} needs the Python packages {', '.join(missing)}; install them with "
                "pip install 'onebit[peers]'"
            )
    return {name: metadata.version(PEERS[name].packages[0]) for name in names}
