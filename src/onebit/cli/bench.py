"""`onebit bench`: time, layers or memory of a network in the engine; `onebit bench train` is `onebit bench-train`."""

import argparse
import os
from typing import Any

from onebit.bench.peers import PEERS
from onebit.cli import bench_train
from onebit.cli.arguments import Parser, names, numbers, positive, refuse, verb
from onebit.cli.output import usable_threads
from onebit.methods import METHODS
from onebit.models import MODELS
from onebit.runtime import zoo

DETAILS = """MODEL is a packed file, or a name of the model table, built with random weights:
  onebit bench cifar.safetensors --threads 1,2 --isa all
  onebit bench resnet20 --method adabin
  onebit bench sst2.safetensors --length 32                         texts of 32 tokens, and how many a second
  onebit bench imagenet_resnet18 --size 224 --threads 1,2 --isa all --peers onnxruntime,openvino,torch
onebit bench train --help: time of training steps, by method.
Answers are checked before any time is printed; times are medians of interleaved rounds.

--peers times the network's full-precision parent in other engines, in the same rounds: torch and torch-compile
in float32, onnxruntime and openvino in float32 and static int8 (they need the extra `peers`). Peers choose
their instruction set. To hold those of torch and openvino to a lower one, set the variable of oneDNN, which
reads it once when the process starts:
  ONEDNN_MAX_CPU_ISA=AVX2 onebit bench ... --isa avx2         (or AVX2_VNNI, AVX512_CORE, AVX512_CORE_VNNI, ...)
onnxruntime has no such switch and always uses the best one."""


def add(verbs: Any) -> None:
    what = "Time a network in the engine, against PyTorch or against other engines"
    parser = verb(verbs, "bench", run, what, DETAILS, reads=("model",))
    parser.first["train"] = Parser(f"{parser.prog} train")
    bench_train.fill(parser.first["train"])
    add_argument = parser.add_argument
    add_argument("model", metavar="MODEL", help=f"packed file (.safetensors), or a model: {', '.join(MODELS)}")
    add_argument("--method", default="adabin", help=f"of a model given by name: {', '.join(METHODS)} (default adabin)")
    add_argument("--size", type=positive, default=32, help="image size in pixels of a model given by name (default 32)")
    add_argument("--length", type=positive, help="tokens of a text (default: as many as the network takes)")
    add_argument("--batch", type=positive, default=1, help="images, or texts, per call (default 1)")
    add_argument("--threads", type=numbers, default=[1], help="numbers of CPU threads, such as 1,2 (default 1)")
    add_argument(
        "--isa", default="best", help="instruction sets: best, all, or names such as avx2,scalar (default best)"
    )
    add_argument(
        "--rounds",
        type=positive,
        help="interleaved rounds of 9 to 30 timed runs each (default 12; with --layers runs, 50)",
    )
    add_argument(
        "--layers",
        action="store_true",
        help="where the time goes instead: each layer's time, rate, and share of the peak of its kernels (1 thread)",
    )
    add_argument(
        "--memory",
        action="store_true",
        help="memory instead of time: each engine's peak in a process of its own (peers: onnxruntime, openvino)",
    )
    add_argument(
        "--peers",
        type=names,
        default=[],
        help=f"other engines to time: names among {','.join(PEERS)} (default none)",
    )
    add_argument(
        "--int8",
        action="store_true",
        help="the engine takes images of bytes; the weights of a model given by name that are not binary have 8 bits",
    )
    add_argument("--random", action="store_true", help="MODEL is a name of the table, even where a file has it too")
    add_argument(
        "--require-idle",
        action="store_true",
        help="exit with 2 where other processes use more than 10 %% of a CPU before or during the run",
    )


def run(options: argparse.Namespace) -> tuple[dict[str, Any], str]:
    if zoo.is_named(options.model) or (os.path.exists(options.model) and options.model not in MODELS):
        refuse(options, f"{options.model} is a packed file", method="adabin", size=32)
    shared = {key: getattr(options, key) for key in ("model", "method", "size", "length", "random", "int8")}
    if options.layers:
        one_thread = {"threads": [1], "batch": 1, "peers": [], "memory": False, "require_idle": False}
        refuse(options, "--layers times one image, or text, on one thread", **one_thread)
        from onebit.bench.layers import bench_layers, layer_table

        layers = bench_layers(**shared, isa=options.isa, rounds=options.rounds or 50)
        return layers, layer_table(layers)
    shared |= {key: getattr(options, key) for key in ("batch", "peers")}
    shared["threads"] = list(dict.fromkeys(map(usable_threads, options.threads)))
    if options.memory:
        refuse(options, "--memory times nothing", isa="best", rounds=None, require_idle=False)
        from onebit.bench.memory import bench_memory, memory_table

        memory = bench_memory(**shared)
        return memory, memory_table(memory)
    from onebit.bench.speed import bench_speed, speed_table

    result = bench_speed(**shared, isa=options.isa, rounds=options.rounds or 12, require_idle=options.require_idle)
    return result, speed_table(result)
