"""How well the out-of-distribution gate tells a folder's pictures from a cohort's."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bonetumor.cohort.record import Cohort, PatientRecord
from bonetumor.detection.yolo import YoloDetector
from bonetumor.domain.errors import BoneTumorError
from bonetumor.evaluation.classification import separation
from bonetumor.weights.bundle import Bundle
from bonetumor.worker.cohorts import load_images
from bonetumor.worker.loose import read_images


class Gate:
    """A bundle's gate, and how strange it finds the pictures of a folder."""

    def __init__(self, bundle: Bundle, folder: Path) -> None:
        self._detector = YoloDetector(bundle, device="cpu")
        self._strange: list[float] = []
        self._refused = 0
        for path in sorted(p for p in folder.rglob("*") if p.is_file()):
            try:
                self._strange += [self._detector.strangeness(i) for i in read_images(path)]
            except BoneTumorError:
                self._refused += 1  # refused by rule: no radiograph, or no image at all

    def figures(self, cohort: Cohort, patients: Sequence[PatientRecord]) -> dict[str, Any]:
        """The content of `out_of_distribution`, beside the pictures of these patients."""
        familiar = [
            self._detector.strangeness(image)
            for record in patients
            for _, image in load_images(cohort, record, [])
        ]
        return {
            "familiar": len(familiar),
            "strange": len(self._strange),
            "refused_by_rule": self._refused,
            "auroc": separation(self._strange, familiar),
            "strange_flagged": sum(s > 1 for s in self._strange),
            "familiar_flagged": sum(s > 1 for s in familiar),
        }
