"""The command line, as a user meets it: results, --json, and one clear line with exit code 2 for every bad input."""

import dataclasses
import json
import os
import re
import struct
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

import onebit
from onebit import data, models, runtime
from onebit.checkpoints import checkpoint
from onebit.cli.main import main, make_parser, printable
from onebit.cli.train import recipe_of
from onebit.data.inputs import Images, Normalization
from onebit.data.loading.augmentation import evaluation_transform, resize_of
from onebit.nn.layers import binary_layers
from onebit.runtime import pictures
from runs import saved

VERBS = (
    "train",
    "eval",
    "pack",
    "run",
    "bench",
    "bench-train",
    "reproduce",
    "info",
    "export",
    "import",
    "list",
    "completion",
)


def run(capsys, *arguments):
    """(exit code, standard output, standard error) of one command."""
    try:
        code = main([str(a) for a in arguments])
    except SystemExit as stop:  # argparse leaves this way for --help and --version
        code = stop.code
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def refused(capsys, *arguments):
    """The one error line of a command that must end with exit code 2."""
    code, out, err = run(capsys, *arguments)
    assert code == 2, (code, out, err)
    lines = [line for line in err.splitlines() if line.startswith("onebit: error: ")]
    assert len(lines) == 1 and "Traceback" not in err, err
    return lines[0]


def trained_content(model="resnet8", method="adabin"):
    torch.manual_seed(0)
    network = models.create(model, method, in_channels=1, image_size=8)
    digits = data.load("digits")
    return saved(network, list(digits.labels), inputs=digits.inputs)


@pytest.fixture
def ckpt(tmp_path):
    path = tmp_path / "net.ckpt"
    checkpoint.save(path, trained_content())
    return path


@pytest.fixture
def packed(ckpt, capsys):
    out = ckpt.with_suffix(".safetensors")
    assert run(capsys, "pack", ckpt, "--out", out)[0] == 0
    return out


@pytest.mark.parametrize("verb", VERBS)
def test_help_names_json_and_out(capsys, verb):
    code, out, _ = run(capsys, verb, "--help")
    assert code == 0 and "--json" in out and "--out" in out


def test_every_option_has_help():
    subparsers = make_parser()._subparsers._group_actions[0].choices
    for parser in [*subparsers.values(), *subparsers["bench"].first.values()]:
        for action in parser._actions:
            assert action.help, (parser.prog, action.dest)


def test_train_eval_pack_run_info(capsys, tmp_path):
    out = tmp_path / "run"
    code, text, _ = run(
        capsys,
        "train",
        "--data",
        "digits",
        "--model",
        "resnet8",
        "--epochs",
        "2",
        "--batch-size=64",
        "--out",
        out,
        "--json",
    )
    result = json.loads(text)
    assert code == 0 and result["epochs"] == 2
    described = json.loads((out / "recipe.json").read_text())
    assert described["recipe"]["batch_size"] == 64 and described["recipe"]["method"] == "adabin"

    code, text, _ = run(capsys, "eval", out / "last.ckpt", "--data", "digits", "--json")
    in_torch = json.loads(text)
    assert code == 0 and in_torch["examples"] == 360 and in_torch["runtime"] == "pytorch"
    assert in_torch["accuracy"] == pytest.approx(result["accuracy"], abs=0.01)

    file = tmp_path / "net.safetensors"
    code, text, _ = run(capsys, "pack", out / "last.ckpt", "--out", file, "--json")
    assert code == 0 and json.loads(text)["bytes"] == file.stat().st_size
    code, text, _ = run(capsys, "eval", file, "--data", "digits", "--json", "--out", tmp_path / "eval.json")
    in_engine = json.loads(text)
    assert code == 0 and in_engine["accuracy"] == pytest.approx(in_torch["accuracy"], abs=0.3)
    assert json.loads((tmp_path / "eval.json").read_text()) == in_engine

    code, text, _ = run(
        capsys,
        "pack",
        out / "last.ckpt",
        "--out",
        tmp_path / "int8.safetensors",
        "--int8",
        "--data",
        "digits",
        "--json",
    )
    in_bytes = json.loads(text)
    assert code == 0 and in_bytes["float32"]["accuracy"] == in_engine["accuracy"] and in_bytes["examples"] == 360
    assert in_bytes["accuracy"] == pytest.approx(in_engine["accuracy"], abs=3)
    code, text, _ = run(capsys, "pack", out / "last.ckpt", "--int8", "--data", "digits", "--limit", "36")
    assert code == 0 and "in 8 bits, accuracy" in text and "on 36 of 360 examples" in text

    pictures = tmp_path / "pictures" / "inner"
    pictures.mkdir(parents=True)
    digits = data.load("digits")
    batch = next(iter(digits.test.evaluation_batches(2)))
    for index, pixels in enumerate(digits.test.images[:2]):
        Image.fromarray(pixels[:, :, 0].numpy()).save(pictures / f"{index}.png")
    code, text, _ = run(capsys, "run", file, pictures.parent, "--top", "3", "--json")
    rows = json.loads(text)["images"]
    assert code == 0 and len(rows) == 2 and len(rows[0]["predictions"]) == 3
    network = checkpoint.load(out / "last.ckpt").network()
    with torch.inference_mode():
        scores = network(batch.inputs).softmax(1)
    for row, expected in zip(rows, scores, strict=True):
        assert row["predictions"][0]["label"] == str(int(expected.argmax()))
        assert row["predictions"][0]["score"] == pytest.approx(float(expected.max()), abs=1e-4)

    described = json.loads(run(capsys, "info", file, "--json")[1])
    assert described["binary_weights"] == sum(layer.weight.numel() for _, layer in binary_layers(network)), (
        "without the bits that fill up bytes"
    )
    for path, kind in ((file, "packed file"), (out / "last.ckpt", "checkpoint")):
        code, text, _ = run(capsys, "info", path, "--json")
        assert code == 0 and kind in json.loads(text)["kind"]


def test_a_run_is_not_overwritten(capsys, tmp_path, ckpt):
    (tmp_path / "last.ckpt").write_bytes(ckpt.read_bytes())
    line = refused(capsys, "train", "--data", "digits", "--model", "resnet8", "--out", tmp_path)
    assert "--resume" in line and (tmp_path / "last.ckpt").read_bytes() == ckpt.read_bytes()


def test_bench_checks_and_reports(capsys, packed):
    code, text, _ = run(capsys, "bench", packed, "--isa", "all", "--rounds", "2", "--json")
    rows = json.loads(text)["rows"]
    assert code == 0 and rows[0]["isa"] == "scalar"
    for row in rows:
        assert {"engine", "precision", "isa", "threads", "batch", "median_ms"} <= set(row) and row["median_ms"] > 0


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("train", "missing.toml"), "missing.toml"),
        (("train", "--epochs", "many"), "epochs"),
        (("train", "--epochs", "0"), "epochs"),
        (("train", "--no-such-key", "1"), "no"),
        (("train", "--data", "cifar10", "--root", "no/such/folder"), "--root"),
        (("train", "--data", "cifar11"), "cifar11"),
        (("train", "--data", "digits", "--model", "resnet8", "--method", "adabon"), "adabon"),
        (("train", "--data", "digits", "--model", "resnet8", "--options", '{"variant": "papre"}'), "papre"),
        (("train", "--data", "digits", "--model", "resnet8", "--options", '{"varant": "paper"}'), "varant"),
        (("train", "--data", "digits", "--model", "resnet8", "--structure", '{"block": "dense"}'), "dense"),
        (("train", "--data", "digits", "--model", "resnet8", "--batch-size", "5000"), "5000"),
        (("train", "--data", "digits", "--model", "resnet8", "--structure.norm_weight", "much"), "norm_weight"),
        (("train", "--data", "digits", "--model", "resnet8", "--structure", '{"head_norm": 2}'), "head_norm"),
        (("train", "--data", "digits", "--model", "resnet8", "--method", "rbnn", "--options.t_max", "0"), "t_max"),
        (
            ("train", "--data", "digits", "--model", "resnet8", "--method", "rbnn", "--options.rotate_until", "half"),
            "half",
        ),
        (("train", "--schedule", "step", "--step-milestones", "[30, 60]"), "not an epoch"),
        (("train", "--freeze", "[1, 2]"), "freeze = [1, 2] must be a list, each text"),
        (("train", "--seed", "20240101123456"), "2^32"),
        (
            ("train", "--data", "digits", "--model", "resnet8", "--distillation_last_weight", "0.1"),
            "distillation_last_weight = 0.1 without a teacher",
        ),
        (("train", "--distillation_last_weight", "2"), "distillation_last_weight = 2.0 must be in [0, 1)"),
        (("train", "--distillation_last_weight", "half"), "invalid float value: 'half'"),
        (("train", "--root", "data", "missing.toml"), "missing.toml"),
        (("eval", "no.ckpt"), "no.ckpt"),
        (("run", "no.safetensors", "x.png"), "no.safetensors"),
        (("import", "adabin-resnet21", "x"), "adabin-resnet21"),
        (("import", "adabin-resnet20", "no.th"), "no.th"),
        (("bench", "resnet21"), "resnet21"),
    ],
)
def test_bad_arguments(capsys, tmp_path, monkeypatch, arguments, says):
    monkeypatch.chdir(tmp_path)
    assert says in refused(capsys, *arguments)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("epoch = 3", "did you mean 'epochs'"),
        ('epochs = "three"', "epochs"),
        ("epochs = ", "TOML"),
        ('optimizer = "lion"', "lion"),
    ],
)
def test_bad_recipe_file(capsys, tmp_path, text, says):
    path = tmp_path / "recipe.toml"
    path.write_text(text + "\n")
    assert says in refused(capsys, "train", path, "--data", "digits")


def test_a_recipe_may_follow_options(tmp_path):
    path = tmp_path / "named.toml"
    path.write_text("epochs = 3\nmethod = 'xnor'\n")
    for arguments in (
        [str(path), "--resume", "--lr", "1"],
        ["--lr", "1", "--resume", str(path)],
        ["--download", str(path), "--resume", "--lr=1"],
    ):
        options = make_parser().parse_args(["train", *arguments])
        recipe, name = recipe_of(options)
        assert options.resume and name == "named"
        assert (recipe.epochs, recipe.method, recipe.lr) == (3, "xnor", 1)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("stem", ["stem"]),
        ("stem, *.bias", ["stem", "*.bias"]),
        ('["stem", "a,b"]', ["stem", "a,b"]),
        ("[ab]*,stem", ["[ab]*", "stem"]),
        ("", []),
    ],
)
def test_names_on_the_command_line(text, names):
    recipe, _ = recipe_of(make_parser().parse_args(["train", "--freeze", text]))
    assert recipe.freeze == names


def corrupt_files(tmp_path, ckpt, packed):
    """name -> bytes of files that are no checkpoint and no packed file, or damaged ones."""
    good_ckpt, good = ckpt.read_bytes(), packed.read_bytes()
    foreign = struct.pack("<Q", 2) + b"{}"
    return {
        "empty": b"",
        **{f"text from {first!r}": first.encode() + b"ccuracy 87\n" for first in "abestuqRQ.(0h"},
        "half a checkpoint": good_ckpt[: len(good_ckpt) // 2],
        "half a packed file": good[: len(good) // 2],
        "foreign safetensors": foreign,
        "tampered length": struct.pack("<Q", 2**60) + good[8:],
    }


@pytest.mark.parametrize("verb", ["eval", "info", "run", "pack", "bench", "import"])
def test_damaged_files(capsys, tmp_path, ckpt, packed, verb):
    for name, content in corrupt_files(tmp_path, ckpt, packed).items():
        path = tmp_path / "damaged"
        path.write_bytes(content)
        extra = {"run": [path], "eval": ["--data", "digits"]}.get(verb, [])
        before = ["adabin-resnet20"] if verb == "import" else []
        out = ["--out", tmp_path / "out"] if verb in ("pack", "import") else []
        line = refused(capsys, verb, *before, path, *extra, *out)
        assert "damaged" in line, (name, line)
        assert not (tmp_path / "out").exists()


def test_a_pickle_is_not_executed(capsys, tmp_path):
    class Attack:
        def __reduce__(self):
            return (open, (str(tmp_path / "executed"), "w"))

    path = tmp_path / "attack.ckpt"
    torch.save({"model": Attack(), "config": {}}, path)
    refused(capsys, "info", path)
    assert not (tmp_path / "executed").exists()


def test_checkpoint_of_another_architecture(capsys, tmp_path):
    content = trained_content()
    content.config = {**content.config, "name": "resnet20"}
    checkpoint.save(tmp_path / "a.ckpt", content)
    assert "does not fit" in refused(capsys, "eval", tmp_path / "a.ckpt", "--data", "digits")
    content.config = {"surprise": 1}
    checkpoint.save(tmp_path / "b.ckpt", content)
    refused(capsys, "pack", tmp_path / "b.ckpt", "--out", tmp_path / "b.safetensors")


def test_checkpoint_for_other_data(capsys, tmp_path):
    content = trained_content()
    network = models.create("resnet8", "adabin", in_channels=1, image_size=8, classes=3)
    checkpoint.save(
        tmp_path / "three.ckpt", dataclasses.replace(content, config=network.config, model=network.state_dict())
    )
    assert "3 classes" in refused(capsys, "eval", tmp_path / "three.ckpt", "--data", "digits")


def test_eval_takes_the_normalization_of_the_model(capsys, tmp_path):
    """As `onebit run` does, and not that of the data set."""
    test = data.load("digits").test
    labels, accuracies = test.targets.numpy(), []
    for mean, std in ((0.306, 0.377), (0.6, 0.1)):
        content = dataclasses.replace(trained_content(), inputs=Images(1, 8, Normalization((mean,), (std,))))
        paths = tmp_path / "net.ckpt", tmp_path / "net.safetensors"
        checkpoint.save(paths[0], content)
        assert run(capsys, "pack", paths[0], "--out", paths[1])[0] == 0
        expected = 100 * (runtime.load(paths[1])(test.images.numpy()).argmax(1) == labels).mean()
        for path in paths:
            code, out, _ = run(capsys, "eval", path, "--data", "digits", "--json")
            assert code == 0 and json.loads(out)["accuracy"] == pytest.approx(expected, abs=0.3)
        accuracies.append(expected)
    assert abs(accuracies[0] - accuracies[1]) > 1


def test_classes_in_another_order_are_refused(capsys, tmp_path):
    content = trained_content()
    content.task["labels"] = content.task["labels"][::-1]
    checkpoint.save(tmp_path / "net.ckpt", content)
    run(capsys, "pack", tmp_path / "net.ckpt")
    for name in ("net.ckpt", "net.safetensors"):
        assert "same order" in refused(capsys, "eval", tmp_path / name, "--data", "digits")


def test_options_without_effect_are_refused(capsys, ckpt, packed):
    for arguments, says in (
        (("eval", ckpt, "--data", "digits", "--isa", "scalar"), "--isa"),
        (("eval", ckpt, "--data", "digits", "--backend", "engine"), "--backend"),
        (("bench", packed, "--layers", "--threads", "2"), "--threads"),
        (("bench", packed, "--memory", "--require-idle"), "--require-idle"),
    ):
        assert says in refused(capsys, *arguments)


def test_results_go_to_files_only(capsys, tmp_path, packed):
    """A link is followed, a folder or a device never replaced; what cannot be written was printed."""
    (tmp_path / "link.json").symlink_to(tmp_path / "real.json")
    assert run(capsys, "info", packed, "--out", tmp_path / "link.json")[0] == 0
    assert (tmp_path / "link.json").is_symlink() and json.loads((tmp_path / "real.json").read_text())["model"]
    os.mkfifo(tmp_path / "pipe")
    for place in (tmp_path, tmp_path / "pipe", "."):
        code, out, err = run(capsys, "info", packed, "--out", place)
        assert code == 2 and "is not a file" in err and "binary weights" in out
    assert (tmp_path / "pipe").is_fifo()


@pytest.mark.parametrize(("reader", "code"), [("| true", "0"), ("> /dev/full", "2")])
def test_output_that_nobody_takes(tmp_path, packed, reader, code):
    """One line at most, and the result is in the file all the same."""
    command = f"{sys.executable} -m onebit info {packed} --out {tmp_path}/r.json {reader}; echo ${{PIPESTATUS[0]}} >&2"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60)
    *said, status = done.stderr.splitlines()
    assert status == code and len(said) == (code == "2"), done.stderr
    assert json.loads((tmp_path / "r.json").read_text())["kind"].startswith("packed")


def test_names_do_not_steer_the_terminal():
    assert printable("a\x1b]0;b\x07 \udce9\nc") == "a\\x1b]0;b\\x07 \\udce9\nc"


def test_photographs_are_cut_as_in_evaluation(tmp_path):
    """The resize and the crop of `onebit run` are those of the data sets of photographs."""
    network = models.create("imagenet_resnet18", "float", classes=2, image_size=64)
    onebit.pack(network, tmp_path / "net.safetensors", resize=resize_of(64))
    model = runtime.load(tmp_path / "net.safetensors")
    generator = np.random.default_rng(0)
    for size in ((427, 640), (101, 75), (90, 90), (73, 200)):
        picture = Image.fromarray(generator.integers(0, 256, (*size, 3), dtype=np.uint8))
        picture.save(tmp_path / "picture.png")
        expected = evaluation_transform(64)(picture).permute(1, 2, 0).numpy()
        np.testing.assert_array_equal(pictures.read(tmp_path / "picture.png", model), expected)


def test_images_that_cannot_be_read(capsys, tmp_path, packed):
    good = tmp_path / "good.png"
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(good)
    truncated = tmp_path / "truncated.png"
    truncated.write_bytes(good.read_bytes()[:40])
    assert "truncated.png" in refused(capsys, "run", packed, good, truncated)
    (tmp_path / "nothing").mkdir()
    assert "no image files" in refused(capsys, "run", packed, tmp_path / "nothing")
    assert "does not exist" in refused(capsys, "run", packed, tmp_path / "absent.png")


def folder_of_photographs(root, classes=("cat", "dog"), images=2):
    generator = np.random.default_rng(0)
    for split in ("train", "val"):
        for label in classes:
            (root / split / label).mkdir(parents=True)
            for index in range(images):
                pixels = generator.integers(0, 256, (40, 50, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(root / split / label / f"{index}.jpeg")


FOLDER = ("--data", "imagefolder", "--model", "resnet8", "--image-size", "16", "--batch-size", "2", "--epochs", "1")


def test_imagefolder_trains_and_names_bad_files(capsys, tmp_path):
    root = tmp_path / "photographs"
    folder_of_photographs(root)
    train = ("train", *FOLDER, "--root", root, "--workers", "0", "--json")
    code, out, err = run(capsys, *train, "--out", tmp_path / "good")
    assert code == 0, err
    code, out, _ = run(
        capsys, "eval", tmp_path / "good" / "last.ckpt", "--data", "imagefolder", "--root", root, "--json"
    )
    assert code == 0 and json.loads(out)["examples"] == 4

    photograph = root / "val" / "cat" / "0.jpeg"
    whole = photograph.read_bytes()
    photograph.write_bytes(whole[: len(whole) // 2])
    line = refused(capsys, "eval", tmp_path / "good" / "last.ckpt", "--data", "imagefolder", "--root", root)
    assert "0.jpeg" in line and "cannot be decoded" in line
    photograph.unlink()
    (root / "val" / "cat" / "1.jpeg").unlink()
    assert re.search("val.*cat", refused(capsys, *train, "--out", tmp_path / "empty"))
    assert "train" in refused(capsys, *train, "--root", tmp_path / "nowhere", "--out", tmp_path / "none")


def test_damaged_cifar(capsys, tmp_path):
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    (folder / "data_batch_1").write_bytes(b"not a batch")
    assert "cifar-10-batches-py" in refused(capsys, "train", "--data", "cifar10", "--root", tmp_path)
