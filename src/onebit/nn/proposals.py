"""The first stage's answer of a two-stage detector: the boxes that its second stage looks at (Ren et al. 2015).

Of each level the best logits, their boxes decoded, clipped to the image, small ones left out, then non-maximum suppression within
the level; of all levels together the best, in the order of their logits, as torchvision's RegionProposalNetwork does it; here the
image is square, and as many rows as asked for come out, those that are none all 0: what a packed file computes as one operator.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.rpn import RegionProposalNetwork
from torchvision.ops import clip_boxes_to_image, nms, remove_small_boxes

OVERLAP = 0.7  # IoU above which the lower of two boxes goes
SMALLEST = 1e-3  # pixels: narrower or lower boxes are left out
TOLERANCE, ALIKE = 1e-4, 0.95  # of the image's size, of the rows: where two answers are the same


class Proposals(nn.Module):
    """Logits (B, N, 1) and offsets (B, N, 4) of all anchors -> boxes (B, most, 4), x1 y1 x2 y2 in pixels of the image.

    Anchors are in the order levels, rows y, columns x, shapes, as N counts them; centre (x step, y step). Offsets are

        dx = (cx - ax) / aw, dy = (cy - ay) / ah, dw = log(w / aw), dh = log(h / ah)

    of a box's centre and size and the anchor's, dw and dh no more than log(1000 / 16). No gradient goes through.

    image_size   height and width of the image in pixels
    grids        (height = width) of each level's map
    steps        pixels from one position of a level to the next
    sizes        side of a level's square anchor; the others have its area
    ratios       height / width of the shapes at each position
    candidates   of each level, at most so many enter the suppression
    most         boxes of an image
    """

    anchors: Tensor

    def __init__(
        self,
        image_size: int,
        grids: Sequence[int],
        steps: Sequence[int],
        sizes: Sequence[float],
        ratios: Sequence[float],
        candidates: int,
        most: int,
    ):
        super().__init__()
        self.image_size, self.grids, self.steps = image_size, tuple(grids), tuple(steps)
        self.candidates, self.most = candidates, most
        generator = AnchorGenerator(tuple((size,) for size in sizes), (tuple(ratios),) * len(self.grids))
        self.counts = [grid * grid * len(ratios) for grid in self.grids]  # anchors of each level
        strides = [[torch.tensor(step)] * 2 for step in self.steps]
        anchors = generator.grid_anchors([[grid, grid] for grid in self.grids], strides)
        self.cells = torch.stack(generator.cell_anchors)  # (levels, shapes, 4): around (0, 0)
        self.register_buffer("anchors", torch.cat(anchors), persistent=False)  # (N, 4)
        # Only its functions for training are used; it has no parameters.
        self.rules = RegionProposalNetwork(
            generator,
            nn.Identity(),
            fg_iou_thresh=0.7,
            bg_iou_thresh=0.3,
            batch_size_per_image=256,
            positive_fraction=0.5,
            pre_nms_top_n={"training": candidates, "testing": candidates},
            post_nms_top_n={"training": most, "testing": most},
            nms_thresh=OVERLAP,
        )

    @torch.no_grad()
    def forward(self, logits: Tensor, offsets: Tensor) -> Tensor:
        logits, offsets = logits[..., 0].float(), offsets.float()  # (B, N), (B, N, 4)
        found = offsets.new_zeros(len(logits), self.most, 4)
        for row, scores, codes in zip(found, logits, offsets):
            kept = self.best(scores, codes)
            row[: len(kept)] = kept
        return found

    def best(self, logits: Tensor, offsets: Tensor) -> Tensor:
        """Of one image: (N,), (N, 4) -> (n, 4), n <= most, the best first. Of equal logits the first anchor is the better one, which
        torchvision's function leaves open: binary layers give equal values wherever they see the same signs."""
        boxes, scores = [], []
        parts = (logits.split(self.counts), offsets.split(self.counts), self.anchors.split(self.counts))
        for score, codes, anchors in zip(*parts):
            score, places = score.sort(descending=True, stable=True)
            score, places = score[: self.candidates], places[: self.candidates]
            box = self.rules.box_coder.decode_single(codes[places], anchors[places])
            box = clip_boxes_to_image(box, (self.image_size, self.image_size))
            large = remove_small_boxes(box, SMALLEST)
            box, score = box[large], score[large]
            kept = nms(box, score, OVERLAP)[: self.most]
            boxes.append(box[kept])
            scores.append(score[kept])
        order = torch.cat(scores).sort(descending=True, stable=True).indices[: self.most]
        return torch.cat(boxes)[order]

    def agrees(self, found: Tensor, expected: Tensor) -> bool:
        """Whether two answers (B, most, 4) are the same but for what rounding may change: of two overlaps, or of two logits, that
        are nearly equal, each order is right, and then some boxes are others, and many are in other rows."""
        apart = torch.cdist(found.double(), expected.double(), p=torch.inf).amin(2)  # (B, most)
        return bool((apart <= TOLERANCE * self.image_size).double().mean() >= ALIKE)
