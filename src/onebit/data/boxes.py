"""What is to be found in a picture: the targets of detection."""

import torch
from torch import Tensor


class Boxes:
    """The objects of one image.

    boxes       float32 (N, 4): x1, y1, x2, y2 in pixels of the network's input
    labels      int64 (N,): 0 is the first of the data set's labels; the background is none of them
    difficult   bool (N,): VOC's difficult, which scores count neither way; not among what is trained on
    crowd       bool (N,): COCO's iscrowd, likewise
    image       index of the image in its set

    No dataclass: Fabric would round the corners to the training's precision, as it does with all tensors that it knows the way to.
    """

    def __init__(self, boxes: Tensor, labels: Tensor, difficult: Tensor, crowd: Tensor, image: int):
        self.boxes, self.labels, self.difficult, self.crowd, self.image = boxes, labels, difficult, crowd, image

    def __len__(self) -> int:
        return len(self.labels)

    def to(self, device: torch.device) -> "Boxes":
        boxes, labels, difficult, crowd = (
            part.to(device, non_blocking=True) for part in (self.boxes, self.labels, self.difficult, self.crowd)
        )
        return Boxes(boxes, labels, difficult, crowd, self.image)
