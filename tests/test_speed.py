"""What makes training steps fast: one graph, hand-written derivatives, batched rotations; the benchmark and the profile."""

import gzip
import json
import os
import platform
import subprocess
import sys

import pytest
import torch
import torch._dynamo.testing
import torch.nn.functional as F
from torch import nn
from torch._dynamo.backends.common import aot_autograd
from torch._functorch.aot_autograd import make_boxed_func

import runs
from onebit import methods, models, tasks
from onebit.bench.training import bench_training
from onebit.cli import main as cli
from onebit.cli.main import make_parser
from onebit.errors import UserError
from onebit.machine.heap import keep_freed_memory
from onebit.methods.rbnn import align, align_by_filter, factors
from onebit.models.blocks import binary_conv
from onebit.nn import layers
from onebit.nn.nonlinearities import Hardtanh, Maxout, RPReLU
from onebit.training.objective import Objective
from onebit.training.profiling import kind_of
from onebit.training.train import train

VARIANTS = [(name, {}) for name in methods.METHODS] + [
    ("rbnn", {"variant": "paper"}),
    ("rebnn", {"variant": "released"}),
    ("abcnet", {"weight_bases": 2, "activation_bases": 2}),
    ("dorefa", {"activation_bits": 2}),
    ("rbnn", {"rotation": "full"}),
    ("rbnn", {"rotation": "none", "surrogate": "fourier", "weight_surrogate": "exste"}),
    ("adabin", {"surrogate": {"name": "ste", "clip": 1.5}, "weight_surrogate": "reste"}),
]


def two_layers(method, **options):
    """Less to compile than a network of the table, which is built of the same."""
    row = methods.create(method, **options)
    convs = (binary_conv(row, 8, 8, 3, padding=1), binary_conv(row, 8, 12, 1, stride=2))
    binary = [layer for conv in convs for layer in (conv, nn.BatchNorm2d(conv.out_channels))]
    return nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), *binary, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(12, 10)
    )


def resnet8(method, **options):
    return models.create("resnet8", method, options=options)


@pytest.mark.parametrize(
    ("network", "method", "options"),
    [(resnet8, "float", {}), (resnet8, "rbnn", {}), *((two_layers, *variant) for variant in VARIANTS)],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
def test_a_step_is_one_graph_that_schedules_do_not_recompile(network, method, options):
    torch.manual_seed(0)
    network = network(method, **options).to(memory_format=torch.channels_last).double()
    layers.set_progress(network, 0.0)
    smoothed = tasks.create("classification", "0123456789", tasks.TaskOptions(label_smoothing=0.1))
    objective = Objective(network, smoothed)
    images = torch.randn(8, 3, 12, 12).double().contiguous(memory_format=torch.channels_last)
    labels = torch.arange(8)

    def gradients(step):
        network.zero_grad()
        loss, _ = step(images, labels)
        loss.backward()
        return loss.item(), [p.grad.clone() for p in network.parameters()]

    torch._dynamo.reset()
    graphs = torch._dynamo.testing.CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(objective, backend=graphs, fullgraph=True)
    counts = []
    for progress in (0.0, 1.0):
        layers.set_progress(network, progress)
        loss, plain = gradients(objective)
        again, traced = gradients(compiled)
        assert again == pytest.approx(loss, rel=1e-9)
        for ours, theirs in zip(traced, plain, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-7, atol=1e-9)
        layers.after_step(network)
        counts.append(graphs.frame_count)
    assert counts[0] == counts[1] > 0


@pytest.mark.parametrize("method", ["float", "xnor", "adabin", "rbnn", "rebnn"])
def test_gradients_of_maps_reach_convolutions_in_the_layout_of_the_maps(method):
    """Else compiled steps transpose them, twice for each convolution."""
    graphs = []

    def interpret(graph, inputs):
        return make_boxed_func(graph.forward)

    def keep(graph, inputs):
        graphs.append(graph)
        return interpret(graph, inputs)

    torch._dynamo.reset()
    network = models.create("resnet8", method).to(memory_format=torch.channels_last)
    backend = aot_autograd(fw_compiler=interpret, bw_compiler=keep)
    images = torch.randn(4, 3, 16, 16).contiguous(memory_format=torch.channels_last)
    objective = Objective(network, tasks.create("classification", "0123456789"))
    torch.compile(objective, backend=backend, fullgraph=True)(images, torch.arange(4))[0].backward()
    (graph,) = graphs
    nodes = [n for n in graph.graph.nodes if n.target is torch.ops.aten.convolution_backward.default]
    assert len(nodes) == 7
    for node in nodes:
        assert node.args[0].meta["val"].is_contiguous(memory_format=torch.channels_last), node.args[0]


@pytest.mark.parametrize(("filters", "n"), [(16, 144), (5, 288), (2, 720)])
def test_rotations_of_all_filters_at_once_equal_those_one_by_one(filters, n):
    torch.manual_seed(0)
    n1, n2 = factors(n)
    w = torch.randn(filters, n1, n2, dtype=torch.float64)
    r1, r2 = (nn.init.orthogonal_(torch.empty(k, k, dtype=torch.float64)) for k in (n1, n2))
    for ours, reference in zip(align(w, r1, r2), align_by_filter(w, r1, r2), strict=True):
        torch.testing.assert_close(ours, reference, rtol=0, atol=1e-9)


def plain_maxout(x, layer):
    positive, negative = (p.reshape(1, -1, 1, 1) for p in (layer.positive, layer.negative))
    return positive * F.relu(x) - negative * F.relu(-x)


def plain_rprelu(x, layer):
    shift_in, shift_out = (p.reshape(1, -1, 1, 1) for p in (layer.shift_in, layer.shift_out))
    return F.prelu(x + shift_in, layer.slope) + shift_out


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize(
    ("layer", "plain"),
    [
        (Hardtanh(), lambda x, layer: F.hardtanh(x)),
        (Maxout(6), plain_maxout),
        (RPReLU(6), plain_rprelu),
    ],
    ids=["hardtanh", "maxout", "rprelu"],
)
def test_hand_written_derivatives_equal_those_of_autograd(layer, plain, layout):
    torch.manual_seed(0)
    layer = layer.double().train()
    for parameter in layer.parameters():
        nn.init.normal_(parameter)
    x = (2 * torch.randn(3, 6, 5, 7, dtype=torch.float64)).contiguous(memory_format=layout).requires_grad_()
    variables = [x, *layer.parameters()]
    outputs = layer(x), plain(x, layer)
    torch.testing.assert_close(*outputs, rtol=0, atol=0)
    weights = torch.randn_like(outputs[0])
    ours, theirs = (torch.autograd.grad((weights * y).sum(), variables) for y in outputs)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)
    assert ours[0].is_contiguous(memory_format=layout)


def test_a_constant_sample_has_no_gradient_in_centred_activations():
    binarizer = methods.create("rbnn").activation(4)
    x = torch.cat([torch.full((1, 4, 3, 3), 0.3), torch.randn(1, 4, 3, 3)]).requires_grad_()
    y = binarizer(x)
    (gradient,) = torch.autograd.grad((y * torch.randn_like(y)).sum(), x)
    assert (y[0] == 1).all() and (gradient[0] == 0).all() and (gradient[1] != 0).any() and gradient.isfinite().all()


def test_the_benchmark_prints_rows(capsys):
    arguments = (
        "bench train --model resnet8 --methods xnor,rbnn --size 8 --batch 4 --rounds 2 --eager --device cpu --json"
    )
    assert cli.main(arguments.split()) == 0
    result = json.loads(capsys.readouterr().out)
    assert [row["method"] for row in result["rows"]] == ["float", "xnor", "rbnn"]
    assert result["rows"][0]["ratio"] == 1.0 and result["rows"][0]["device"] == "cpu"
    assert all(row["step_ms"] > 0 and row["model"] == "resnet8" for row in result["rows"])


@pytest.mark.parametrize("wrong", [False, True])
def test_the_benchmark_checks_the_compiled_network(wrong, monkeypatch):
    def compile_(module, **options):
        forward = torch.compile(module.forward, backend="aot_eager", **options)
        module.forward = (lambda *a: tuple(1.5 * t for t in forward(*a))) if wrong else forward

    monkeypatch.setattr(Objective, "compile", compile_)
    arguments = {"size": 8, "batch": 16, "rounds": 2, "device": "cpu"}
    if wrong:
        with pytest.raises(UserError, match="float: the compiled step 0 has the loss"):
            bench_training("resnet8", ["adabin"], **arguments)
    else:
        assert len(bench_training("resnet8", ["adabin"], **arguments)["rows"]) == 2


@pytest.mark.parametrize("arguments", ["--model nosuch", "--methods nosuch", "--device nosuch", "--device meta"])
def test_the_benchmark_refuses_unknown_names(arguments, capsys):
    assert cli.main(["bench", "train", *arguments.split()]) == 2
    assert arguments.split()[-1] in capsys.readouterr().err


def test_a_profile_says_where_the_time_goes(tmp_path):
    train(runs.digits(tmp_path, method="xnor"), quiet=True, profile=True)
    text = (tmp_path / "profile.txt").read_text()
    shares = {
        kind: float(line.split("%")[0].split()[-1])
        for line in text.splitlines()
        for kind in ("convolution, forward", "convolution, backward", "optimizer")
        if line.endswith(kind)
    }
    assert len(shares) == 3 and all(share > 0 for share in shares.values())
    trace = json.loads(gzip.decompress((tmp_path / "profile.json.gz").read_bytes()))
    assert any("convolution_backward" in event.get("name", "") for event in trace["traceEvents"])


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("graph_0_cpp_fused_convolution_backward_native_batch_norm_backward_10", "compiled kernels"),
        ("triton_poi_fused_convolution_backward_mul_3", "compiled kernels"),
        ("aten::convolution_backward", "convolution, backward"),
        ("aten::mkldnn_convolution", "convolution, forward"),
        ("Optimizer.step#SGD.step", "optimizer"),
    ],
)
def test_a_profile_counts_a_compiled_kernel_as_one_whatever_is_fused_into_it(name, kind):
    assert kind_of(name).startswith(kind)


def test_a_run_too_short_for_a_profile_says_so(tmp_path, capsys):
    train(runs.digits(tmp_path, epochs=1), quiet=True, profile=True)
    assert "before its 17 steps" in capsys.readouterr().err and not (tmp_path / "profile.txt").exists()
    assert make_parser().parse_args(["train", "--profile"]).profile


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc's heap is told to keep memory")
@pytest.mark.parametrize("keep", [True, False])
def test_memory_that_a_step_freed_costs_no_page_faults_in_the_next(keep):
    script = f"""
import resource
import torch
from onebit.machine.heap import keep_freed_memory

if {keep}:
    assert keep_freed_memory()
faults = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt
step = lambda: [torch.ones(10 << 20) for _ in range(10)]  # 400 MiB, 102,400 pages of 4 KiB
for _ in range(4):
    step()
before = faults()
step()
print(faults() - before)
"""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("MALLOC_")}
    command = [sys.executable, "-c", script]
    faults = int(subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout)
    assert faults < 1000 if keep else faults > 10_000


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc's heap is asked to give memory back")
def test_memory_in_pieces_goes_back_to_the_system():
    """Freed tensors between small ones that stay."""
    script = """
import torch
from onebit.machine.heap import give_back, keep_freed_memory

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096

keep_freed_memory()
torch.ones(1)
stays, goes = [], []
for _ in range(100):
    goes.append(torch.ones(1 << 19))  # 2 MiB
    stays.append(torch.ones(1 << 8))
full = resident()
goes.clear()
freed = resident()
assert give_back()
print(full - freed, freed - resident())
"""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("MALLOC_")}
    result = subprocess.run([sys.executable, "-c", script], env=environment, check=True, capture_output=True, text=True)
    kept, returned = map(int, result.stdout.split())
    assert kept < 20 << 20 and returned > 150 << 20


def test_malloc_settings_of_the_environment_are_left_alone(monkeypatch):
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "100000000")
    assert not keep_freed_memory()
