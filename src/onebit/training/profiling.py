"""`onebit train --profile`: where the time of a training step goes."""

import sys
from pathlib import Path
from types import TracebackType

import torch
from torch.profiler import ProfilerActivity, profile, schedule

from onebit import files

SKIPPED, WARMUP, STEPS = 5, 2, 10  # steps before the profile (compilation, allocation), profiler warm-up, recorded

# First match wins; names are those of PyTorch's profiler. Compiled kernels come first: they are named after all that was fused
# into them and after what reads their result, "convolution_backward" for one.
KINDS = (
    ("compiled kernels (elementwise, reductions)", ("cpp_fused", "triton_", "CompiledFxGraph")),
    ("convolution, backward", ("convolution_backward",)),
    ("convolution, forward", ("convolution", "conv2d")),
    ("optimizer", ("Optimizer.", "_fused_", "_foreach_")),
    ("matrix products", ("mm", "linalg", "matmul")),
    ("copies and layout", ("copy_", "clone", "contiguous", "index", "empty", "resize_", "_to_copy")),
    ("batch norm", ("batch_norm",)),
)


def kind_of(name: str) -> str:
    """The row of the table that an operator belongs to."""
    return next((kind for kind, parts in KINDS if any(part in name for part in parts)), "other operators")


class StepProfile:
    """Records STEPS training steps after the first SKIPPED ones into profile.txt and profile.json.gz of a run folder.

    profile.json.gz is a trace for chrome://tracing or Perfetto. Switched off, it costs nothing.
    """

    def __init__(self, folder: Path, on: bool):
        self.folder, self.written = folder, False
        self.profiler: profile | None = None
        if on:
            torch._inductor.config.cpp.enable_kernel_profile = True  # compiled kernels by name, where they run on a CPU
            activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * torch.cuda.is_available()
            plan = schedule(wait=SKIPPED, warmup=WARMUP, active=STEPS, repeat=1)
            self.profiler = profile(activities=activities, schedule=plan, on_trace_ready=self.write)

    def __enter__(self) -> "StepProfile":
        if self.profiler is not None:
            self.profiler.start()
        return self

    def step(self) -> None:
        """Called at the end of each training step."""
        if self.profiler is not None and not self.written:
            self.profiler.step()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.profiler is not None and not self.written:
            self.profiler.stop()
            if not self.written:
                needed = SKIPPED + WARMUP + STEPS
                print(f"--profile: the run ended before its {needed} steps; no profile is written", file=sys.stderr)

    def write(self, recorded: profile) -> None:
        if recorded.step_num < SKIPPED + WARMUP + STEPS:  # stopped in the middle
            return
        self.written = True
        temporary = self.folder / "profile.tmp.json.gz"
        recorded.export_chrome_trace(str(temporary))
        temporary.replace(self.folder / "profile.json.gz")
        files.write_text(self.folder / "profile.txt", table(recorded))


def table(recorded: profile) -> str:
    """Milliseconds and share of a step by kind of work, then by operator (time of its own, without what it calls)."""
    on_device = torch.cuda.is_available()
    rows = [
        (e.key, (e.self_device_time_total if on_device else e.self_cpu_time_total) / 1e3 / STEPS, e.count / STEPS)
        for e in recorded.key_averages()
        if not e.key.startswith("ProfilerStep")
    ]
    total = sum(ms for _, ms, _ in rows) or 1.0
    kinds: dict[str, float] = {}
    for name, ms, _ in rows:
        kinds[kind_of(name)] = kinds.get(kind_of(name), 0.0) + ms
    where = "GPU time" if on_device else "time on the calling thread"
    lines = [
        f"{where}, mean of {STEPS} training steps: {total:.2f} ms a step",
        "",
        f"{'ms':>10}  {'share':>6}  kind of work",
    ]
    lines += [f"{ms:10.2f}  {100 * ms / total:5.1f} %  {k}" for k, ms in sorted(kinds.items(), key=lambda r: -r[1])]
    lines += ["", f"{'ms':>10}  {'share':>6}  calls  operator"]
    lines += [
        f"{ms:10.2f}  {100 * ms / total:5.1f} %  {calls:5.0f}  {name[:110]}"
        for name, ms, calls in sorted(rows, key=lambda r: -r[1])[:30]
    ]
    return "\n".join(lines) + "\n"
