"""The files that fuzzing starts from: valid ones, small ones, and those of the tests for hostile files."""

from __future__ import annotations

from nets import moving_net, random_net, text_net
from test_runtime_codes import MUTATIONS as CODES
from test_runtime_codes import parts as of_codes
from test_runtime_hostile import BYTES, MUTATIONS, parts, raw
from test_runtime_hostile_activations import MUTATIONS as ACTIVATIONS
from test_runtime_hostile_activations import parts as of_activations
from test_runtime_hostile_boxes import MUTATIONS as BOXES
from test_runtime_hostile_boxes import parts as of_boxes
from test_runtime_hostile_moves import MUTATIONS as MOVES
from test_runtime_hostile_moves import parts as of_moves
from test_runtime_hostile_several import MUTATIONS as MUTATIONS2
from test_runtime_hostile_several import parts as parts2
from test_runtime_hostile_several import raw as raw2
from test_runtime_hostile_texts import MUTATIONS as TEXTS
from test_runtime_regions import MUTATIONS as REGIONS
from test_runtime_regions import parts as of_regions

NETS = 60
MAX_NET = 8192  # bytes


def sources() -> dict[str, bytes]:
    """Files of both versions, by name."""
    found = {f"net{seed}": raw2(*random_net(seed)) for seed in range(NETS)}
    found |= {f"moving{seed}": raw2(*moving_net(seed)) for seed in range(NETS // 2)}
    found = {name: data for name, data in found.items() if len(data) < MAX_NET}
    found |= {f"bytes{index}": data for index, (data, _) in enumerate(BYTES.values())}
    for kind, source, write, changes in (
        ("version1", parts, raw, MUTATIONS),
        ("version2", parts2, raw2, MUTATIONS2),
        ("activations", of_activations, raw2, ACTIVATIONS),
        ("moves", of_moves, raw2, MOVES),
        ("codes", of_codes, raw2, CODES),
        ("boxes", of_boxes, raw2, BOXES),
        ("regions", of_regions, raw2, REGIONS),
        ("texts", text_net, raw2, TEXTS),
    ):
        found[kind] = write(*source())
        for index, (change, _) in enumerate(changes.values()):
            content = source()
            change(content)
            found[f"{kind}-{index}"] = write(*content)
    return found
