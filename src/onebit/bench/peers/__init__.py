"""The engines that `onebit bench --peers` times beside ours: they run the full-precision parent of the binary network.

A peer is one file and one line of PEERS. Its file imports the engine's own packages only in the functions that use them, so
that `versions` can say which are missing, and a process that measures memory loads the engine alone.
"""

from collections.abc import Sequence
from importlib import metadata
from importlib.util import find_spec

from onebit.bench.peers.peer import Peer
from onebit.errors import UserError
from onebit.machine import installation
from onebit.tables import Table

PEERS: Table[type[Peer]] = Table(
    "peer",
    {
        "torch": "onebit.bench.peers.torch:Eager",
        "torch-compile": "onebit.bench.peers.torch:Compiled",
        "onnxruntime": "onebit.bench.peers.onnxruntime:OnnxRuntime",
        "openvino": "onebit.bench.peers.openvino:OpenVino",
    },
)


def versions(names: Sequence[str]) -> dict[str, str]:
    """The engines' versions by peer. Raises UserError for an unknown name, and where a package is not installed."""
    for name in names:
        if missing := [package for package in PEERS[name].packages if find_spec(package) is None]:
            raise UserError(installation.missing(missing, f"--peers {name}"))
    return {name: metadata.version(PEERS[name].packages[0]) for name in names}
