"""The library for C reads a detector's outputs as Python does."""

import sys
from pathlib import Path

import numpy as np
import pytest

import c_interface
from c_interface import Failure
from onebit.runtime import box_settings, boxes, load, native
from onebit.runtime import format as file_format

sys.path.append(str(Path(__file__).parent / "runtime"))
if not native.available():
    pytest.skip("the engine is not built", allow_module_level=True)

import test_runtime_hostile as version1
from nets import detector


@pytest.mark.parametrize("proposals", [False, True])
def test_boxes_are_those_of_python(library, tmp_path, proposals):
    file_format.write(tmp_path / "net", *detector(proposals=proposals))
    network, model = library.load(tmp_path / "net"), load(tmp_path / "net")
    assert network.about().answer == c_interface.ANSWERS.index("boxes") and network.about().labels == 3
    images = np.random.default_rng(0).integers(0, 256, (3, 24, 32, 3), dtype=np.uint8)
    outputs = network.run(images)
    record = box_settings.parse(model.task.settings, "settings")
    expected = boxes.by_numpy([output[:, :, 0] for output in outputs], record)  # (B, R, 1, C) -> (B, R, C)
    for place, image in enumerate(expected):
        own = [np.ascontiguousarray(output[place]) for output in outputs]
        found = network.boxes(own)
        rows = zip(image.boxes.tolist(), image.scores.tolist(), image.labels.tolist(), strict=True)
        assert found == [(*box, score, label) for box, score, label in rows] and len(found) > 5
        assert network.boxes(own, most=2) == found[:2]
    with pytest.raises(Failure, match="the network answers boxes: call onebit_boxes"):
        network.answer(np.zeros(4, np.float32), 1)
    with pytest.raises(Failure, match=r"the network has 2 outputs, got 1|the network has 3 outputs, got 1"):
        network.boxes(own[:1])
    with pytest.raises(Failure, match=r"output 'offsets': a batch has \d+ values, got 4"):
        network.boxes([own[0], own[1][:1, :, :4].copy(), *own[2:]])
    with pytest.raises(Failure, match="most must be from 1"):
        network.boxes(own, most=0)
    with pytest.raises(Failure, match="the network answers no boxes: call onebit_answer"):
        library.load(version1.GOOD).boxes(own[:1])
