"""Which image a class is read from, and when a study is unlike what the model knows."""

import numpy as np
import pytest

from bonetumor.domain.image import BoundingBox, ClinicalImage, ImageReference
from bonetumor.domain.lesion import Detection
from bonetumor.service.assess import look
from bonetumor.service.ports import Findings

BOX = BoundingBox(x0=1, y0=1, x1=3, y1=3)


class Said:
    """A model whose detector says what was written down for each image."""

    def __init__(self, *findings):
        self.detector = self
        self.findings = findings

    def detect_all(self, images):
        yield from zip(images, self.findings, strict=True)


def image(number):
    reference = ImageReference(
        sop_instance_uid=f"1.{number}",
        sop_class_uid="1.2.840.10008.5.1.4.1.1.1",
        series_instance_uid="1.9",
        frame_number=None,
        rows=4,
        columns=4,
    )
    return ClinicalImage(reference=reference, pixels=np.zeros((4, 4), np.uint8))


def looked(*told):
    """`told`: for each image whether it is strange, and the scores of its boxes."""
    images = [image(n) for n in range(len(told))]
    findings = [
        Findings(
            detections=tuple(Detection(image=i.reference, box=BOX, score=s) for s in scores),
            out_of_distribution=strange,
            note="strange" if strange else "",
        )
        for i, (strange, scores) in zip(images, told, strict=True)
    ]
    return look(images, Said(*findings)), images


@pytest.mark.parametrize(
    ("told", "best", "is_strange"),
    [
        ([(False, [0.3]), (False, [0.2, 0.8])], 1, False),
        ([(True, [0.9]), (False, [0.4])], 1, False),
        ([(True, [0.9]), (False, [])], 0, True),  # slices with a box, and a scanned sheet
        ([(True, [0.2]), (True, [0.6])], 1, True),
        ([(True, []), (False, [])], None, False),
        ([(True, []), (True, [])], None, True),
        ([(False, [0.5]), (False, [0.5])], 0, False),
        ([], None, False),
    ],
)
def test_the_class_is_read_where_the_model_knows_its_way(told, best, is_strange):
    found, images = looked(*told)
    assert found.best is (None if best is None else images[best])
    assert found.out_of_distribution is is_strange
    assert len(found.detections) == sum(len(scores) for _, scores in told)
    if best is not None:
        assert found.surest.score == max(told[best][1])
        assert found.surest.image is images[best].reference
    assert found.notes == (("strange",) if any(strange for strange, _ in told) else ())
