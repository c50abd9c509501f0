"""`onebit eval`: scores of a checkpoint or a packed file, its calibration, and its accuracy on corrupted pictures."""

import argparse
from typing import Any

from onebit.cli.arguments import add_data, add_engine, add_model, is_checkpoint, names, numbers, positive, refuse, verb
from onebit.cli.output import bar, scores, usable_threads
from onebit.errors import UserError

DETAILS = """MODEL is a checkpoint (evaluated with PyTorch) or a packed file (run by the engine):
  onebit eval runs/cifar/last.ckpt --data cifar10 --root data
  onebit eval cifar.safetensors --data cifar10 --root data --threads 2
  onebit eval sst2.safetensors --data glue --root glue              on the task that it was trained for
With --corruptions also its accuracy on the pictures corrupted as in ImageNet-C, at severities 1 to 5:
  onebit eval cifar.safetensors --root data --corruptions                       the fifteen common ones
  onebit eval cifar.safetensors --root data --corruptions fog,blur --severities 1,3,5 --limit 1000
  onebit list corruptions"""


def add(verbs: Any) -> None:
    parser = verb(
        verbs, "eval", run, "Measure the scores of a model on a data set's test examples", DETAILS, reads=("model",)
    )
    add_model(parser, "checkpoint (.ckpt), packed file (.safetensors)")
    add_data(parser)
    parser.add_argument("--glue", metavar="TASK", help="of --data glue: another task than the network's own")
    add_engine(parser)
    parser.add_argument("--batch-size", type=positive, default=100, help="examples at a time (default 100)")
    parser.add_argument(
        "--limit", type=positive, metavar="N", help="N of the test examples, evenly spaced (default all)"
    )
    parser.add_argument(
        "--reliability", metavar="FILE", help="draw how often answers of each confidence are right: .png, .svg or .pdf"
    )
    parser.add_argument(
        "--corruptions",
        metavar="NAMES",
        nargs="?",
        const=["common"],
        type=names,
        help="corrupt the pictures, too: names or groups with commas, see `onebit list corruptions` (default common)",
    )
    parser.add_argument("--severities", type=numbers, metavar="N,N", help="strengths from 1 to 5 (default all)")
    parser.add_argument("--seed", type=natural, help="of what the corruptions draw (default 0)")


def natural(text: str) -> int:
    if not text.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0")
    return int(text)


def run(options: argparse.Namespace) -> tuple[dict[str, Any], str]:
    from onebit.analysis import corruptions, reliability
    from onebit.analysis.evaluation import scored
    from onebit.analysis.subject import opened

    checkpoint = is_checkpoint(options.model)
    if options.data != "glue":
        refuse(options, "it is for --data glue", glue=None)
    if checkpoint:
        refuse(options, f"{options.model} is a checkpoint, which PyTorch runs", isa=None, backend="auto")
    if options.corruptions is None:
        refuse(options, "it is for --corruptions", severities=None, seed=None)
    else:
        corruptions.chosen(options.corruptions)
    if options.reliability is not None:
        reliability.check_name(options.reliability, [options.model])
    subject = opened(
        options.model,
        options.data,
        options.root,
        checkpoint=checkpoint,
        download=options.download,
        threads=usable_threads(options.threads),
        isa=options.isa,
        backend=options.backend,
        glue=options.glue,
    )
    if options.reliability is not None and subject.task.answer != "one":
        raise UserError(f"--reliability is for networks that answer one label, not for the task {subject.task.name}")
    result = scored(subject, options.batch_size, options.limit)
    text = summary(result)
    if options.reliability is not None:
        title = f"{subject.described['model']}, {subject.described['method']}: {result['examples']} examples"
        reliability.draw(result["calibration"], options.reliability, title)
        text += f"\n{options.reliability}: the reliability diagram"
    if options.corruptions is not None:
        result["corruptions"] = measured(options, subject)
        text += "\n\n" + table(result["corruptions"])
    return result, text


def summary(result: dict[str, Any]) -> str:
    """The scores on a line."""
    parts = [scores(result)]
    if "calibration" in result:
        parts.append(f"calibration error {result['calibration']['ece']:.2f} %")
    return f"{', '.join(parts)} on {examples(result)} ({result['runtime']})"


def examples(result: dict[str, Any]) -> str:
    count, total = result["examples"], result["of_examples"]
    return f"{count} examples" if count == total else f"{count} of {total} examples"


def measured(options: argparse.Namespace, subject: Any) -> dict[str, Any]:
    from onebit.analysis.corruptions import SEVERITIES
    from onebit.analysis.robustness import robustness

    with bar("corrupted pictures", quiet=options.json) as progress:
        return robustness(
            subject,
            options.corruptions,
            options.severities or SEVERITIES,
            seed=options.seed or 0,
            batch_size=options.batch_size,
            limit=options.limit,
            threads=options.threads,
            progress=progress,
        )


def table(result: dict[str, Any]) -> str:
    """A line for each corruption: its accuracy at each severity, and their mean."""
    width = max(map(len, [*result["means"], "corruption"]))
    head = [f"{'corruption':{width}}", *(f"{severity:>6}" for severity in result["severities"]), f"{'mean':>6}"]
    rows = [
        [f"{name:{width}}", *(f"{value:6.2f}" for value in of.values()), f"{result['means'][name]:6.2f}"]
        for name, of in result["accuracy"].items()
    ]
    relative = (
        "" if result["relative"] is None else f", {result['relative']:.1f} % of the clean {result['clean']:.2f} %"
    )
    count = len(rows)
    last = f"mean of {count} corruption{'s' * (count > 1)} {result['mean']:.2f} %{relative}, on {examples(result)}"
    return "\n".join("  ".join(row) for row in [head, *rows]) + "\n" + last
