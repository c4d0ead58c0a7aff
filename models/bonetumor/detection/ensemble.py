"""Several networks that look at the same squares: what they agree on is surer."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from bonetumor.detection.engine import Engine

_LEAST_WEIGHT = 1e-9  # where no network sees anything, their boxes count alike


class EnsembleEngine:
    """Runs several engines of one architecture and gives the mean of their answers for each anchor:
    scores as they are, boxes weighed by score (deep ensembles: Lakshminarayanan et al., NeurIPS
    2017). The summaries are those of the first.
    """

    def __init__(self, engines: Sequence[Engine]) -> None:
        self._engines = engines

    @property
    def batch(self) -> int:
        """How many squares one pass takes."""
        return self._engines[0].batch

    def __call__(
        self, squares: NDArray[np.uint8]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """As `Engine` says."""
        predictions, summaries = zip(*(engine(squares) for engine in self._engines), strict=True)
        answers = np.stack(predictions)
        weights = answers[:, :, 4:] + np.float32(_LEAST_WEIGHT)
        boxes = (answers[:, :, :4] * weights).sum(axis=0) / weights.sum(axis=0)
        scores = answers[:, :, 4:].mean(axis=0)
        return np.concatenate([boxes, scores], axis=1), summaries[0]
