"""Sentences a second of a packed network of texts beside its float parent in ONNX Runtime and OpenVINO, float32 and int8.

    python benchmarks/texts.py sst2.safetensors --parent runs/glue-minilm-float-0/best.ckpt --texts glue/SST-2/dev.tsv \
        --vocabulary vocab.txt

The parent is a checkpoint of `--model`, or a file of weights of such a BERT. All engines get the same tokens: those of the file
--texts, one text after the other, cut at each length. Int8 is ONNX Runtime's dynamic quantization (weights in S8) and its static one
(QDQ, per channel), and NNCF's post-training quantization for transformers in OpenVINO; networks are converted for each length alone, which is
their quickest form. Answers are checked before anything is timed: float32's against eager PyTorch's, int8's by correlation, ours against
numpy's reference and with every instruction set. Then all engines take turns, in one process.

--without names engines to leave out; without a packed file the peers run alone. No row is claimed where other processes were busy: the last
line says how much of a CPU they used.
"""

import argparse
import contextlib
import logging
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from onebit import models, runtime
from onebit.bench.contenders import CLOSE, Contender, check
from onebit.bench.turns import measure
from onebit.checkpoints.initial import initialize_from
from onebit.data.loading.word_pieces import pieces
from onebit.errors import UserError
from onebit.runtime import native

SAMPLES = 300  # texts that int8 is calibrated with, as NNCF's default
NAMES = ("ids", "types", "mask")
Call = Callable[[dict[str, np.ndarray]], np.ndarray]
Batch = dict[str, np.ndarray]


class Parent(nn.Module):
    """A BERT of three inputs (B, T), as converters read them."""

    def __init__(self, bert: nn.Module):
        super().__init__()
        self.bert = bert

    def forward(self, ids: Tensor, types: Tensor, mask: Tensor) -> Tensor:
        return self.bert(ids, types, mask)


def batches(path: str, vocabulary: str, length: int) -> list[Batch]:
    """Texts of exactly `length` tokens: int64 (1, T) of ids, types and mask."""
    lines = [line.split("\t")[0].strip() for line in Path(path).read_text(encoding="utf-8").split("\n")]
    words = Path(vocabulary).read_text(encoding="utf-8").split("\n")
    found = pieces([line for line in lines if line], None, words[: len(words) - (not words[-1])], True, 512)
    first, last = int(found.ids[0]), int(found.ids[found.ends[1] - 1])  # [CLS], [SEP]
    ids = found.ids[(found.ids != first) & (found.ids != last)]
    rows = [ids[at : at + length - 2] for at in range(0, len(ids) - length, length - 2)][:SAMPLES]
    if not rows:
        raise UserError(f"{path} holds {len(ids)} word pieces, less than --lengths {length}; give a longer file")
    ones, zeros = np.ones((1, length), np.int64), np.zeros((1, length), np.int64)
    return [{"ids": np.array([[first, *row, last]], np.int64), "types": zeros, "mask": ones} for row in rows]


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without what converters print of their progress."""
    with warnings.catch_warnings(), tempfile.TemporaryFile("w") as nowhere, contextlib.redirect_stdout(nowhere):
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
        try:
            yield
        finally:
            logging.disable(logging.NOTSET)


def onnxruntime_files(parent: nn.Module, samples: list[Batch], folder: Path) -> dict[str, Path]:
    from onnxruntime.quantization import (
        CalibrationDataReader,
        QuantFormat,
        QuantType,
        quantize_dynamic,
        quantize_static,
    )
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self.rest = iter(samples[:64])

        def get_next(self) -> Batch | None:
            return next(self.rest, None)

    precisions = {"float32": "float32", "int8, dynamic": "dynamic", "int8, static": "static"}
    paths = {precision: folder / f"{name}.onnx" for precision, name in precisions.items()}
    if all(path.exists() for path in paths.values()):
        return paths
    float32, dynamic, static = paths.values()
    settings: dict[str, Any] = {"dynamo": True, "external_data": False, "verbose": False}
    example = tuple(torch.from_numpy(samples[0][name]) for name in NAMES)
    torch.onnx.export(parent, example, str(float32), input_names=list(NAMES), **settings)
    prepared = folder / "prepared.onnx"
    quant_pre_process(str(float32), str(prepared), skip_symbolic_shape=True)
    quantize_dynamic(prepared, dynamic, weight_type=QuantType.QInt8)
    quantize_static(
        prepared,
        static,
        Reader(),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        op_types_to_quantize=["MatMul", "Gemm"],
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
    )
    return paths


def onnxruntime_call(path: Path, precision: str, threads: int) -> Call:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    wanted = {each.name for each in session.get_inputs()}
    return lambda batch: session.run(None, {name: value for name, value in batch.items() if name in wanted})[0]


def openvino_files(parent: nn.Module, samples: list[Batch], folder: Path) -> dict[str, Path]:
    import nncf
    import openvino

    paths = {precision: folder / f"{precision}.xml" for precision in ("float32", "bf16", "int8")}
    if all(path.exists() for path in paths.values()):
        return paths
    nncf.set_log_level(logging.ERROR)
    shape = list(samples[0]["ids"].shape)
    example = {name: torch.from_numpy(samples[0][name]) for name in NAMES}
    network = openvino.convert_model(parent, example_input=example, input=[(name, shape) for name in NAMES])
    kind = nncf.ModelType.TRANSFORMER
    int8 = nncf.quantize(network, nncf.Dataset(samples), subset_size=len(samples), model_type=kind)
    for model, path in zip((network, network, int8), paths.values(), strict=True):
        openvino.save_model(model, path, compress_to_fp16=False)
    return paths


def openvino_call(path: Path, precision: str, threads: int) -> Call:
    import openvino

    settings: dict[str, Any] = {"INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1}
    if precision != "int8":
        settings["INFERENCE_PRECISION_HINT"] = {"float32": "f32", "bf16": "bf16"}[precision]
    request = openvino.Core().compile_model(path, "CPU", settings).create_infer_request()

    def call(batch: Batch) -> np.ndarray:
        for name, value in batch.items():
            request.set_tensor(name, openvino.Tensor(value, shared_memory=True))
        request.infer()
        found: np.ndarray = request.get_output_tensor().data.copy()
        return found

    return call


def torch_call(parent: nn.Module, batch: Batch) -> np.ndarray:
    with torch.inference_mode():
        found: np.ndarray = parent(*(torch.from_numpy(batch[name]) for name in NAMES)).numpy()
    return found


# How the parent becomes files, by precision, and what answers with one of them.
ENGINES = {"onnxruntime": (onnxruntime_files, onnxruntime_call), "openvino": (openvino_files, openvino_call)}


def checked(engine: str, precision: str, call: Call, expected: Call, samples: list[Batch]) -> None:
    """Raises UserError where answers are not the parent's."""
    ours, theirs = (np.concatenate([answer(batch) for batch in samples[:16]]) for answer in (call, expected))
    if precision == "float32":
        return check(f"{engine} {precision}", ours, theirs)
    correlation = np.corrcoef(ours.ravel(), theirs.ravel())[0, 1]
    print(f"{engine} {precision}: correlation with PyTorch's answers {correlation:.3f}", file=sys.stderr)
    if not correlation >= (CLOSE if precision == "bf16" else 0.5):
        raise UserError(f"{engine} {precision} answers otherwise: correlation {correlation:.3f}")


def answer(model: runtime.Model, batch: Batch) -> np.ndarray:
    """The first output."""
    found = model(**batch)
    return next(iter(found.values())) if isinstance(found, dict) else found


def packed_calls(path: str, samples: list[Batch], threads: int, isas: list[str]) -> dict[str, Call]:
    """By instruction set; every answer is that of the reference, bit for bit."""
    few = [{name: value.astype(np.int32) for name, value in batch.items()} for batch in samples[:2]]
    reference = runtime.load(path, backend="reference")
    expected = [answer(reference, batch) for batch in few]
    calls: dict[str, Call] = {}
    for isa in native.supported():
        for count in {1, 2, threads}:
            model = runtime.load(path, threads=count, isa=isa)
            for batch, wanted in zip(few, expected, strict=True):
                found = answer(model, batch)
                if found.tobytes() != wanted.tobytes():
                    raise UserError(f"onebit {isa} on {count} threads answers otherwise than the reference")
            if count == threads and (not isas or isa in isas):
                calls[isa] = partial(answer, model)
    return calls if isas else {isa: calls[isa] for isa in list(calls)[-1:]}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("packed", nargs="?", help="a packed file")
    parser.add_argument("--parent", required=True, help="the float parent's checkpoint or weights")
    parser.add_argument("--model", default="minilm", help="the parent in the table of models")
    parser.add_argument("--texts", required=True, help="a text a line; what follows a tab is left out")
    parser.add_argument("--vocabulary", required=True, help="a word piece a line")
    parser.add_argument("--lengths", default="32,128", help="tokens")
    parser.add_argument("--isa", default="", help="instruction sets of ours; the best")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--keep", help="folder that keeps the converted networks for the next time")
    parser.add_argument("--without", default="", help="engines to leave out")
    options = parser.parse_args()
    # OpenVINO and NNCF report their use to their makers through this package, and do without where it is missing.
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    bert = models.create(options.model, "float", dropout=0.0).eval()
    initialize_from(bert, options.parent)
    parent = Parent(bert).eval()
    isas = [isa for isa in options.isa.split(",") if isa]
    expected = partial(torch_call, parent)
    for length in map(int, options.lengths.split(",")):
        samples = batches(options.texts, options.vocabulary, length)
        contenders = []
        if options.packed:
            values = {name: value.astype(np.int32) for name, value in samples[0].items()}
            for isa, call in packed_calls(options.packed, samples, options.threads, isas).items():
                row = {"engine": "onebit", "precision": "1 bit", "isa": isa, "threads": options.threads}
                contenders.append(Contender(row, partial(call, values)))
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(options.keep or temporary) / str(length)
            folder.mkdir(parents=True, exist_ok=True)
            for engine in [name for name in ENGINES if name not in options.without.split(",")]:
                convert, open_file = ENGINES[engine]
                with quiet():
                    paths = convert(parent, samples, folder)
                for precision, path in paths.items():
                    call = open_file(path, precision, options.threads)
                    checked(engine, precision, call, expected, samples)
                    row = {"engine": engine, "precision": precision, "isa": "its choice", "threads": options.threads}
                    contenders.append(Contender(row, partial(call, samples[0])))
            if "torch" not in options.without.split(","):
                row = {"engine": "torch", "precision": "float32", "isa": "its choice", "threads": options.threads}
                contenders.append(Contender(row, partial(expected, samples[0])))
            print(f"timing {length} tokens", file=sys.stderr, flush=True)
            rows, other = timed(contenders, options.rounds)
        print(f"\n{length} tokens, one text, {options.threads} thread(s)\n")
        print("| engine | precision | instruction set | ms (quartiles) | texts/s | ratio |\n|---|---|---|---|---|---|")
        for row in rows:
            ms, ratio = row["median_ms"], row["ratio"]
            print(
                f"| {row['engine']} | {row['precision']} | {row['isa']} | {ms:.3f} ({row['q1_ms']:.3f}–{row['q3_ms']:.3f}) | "
                f"{1e3 / ms:.0f} | {ratio:.2f} |"
            )
        print(f"\nother processes used {other} % of a CPU", flush=True)


def timed(contenders: list[Contender], rounds: int) -> tuple[list[dict[str, Any]], float | None]:
    """As `measure`; ratios are to the first contender where there is no onebit."""
    if contenders[0].row["engine"] == "onebit":
        return measure(contenders, 1, rounds)
    first = contenders[0]._replace(row={**contenders[0].row, "engine": "onebit"})
    rows, other = measure([first, *contenders[1:]], 1, rounds)
    return [{**rows[0], "engine": contenders[0].row["engine"]}, *rows[1:]], other


if __name__ == "__main__":
    main()
