"""The engine as WebAssembly on one thread, in node and in Chromium, beside ONNX Runtime Web on the full-precision parent.

    make web
    npm install --prefix build/peers onnxruntime-web
    PYTHONPATH=src python benchmarks/web.py --peers build/peers/node_modules/onnxruntime-web/dist

Prints the median milliseconds of an image in the quickest of five turns, and the range of the turns:
the machine may be shared. Contenders take turns, each in a process or page of its own; without `--peers` the engine runs
alone, in node alone if there is no Chromium. Weights are random; real-valued layers have 8 bits.
"""

import argparse
import functools
import http.server
import shutil
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))

import browser  # noqa: E402
from onebit.bench.networks import random_network  # noqa: E402
from onebit.bench.peers.onnxruntime import OnnxRuntime  # noqa: E402

MODELS = (("resnet20", 32), ("imagenet_resnet18", 224))
TURNS = 5
NODE = """
globalThis.get = async (path) => new Uint8Array(require("fs").readFileSync(path));
globalThis.ours = async (script) => [require(require("path").resolve(script)), require("./web/engine.js").Network];
globalThis.theirs = (folder) => import(require("path").resolve(folder, "ort.wasm.min.mjs"));
"""
PAGE = """
globalThis.get = async (path) => new Uint8Array(await (await fetch(`/${path}`)).arrayBuffer());
globalThis.theirs = (folder) => import(`/${folder}/ort.wasm.min.mjs`);
const script = (path) => new Promise((done) => {
  document.head.append(Object.assign(document.createElement("script"), {src: `/${path}`, onload: done}));
});
globalThis.ours = async (path) => {
  await script(path);
  await script("web/engine.js");
  return [createOnebit, Network];
};
"""
SHARED = """
async function median(seconds, call) {
  const times = [];
  const warm = performance.now() + 600 * seconds;
  while (performance.now() < warm) await call();
  const end = performance.now() + 1000 * seconds;
  while (performance.now() < end || times.length < 5) {
    const start = performance.now();
    await call();
    times.push(performance.now() - start);
  }
  return times.sort((a, b) => a - b)[times.length >> 1];
}
async function engine(script, model, isa, size) {
  const [create, Network] = await ours(script);
  const network = new Network(await create(), await get(model), isa);
  const data = Uint8Array.from({length: 3 * size * size}, (_, i) => (7919 * i) % 256);
  return median(1, () => network.run([{form: "bytes", data}]));
}
async function peer(folder, model, _, size) {
  const ort = await theirs(folder);
  Object.assign(ort.env.wasm, {numThreads: 1});
  const session = await ort.InferenceSession.create(await get(model), {executionProviders: ["wasm"]});
  const values = Float32Array.from({length: 3 * size * size}, (_, i) => ((7919 * i) % 256) / 64 - 2);
  const inputs = {inputs: new ort.Tensor("float32", values, [1, 3, size, size])};
  return median(1, () => session.run(inputs));
}
"""


def contenders(folder: Path, peers: Path | None, script: Path) -> dict[tuple[str, str], str]:
    """(network, contender) -> the JavaScript that measures it."""
    found = {}
    for name, size in MODELS:
        own = folder / name
        own.mkdir()
        packed, (_, parent) = random_network(name, "adabin", size, str(own), int8=True)
        for isa in ("scalar", "simd128"):
            found[name, f"onebit, {isa}"] = f"engine({[str(script), packed, isa, size]})"
        if peers:
            samples = [np.random.default_rng(i).normal(size=(1, 3, size, size)).astype(np.float32) for i in range(8)]
            for precision, path in OnnxRuntime(parent.eval(), samples, str(own)).paths.items():
                found[name, f"ONNX Runtime Web, {precision}"] = f"peer({[str(peers), path, '', size]})"
    return {key: call.replace("([", "(").replace("])", ")") for key, call in found.items()}


def in_node(call: str) -> float:
    code = f"{NODE}{SHARED}{call}.then((time) => {{ console.log(time); process.exit(0); }})"
    done = subprocess.run(["node", "-e", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return float(done.stdout.split()[-1])


def in_chromium(call: str, address: str) -> float:
    program: Any = shutil.which("chromium")
    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile,
        browser.opened(program, Path(profile)) as page,
    ):
        page.open(address)
        return page.value(f"(async () => {{ {PAGE}{SHARED} return {call}; }})()")


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *arguments: Any) -> None:
        pass


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", type=Path, help="the folder dist of onnxruntime-web, in the repository")
    peers = parser.parse_args().peers
    served = functools.partial(Quiet, directory=str(ROOT))
    build = ROOT / "build"
    with (
        tempfile.TemporaryDirectory(dir=build) as folder,
        http.server.ThreadingHTTPServer(("127.0.0.1", 0), served) as server,
    ):
        threading.Thread(target=server.serve_forever, daemon=True).start()
        (Path(folder) / "empty.html").write_text("<!doctype html>")
        address = f"http://127.0.0.1:{server.server_port}/{Path(folder).relative_to(ROOT)}/empty.html"
        calls = contenders(Path(folder).relative_to(ROOT), peers, Path("build/web/onebit.js"))
        hosts = {"node": in_node}
        if shutil.which("chromium"):
            hosts["Chromium"] = functools.partial(in_chromium, address=address)
        times: dict[tuple[str, str, str], list[float]] = {}
        for _ in range(TURNS):
            for (name, contender), call in calls.items():
                for host, measure in hosts.items():
                    times.setdefault((name, contender, host), []).append(measure(call))
        for (name, contender, host), found in times.items():
            print(f"{name:18} {contender:28} {host:9} {min(found):8.2f} ms  ({min(found):.2f}-{max(found):.2f})")
        server.shutdown()


if __name__ == "__main__":
    main()
