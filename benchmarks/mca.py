"""Cycles of the aarch64 kernels' inner loops as LLVM's machine code analyzer predicts them. Nothing is run.

    python benchmarks/mca.py

Each source is compiled by the cross compiler; of its loops, the one with most of the instructions that do the work is
analyzed, and of equal ones the shortest, which has no masks. Cortex-A76 is analyzed as Neoverse N1, its server version
with the same pipelines: under its own name LLVM has the ports of Cortex-A57, half the vector units. Needs Debian's
g++-aarch64-linux-gnu and llvm-16 or later.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
COMPILER = "aarch64-linux-gnu-g++"
FLAGS = [
    "-DONEBIT_ARM64=1",
    "-std=c++17",
    "-O3",
    "-ffp-contract=off",
    "-fno-math-errno",
    "-fno-trapping-math",
]  # CMakeLists.txt
PROCESSORS = {"Cortex-A76": "neoverse-n1", "Cortex-A55": "cortex-a55"}
ROUNDS = 1000


class Loop(NamedTuple):
    name: str
    source: str
    work: str  # the instruction that is counted
    macs: int  # multiply-accumulates for each of them
    flags: tuple[str, ...] = ()


# cnt counts 4 words of 32 signs. A carry of weight 16 (one cnt) stands for 16 times as many. sdot: 4 lanes of 4 products.
LOOPS = (
    Loop("1 bit: xor, cnt, add", "csrc/kernels/bconv/arm64_neon.cc", "cnt", 128, ("-fno-schedule-insns",)),
    Loop("1 bit, carry-save adders", "benchmarks/mca/carry_save.cc", "cnt", 16 * 128, ("-fno-schedule-insns",)),
    Loop("int8: sdot, 8 × 8", "benchmarks/mca/sdot.cc", "sdot", 16, ("-march=armv8.2-a+dotprod",)),
    Loop("float: fmla", "csrc/kernels/fconv/arm64_neon.cc", "fmla", 4),
)


def analyzer() -> str:
    """The newest llvm-mca, which must know Neoverse N1's ports."""
    names = [f"llvm-mca-{version}" for version in range(40, 15, -1)] + ["llvm-mca"]
    for name in filter(shutil.which, names):
        if "N1Unit" in analyze(name, "neoverse-n1", ["nop"]):
            return name
    sys.exit("no llvm-mca of LLVM 16 or later; on Debian: apt-get install llvm-16")


def analyze(name: str, processor: str, lines: list[str]) -> str:
    command = [name, "-mtriple=aarch64", f"-mcpu={processor}", "-mattr=+dotprod", f"-iterations={ROUNDS}"]
    return subprocess.run(command, input="\n".join(lines), check=True, capture_output=True, text=True).stdout


def inner_loop(loop: Loop) -> list[str]:
    """The instructions from a label to the branch back to it, without a label between them."""
    command = [COMPILER, *FLAGS, *loop.flags, "-I", str(ROOT / "csrc"), "-S", "-o", "-", str(ROOT / loop.source)]
    assembly = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    best: list[str] = []
    for label, block in re.findall(r"^(\.L\d+):\n((?:\t.*\n)+)", assembly, re.MULTILINE):
        lines = [line for line in block.splitlines() if not line.startswith("\t.")]
        back = [i for i, line in enumerate(lines) if re.fullmatch(rf"\t(b\.?..|cbnz\t.*,|tbnz\t.*,)\s+{label}", line)]
        found = lines[: back[0] + 1] if back else []
        best = max(best, found, key=lambda lines: (count(lines, loop.work), -len(lines)))
    return best


def count(lines: list[str], instruction: str) -> int:
    return sum(line.split()[0] == instruction for line in lines)


def main() -> None:
    if shutil.which(COMPILER) is None:
        sys.exit(f"no {COMPILER}; on Debian: apt-get install g++-aarch64-linux-gnu")
    name = analyzer()
    version = re.search(r"version (\S+)", subprocess.run([name, "--version"], capture_output=True, text=True).stdout)
    print(f"LLVM {version[1] if version else '?'}\n")
    print("| inner loop | MACs | processor | cycles | MACs/cycle | bound by ports alone |\n|---|---|---|---|---|---|")
    for loop in LOOPS:
        lines = inner_loop(loop)
        macs = loop.macs * count(lines, loop.work)
        for processor, model in PROCESSORS.items():
            report = analyze(name, model, lines)
            cycles = int(re.findall(r"Total Cycles:\s+(\d+)", report)[0]) / ROUNDS
            ports = float(re.findall(r"Block RThroughput:\s+([\d.]+)", report)[0])
            print(
                f"| {loop.name} | {macs} | {processor} | {cycles:.1f} | {macs / cycles:.1f} | "
                f"{ports:.1f} cycles, {macs / ports:.1f} |"
            )


if __name__ == "__main__":
    main()
