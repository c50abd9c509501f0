"""The command `onebit`: one verb, one function. A verb imports what it needs when it runs, so that `run` and `info` work
where PyTorch is not installed. User errors end in one line on standard error and exit code 2."""

import argparse
import json
import os
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from onebit import files
from onebit.errors import Stopped, UserError

DESCRIPTION = """Train, pack and run neural networks whose weights and activations are one bit.

  onebit train recipes/digits-resnet8-adabin.toml --out runs/digits      train a network
  onebit pack runs/digits/last.ckpt --out digits.safetensors             turn it into a file of bits
  onebit eval digits.safetensors --data digits                           measure the packed file
  onebit run digits.safetensors image.png folder/                        classify images
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code: 0, 2 after a user error, 130 or 143 after SIGINT or SIGTERM."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    try:
        if arguments and arguments[0] == "train":
            result, as_json, text = train(arguments[1:])
            report = None
        else:
            if arguments[:2] == ["bench", "train"]:
                arguments[:2] = ["bench-train"]
            options = make_parser().parse_args(arguments)
            result, text = options.verb(options)
            as_json, report = options.json, options.out if options.out_is_report else None
        try:
            if output := json.dumps(result) if as_json else printable(text):
                show(output)
        finally:  # also where nobody reads the output
            if report is not None:
                files.write_text(report, json.dumps(result, indent=2) + "\n", follow=True)
        return 0
    except UserError as error:
        print(f"onebit: error: {printable(str(error))}", file=sys.stderr)
        return 2
    except ModuleNotFoundError as error:
        extra = "pip install 'onebit[train]'"
        print(f"onebit: error: this needs the Python package {error.name!r}; install it with {extra}", file=sys.stderr)
        return 2
    except MemoryError:
        print("onebit: error: not enough memory; give fewer or smaller images at a time", file=sys.stderr)
        return 2
    except Stopped as stopped:
        if message := str(stopped):
            print(f"onebit: {message}", file=sys.stderr)
        return stopped.code
    except KeyboardInterrupt:
        print("onebit: interrupted; a training continues with --resume", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of our output has gone, as `onebit run ... | head` does
        return 0


def make_parser() -> argparse.ArgumentParser:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser("onebit", description=DESCRIPTION, formatter_class=raw)
    verbs = parser.add_subparsers(title="verbs", required=True, metavar="VERB")
    verbs.add_parser("train", help="train a network from a recipe (onebit train --help lists the keys)", add_help=False)

    def verb(name: str, function: Callable[..., Any], what: str, details: str, out: str) -> argparse.ArgumentParser:
        sub = verbs.add_parser(name, help=what, description=f"{what}.\n\n{details}", formatter_class=raw)
        sub.add_argument("--json", action="store_true", help="print the result as JSON, and nothing else")
        sub.add_argument("--out", metavar="PATH", help=out)
        sub.set_defaults(verb=function, out_is_report=out == REPORT)
        return sub

    sub = verb(
        "eval",
        evaluate,
        "Measure accuracy on a data set's test images",
        "MODEL is a checkpoint (evaluated with PyTorch) or a packed file (run by the engine):\n"
        "  onebit eval runs/cifar/last.ckpt --data cifar10 --root data\n"
        "  onebit eval cifar.safetensors --data cifar10 --root data --threads 2",
        REPORT,
    )
    sub.add_argument("model", metavar="MODEL", help="checkpoint (.ckpt) or packed file (.safetensors)")
    add_data(sub)
    add_engine(sub)
    sub.add_argument("--batch-size", type=positive, default=100, help="images at a time (default 100)")

    sub = verb(
        "pack",
        pack,
        "Write a checkpoint's network as a packed file: 1 bit per binary weight",
        "  onebit pack runs/cifar/last.ckpt --out cifar.safetensors",
        "packed file to write (default: the checkpoint's name with .safetensors)",
    )
    sub.add_argument("checkpoint", metavar="CHECKPOINT", help="checkpoint written by onebit train or onebit import")
    sub.add_argument(
        "--int8", action="store_true", help="store the weights that are not binary in 8 bits instead of 32"
    )

    sub = verb(
        "run",
        run,
        "Classify images with a packed file",
        "Prints the best labels and their probabilities for each image:\n  onebit run cifar.safetensors cat.png photos/ --top 3",
        REPORT,
    )
    sub.add_argument("model", metavar="MODEL", help="packed file (.safetensors)")
    sub.add_argument("images", metavar="IMAGE", nargs="+", help="image files, or folders that are searched for them")
    sub.add_argument("--top", type=positive, default=1, help="how many labels to print for an image (default 1)")
    add_engine(sub)

    sub = verb(
        "bench",
        bench,
        "Time a network in the engine, against PyTorch or against other engines",
        "MODEL is a packed file, or a name of the model table, built with random weights:\n"
        "  onebit bench cifar.safetensors --threads 1,2 --isa all\n"
        "  onebit bench resnet20 --method adabin\n"
        "  onebit bench imagenet_resnet18 --size 224 --threads 1,2 --isa all --peers onnxruntime,openvino,torch\n"
        "onebit bench train --help: time of training steps, by method.\n"
        "Answers are checked before any time is printed; times are medians of interleaved rounds.\n"
        "\n"
        "--peers times the network's full-precision parent in other engines, in the same rounds: torch and torch-compile\n"
        "in float32, onnxruntime and openvino in float32 and static int8 (pip install 'onebit[peers]'). Peers choose\n"
        "their instruction set. To hold those of torch and openvino to a lower one, set the variable of oneDNN, which\n"
        "reads it once when the process starts:\n"
        "  ONEDNN_MAX_CPU_ISA=AVX2 onebit bench ... --isa avx2         (or AVX2_VNNI, AVX512_CORE, AVX512_CORE_VNNI, ...)\n"
        "onnxruntime has no such switch and always uses the best one.",
        REPORT,
    )
    sub.add_argument("model", metavar="MODEL", help="packed file (.safetensors) or name of a model, such as resnet20")
    sub.add_argument("--method", default="adabin", help="method of a model given by name (default adabin)")
    sub.add_argument(
        "--size", type=positive, default=32, help="image size in pixels of a model given by name (default 32)"
    )
    sub.add_argument("--batch", type=positive, default=1, help="images per call (default 1)")
    sub.add_argument("--threads", type=numbers, default=[1], help="numbers of CPU threads, such as 1,2 (default 1)")
    sub.add_argument(
        "--isa", default="best", help="instruction sets: best, all, or names such as avx2,scalar (default best)"
    )
    sub.add_argument(
        "--rounds",
        type=positive,
        help="interleaved rounds of 9 to 30 timed runs each (default 12; with --layers runs, 50)",
    )
    sub.add_argument(
        "--layers",
        action="store_true",
        help="where the time goes instead: each layer's time, rate, and share of the peak of its kernels (1 thread)",
    )
    sub.add_argument(
        "--memory",
        action="store_true",
        help="memory instead of time: each engine's peak in a process of its own (peers: onnxruntime, openvino)",
    )
    sub.add_argument(
        "--peers",
        type=lambda text: list(dict.fromkeys(text.split(","))),
        default=[],
        help="other engines to time: names among torch,torch-compile,onnxruntime,openvino (default none)",
    )
    sub.add_argument(
        "--int8",
        action="store_true",
        help="the engine takes images of bytes; the weights of a model given by name that are not binary have 8 bits",
    )
    sub.add_argument("--random", action="store_true", help="MODEL is a name of the table, even where a file has it too")
    sub.add_argument(
        "--require-idle",
        action="store_true",
        help="exit with 2 where other processes use more than 10 %% of a CPU before or during the run",
    )

    sub = verb(
        "bench-train",
        bench_train,
        "Time training steps of methods against their full-precision parent",
        "  onebit bench train --model resnet20 --methods xnor,rbnn,adabin,rebnn\n"
        "The first losses are checked against plain PyTorch before any time is printed; steps of all methods take turns,\n"
        "and ratios are medians over rounds. `onebit bench-train` is the same verb.",
        REPORT,
    )
    sub.add_argument("--model", default="resnet20", help="network of the model table (default resnet20)")
    sub.add_argument("--methods", default="xnor,rbnn,adabin,rebnn", help="methods, such as rbnn,adabin (default: four)")
    sub.add_argument("--size", type=positive, default=32, help="image size in pixels (default 32)")
    sub.add_argument("--classes", type=positive, default=10, help="number of classes (default 10)")
    sub.add_argument("--batch", type=positive, default=128, help="images a step (default 128)")
    sub.add_argument("--precision", default="auto", choices=("auto", "32-true", "bf16-mixed"), help="as in a recipe")
    sub.add_argument("--eager", action="store_true", help="without torch.compile")
    sub.add_argument("--threads", type=positive, default=0, help="CPU threads (default: PyTorch's)")
    sub.add_argument("--device", default="auto", help="cpu, cuda or auto (default auto)")
    sub.add_argument("--rounds", type=positive, default=20, help="interleaved rounds (default 20)")

    sub = verb(
        "info",
        info,
        "Say what a checkpoint or packed file holds",
        "  onebit info cifar.safetensors",
        REPORT,
    )
    sub.add_argument("model", metavar="MODEL", help="checkpoint (.ckpt) or packed file (.safetensors)")

    sub = verb(
        "import",
        import_checkpoint,
        "Convert a checkpoint trained with a paper's released code",
        "  onebit import adabin-resnet20 model_best.th --out adabin.ckpt\n"
        "Every tensor of the file must be used, and every tensor of the network found. A file name ending in\n"
        ".safetensors makes a packed file at once.",
        "checkpoint (.ckpt) or packed file (.safetensors) to write (default: KIND.ckpt)",
    )
    sub.add_argument("kind", metavar="KIND", help="what the file holds: adabin-resnet20, ...")
    sub.add_argument("file", metavar="FILE", help="the authors' checkpoint")
    return parser


REPORT = "write the result as JSON to this file too"


def add_data(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--data",
        default="cifar10",
        help="data set: cifar10, cifar100, digits, imagefolder, parquet, webdataset (default cifar10)",
    )
    parser.add_argument("--root", default="data", help="folder that holds the data set (default data)")
    parser.add_argument("--download", action="store_true", help="fetch the data set where there is a network")


def add_engine(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--threads", type=positive, help="CPU threads (default: all)")
    parser.add_argument(
        "--isa", help="force an instruction set of the engine: scalar, avx2, avx512, avx512vnni, avx512vp, amx"
    )
    parser.add_argument(
        "--backend", default="auto", choices=("auto", "engine", "reference"), help="runtime of packed files"
    )


def positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1")
    return int(text)


def numbers(text: str) -> list[int]:
    return [positive(part) for part in text.split(",")]


def refuse(options: argparse.Namespace, why: str, **defaults: object) -> None:
    """Refuse options that would have no effect."""
    for name, default in defaults.items():
        if getattr(options, name) != default:
            raise UserError(f"--{name.replace('_', '-')} has no effect here: {why}")


def show(text: str) -> None:
    """Print to the standard output. UserError where it cannot be written; BrokenPipeError where its reader has gone."""
    try:
        print(text, flush=True)
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is left in the buffer goes nowhere
        if isinstance(error, BrokenPipeError):
            raise
        raise UserError(f"cannot write to the standard output: {error.strerror}") from error


def printable(text: str) -> str:
    """text with escapes for what steers a terminal and what is no character: names of files and labels may hold both."""
    escaped = re.sub("[\x00-\x09\x0b-\x1f\x7f-\x9f]", lambda found: f"\\x{ord(found[0]):02x}", text)
    encoding = sys.stdout.encoding or "utf-8"
    return escaped.encode(encoding, errors="backslashreplace").decode(encoding)


def is_checkpoint(path: str) -> bool:
    """Checkpoints are zip files, packed files are not."""
    try:
        with open(path, "rb") as file:
            return file.read(4) == b"PK\x03\x04"
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from error


def train(arguments: list[str]) -> tuple[dict[str, Any], bool, str]:
    from lightning_fabric.utilities.rank_zero import rank_zero_only

    from onebit.cli import train as training_options
    from onebit.training import recipe
    from onebit.training.train import train as run_training

    options, values, name = training_options.parse(arguments)
    result = run_training(
        recipe.Recipe(**values), resume=options.resume, name=name, quiet=options.json, profile=options.profile
    )
    if getattr(rank_zero_only, "rank", 0):  # one of several processes prints the result
        return result, False, ""
    text = f"accuracy {result['accuracy']:.2f} % after epoch {result['epochs']}; checkpoints in {result['out']}"
    return result, options.json, text


def evaluate(options: argparse.Namespace) -> tuple[dict[str, Any], str]:
    from onebit.analysis import evaluation

    checkpoint = is_checkpoint(options.model)
    if checkpoint:
        refuse(options, f"{options.model} is a checkpoint, which PyTorch runs", isa=None, backend="auto")
    result = evaluation.evaluate(
        options.model,
        options.data,
        options.root,
        checkpoint=checkpoint,
        download=options.download,
        batch_size=options.batch_size,
        threads=options.threads,
        isa=options.isa,
        backend=options.backend,
    )
    return result, f"accuracy {result['accuracy']:.2f} % on {result['images']} images ({result['runtime']})"


def pack(options: argparse.Namespace) -> tuple[dict[str, Any], str]:
    from onebit.checkpoints import checkpoint

    content = checkpoint.load(options.checkpoint)
    out = options.out or str(Path(options.checkpoint).with_suffix(".safetensors"))
    result = checkpoint.pack(content, options.checkpoint, out, options.int8)
    ratio = result["float32_bytes"] / result["bytes"]
    text = f"{out}: {result['bytes']} bytes, {ratio:.1f} times smaller than float32 ({result['float32_bytes']} bytes)"
    return result, text


def run(options: argparse.Namespace) -> tuple[dict[str, Any], str]:
    from onebit import runtime
    from onebit.runtime import pictures

    model = runtime.load(options.model, threads=options.threads, isa=options.isa, backend=options.backend)
    rows = pictures.classify(model, options.images, options.top)
    lines = [
        f"{row['image']}  " + "  ".join(f"{p['label']} {100 * p['score']:.1f} %" for p in row["predictions"])
        for row in rows
    ]
    return {"model": options.model, "runtime": model.isa, "images": rows}, "\n".join(lines)


def bench(options: argparse.Namespace) -> tuple[dict[str, Any], str]:
    from onebit.bench import speed as benchmark

    shared = {key: getattr(options, key) for key in ("model", "method", "size", "random", "int8")}
    if options.layers:
        one_thread = {"threads": [1], "batch": 1, "peers": [], "memory": False, "require_idle": False}
        refuse(options, "--layers times one image on one thread", **one_thread)
        from onebit.bench import layers as bench_layers

        layers = bench_layers.bench_layers(**shared, isa=options.isa, rounds=options.rounds or 50)
        return layers, bench_layers.table(layers)
    shared |= {key: getattr(options, key) for key in ("batch", "threads", "peers")}
    if options.memory:
        refuse(options, "--memory times nothing", isa="best", rounds=None, require_idle=False)
        from onebit.bench import memory as bench_memory

        memory = bench_memory.bench_memory(**shared)
        return memory, bench_memory.table(memory)
    result = benchmark.bench(**shared, isa=options.isa, rounds=options.rounds or 12, require_idle=options.require_idle)
    return result, benchmark.table(result)


def bench_train(options: argparse.Namespace) -> tuple[dict[str, Any], str]:
    from onebit.bench import training as bench_training

    result = bench_training.bench(
        options.model,
        options.methods.split(","),
        size=options.size,
        classes=options.classes,
        batch=options.batch,
        precision=options.precision,
        compiled=not options.eager,
        threads=options.threads,
        device=options.device,
        rounds=max(options.rounds, 2),  # quartiles need two
    )
    return result, bench_training.table(result)


def info(options: argparse.Namespace) -> tuple[dict[str, Any], str]:
    if is_checkpoint(options.model):
        from onebit.checkpoints import checkpoint

        result = checkpoint.describe(options.model)
    else:
        from onebit.runtime import inspection

        result = inspection.describe(options.model)
    return result, "\n".join(f"{key.replace('_', ' '):15} {value}" for key, value in result.items())


def import_checkpoint(options: argparse.Namespace) -> tuple[dict[str, Any], str]:
    from onebit.checkpoints import checkpoint, importers

    out = options.out or f"{options.kind}.ckpt"
    content = importers.load(options.kind, options.file)
    if out.endswith(".safetensors"):
        result = checkpoint.pack(content, options.file, out)
    else:
        checkpoint.save(Path(out), content)
        result = {"path": out, "bytes": Path(out).stat().st_size}
    result = {"kind": options.kind, **result, "tensors": len(content["model"])}
    return result, f"{out}: {options.kind}, {result['tensors']} tensors, all used"


if __name__ == "__main__":
    sys.exit(main())
