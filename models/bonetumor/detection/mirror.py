"""A picture looked at as its mirror image too: what both looks agree on is surer."""

import numpy as np
from numpy.typing import NDArray

from bonetumor.detection.engine import Engine

_STRIDES_PX = (8, 16, 32)  # of YOLOv5's three levels; a level has an anchor for each of its cells


class MirroredEngine:
    """Runs an engine on squares and on their mirror images, and gives the mean of both answers.

    Limbs have a left and a right: training mirrors pictures, so that either look is as good. The
    summaries are those of the squares as they are.
    """

    def __init__(self, engine: Engine, side_px: int) -> None:
        self._engine = engine
        self._side_px = side_px
        self._places = _mirrored_places(side_px)

    @property
    def batch(self) -> int:
        """How many squares one pass takes."""
        return self._engine.batch

    def __call__(
        self, squares: NDArray[np.uint8]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """As `Engine` says."""
        looks = np.concatenate([squares, squares[:, :, ::-1]])
        (plain, mirrored), (summaries, _) = (np.split(a, 2) for a in self._engine(looks))
        back = mirrored[:, :, self._places]
        back[:, 0] = self._side_px - back[:, 0]  # centres; sizes and scores stay
        return np.float32(0.5) * (plain + back), summaries


def _mirrored_places(side_px: int) -> NDArray[np.intp]:
    """For each anchor, row by row of each level, that of the cell opposite in its row."""
    places, start = [], 0
    for stride in _STRIDES_PX:
        cells = side_px // stride
        level = np.arange(start, start + cells * cells).reshape(cells, cells)
        places.append(level[:, ::-1].ravel())
        start += cells * cells
    return np.concatenate(places)
