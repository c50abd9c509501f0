"""Whether probabilities say how often a classifier is right: the expected calibration error.

The probability c_i that the network gives its answer to example i is its confidence. Examples are sorted by it into 15 bins of
equal width, [0, 1/15), [1/15, 2/15), ..., [14/15, 1]. With n_b examples in bin b, their mean confidence conf_b, and acc_b, the
share of them whose answer is right (Guo et al. 2017, eq. 3 to 5; the bins are Naeini et al. 2015),

    ECE = sum_b n_b / n |acc_b - conf_b|
"""

from typing import Any

import numpy as np

BINS = 15


class Calibration:
    """The sums over the examples so far."""

    def __init__(self) -> None:
        self.counts, self.right = np.zeros(BINS, np.int64), np.zeros(BINS, np.int64)
        self.confidence = np.zeros(BINS)

    def update(self, probabilities: np.ndarray, targets: np.ndarray) -> None:
        """probabilities (B, classes), of which each row sums to 1; targets (B,), the numbers of the right classes."""
        best = probabilities.argmax(axis=1)  # (B,)
        confidence = np.take_along_axis(probabilities, best[:, None], axis=1)[:, 0].astype(np.float64)  # (B,)
        bins = np.clip(np.floor(confidence * BINS).astype(np.int64), 0, BINS - 1)
        self.counts += np.bincount(bins, minlength=BINS)
        self.right += np.bincount(bins, weights=best == targets, minlength=BINS).astype(np.int64)
        self.confidence += np.bincount(bins, weights=confidence, minlength=BINS)

    def record(self) -> dict[str, Any]:
        """{"ece": in percent, "bins": [{"from", "to", "examples", "accuracy", "confidence"}, ...]}, all but the examples in
        percent; accuracy and confidence of a bin without examples are None, and ece where there are none at all."""
        filled, total = self.counts > 0, int(self.counts.sum())
        counts = np.maximum(self.counts, 1)
        accuracy, confidence = 100 * self.right / counts, 100 * self.confidence / counts  # (BINS,)
        error = float((self.counts * np.abs(accuracy - confidence)).sum()) / max(total, 1)
        bins = [
            {
                "from": round(100 * place / BINS, 4),
                "to": round(100 * (place + 1) / BINS, 4),
                "examples": int(self.counts[place]),
                "accuracy": round(float(accuracy[place]), 4) if filled[place] else None,
                "confidence": round(float(confidence[place]), 4) if filled[place] else None,
            }
            for place in range(BINS)
        ]
        return {"ece": round(error, 4) if total else None, "bins": bins}


def calibration(probabilities: np.ndarray, targets: np.ndarray) -> dict[str, Any]:
    """`Calibration.record` of probabilities (N, classes) and targets (N,)."""
    sums = Calibration()
    sums.update(probabilities, targets)
    return sums.record()
