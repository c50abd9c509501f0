"""The files that fuzzing starts from: valid ones, small ones, and those of the tests for hostile files."""

from __future__ import annotations

from nets import random_net
from test_runtime_hostile import BYTES, MUTATIONS, parts, raw
from test_runtime_hostile_activations import MUTATIONS as MUTATIONS3
from test_runtime_hostile_activations import parts as parts3
from test_runtime_hostile_several import MUTATIONS as MUTATIONS2
from test_runtime_hostile_several import parts as parts2
from test_runtime_hostile_several import raw as raw2

NETS = 60
MAX_NET = 8192  # bytes


def sources() -> dict[str, bytes]:
    """Files of both versions, by name."""
    found = {f"net{seed}": raw2(*random_net(seed)) for seed in range(NETS)}
    found = {name: data for name, data in found.items() if len(data) < MAX_NET}
    found |= {f"bytes{index}": data for index, (data, _) in enumerate(BYTES.values())}
    kinds = (1, parts, raw, MUTATIONS), (2, parts2, raw2, MUTATIONS2), ("2-activations", parts3, raw2, MUTATIONS3)
    for version, source, write, changes in kinds:
        found[f"version{version}"] = write(*source())
        for index, (change, _) in enumerate(changes.values()):
            content = source()
            change(content)
            found[f"version{version}-{index}"] = write(*content)
    return found
