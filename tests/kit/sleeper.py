"""A worker of the queue gpu whose networks only sleep: all but the model, as a site runs it.

usage: python sleeper.py SECONDS [SOP_INSTANCE_UID]    an image that ends the process
"""

import os
import sys
import time
from types import SimpleNamespace

from bonetumor.domain.assessment import Algorithm
from bonetumor.domain.image import ClinicalImage
from bonetumor.service.ports import Findings


def sleeper(seconds: float, poison: str = "") -> tuple[str, ...]:
    """Arguments for Python."""
    return "-P", __file__, str(seconds), poison  # -P: the folder has modules named like packages


class Sleeping:
    """A model that sleeps for each image and finds nothing."""

    algorithm = Algorithm(
        name="sleep", version="1", bundle_version="1", bundle_sha256="0" * 64, training_data="-"
    )
    fusion = None

    def __init__(self, seconds: float, poison: str) -> None:
        self.seconds, self.poison = seconds, poison
        self.detector = self

    def detect(self, image: ClinicalImage) -> Findings:
        if image.reference.sop_instance_uid == self.poison:
            os.abort()
        time.sleep(self.seconds)
        return Findings(detections=(), out_of_distribution=False)

    def detect_all(self, images):
        return ((image, self.detect(image)) for image in images)


def main() -> None:
    seconds, poison = float(sys.argv[1]), sys.argv[2]
    # In the place of the networks, so that torch is not imported: that takes seconds, and tests
    # kill such workers every few.
    sys.modules["bonetumor.worker.thinking"] = SimpleNamespace(
        build_model=lambda _settings: Sleeping(seconds, poison), BundleSlides=lambda _bundle: None
    )
    from bonetumor.worker import processes
    from bonetumor.worker.log import start_logging
    from bonetumor.worker.settings import Settings

    settings = Settings()
    start_logging(settings.log_format, "sleeper")
    processes.work(settings, ["gpu"])


if __name__ == "__main__":
    main()
