"""Generated results before the validators: 0 errors. Seeds from 0 on.

dciodvfy sees every object, dcmpschk every presentation state, PixelMed every tenth report; and
every report with `make validate`, which takes minutes more.
"""

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from bonetumor.dicom.captures import result_captures
from bonetumor.dicom.document import encapsulated_pdf
from bonetumor.dicom.softcopy import presentation_states
from bonetumor.dicom.sr import structured_report
from bonetumor.domain.image import ClinicalImage, ImageReference
from kit import studies
from kit.results import result
from kit.servers import PARTS, need
from kit.validators import dciodvfy

# A thousand, and every one of them before PixelMed, in `make validate`.
RESULTS = int(os.environ.get("RESULTS", "150"))
PIXELMED_EVERY = int(os.environ.get("PIXELMED_EVERY", "10"))


def test_generated_results_have_no_error(tmp_path):
    base = studies.dataset(50, 320)
    del base.PixelData
    reports, states, files = [], [], []
    for seed in range(RESULTS):
        for one in _objects(seed, base):
            path = tmp_path / f"{seed}-{len(files)}.dcm"
            one.file_meta = FileMetaDataset()
            one.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
            one.save_as(path, enforce_file_format=True)
            files.append(path)
            {"SR": reports, "PR": states}.get(str(one.Modality), []).append(path)
    assert (len(reports), len(states) > 0.3 * RESULTS, len(files) > 2.5 * RESULTS) == (
        RESULTS,
        True,
        True,
    )
    with ThreadPoolExecutor(4) as pool:
        wrong = [said for said in pool.map(dciodvfy, files) if "Error" in said]
        assert wrong == []
        assert [s for s in pool.map(_dcmpschk, states) if "Test passed" not in s] == []
    assert _pixelmed(reports[::PIXELMED_EVERY]) == []


def _objects(seed: int, base):
    """Every kind of object of a result; of every fourth the picture too, which is large."""
    one = _on_one_frame(result(seed))
    keys = one.study.instances[0].keys
    base.StudyInstanceUID, base.SeriesInstanceUID = (
        keys.study_instance_uid,
        keys.series_instance_uid,
    )
    base.SOPInstanceUID, base.SOPClassUID = keys.sop_instance_uid, keys.sop_class_uid
    base.ImageLaterality = ["L", "R", "U", ""][seed % 4]
    yield structured_report(one, [base], three_d=bool(seed % 2))
    yield from presentation_states(one, [base])
    yield encapsulated_pdf(one, base, b"%PDF-1.4 " + bytes(seed % 2))
    if seed % 4 == 0:
        lesions = one.assessment.lesions
        reference = lesions[0].detection.image if lesions else _reference(keys)
        pixels = np.full((reference.rows, reference.columns), 90, np.uint8)
        yield from result_captures(one, [ClinicalImage(reference=reference, pixels=pixels)], [base])


def _reference(keys) -> ImageReference:
    return ImageReference(
        sop_instance_uid=keys.sop_instance_uid,
        sop_class_uid=keys.sop_class_uid,
        series_instance_uid=keys.series_instance_uid,
        frame_number=None,
        rows=100,
        columns=100,
    )


def _on_one_frame(one):
    lesions = tuple(
        replace(
            x, detection=replace(x.detection, image=replace(x.detection.image, frame_number=None))
        )
        for x in one.assessment.lesions
    )
    return replace(one, assessment=replace(one.assessment, lesions=lesions))


def _dcmpschk(path) -> str:
    done = subprocess.run(
        [need("dcmpschk"), str(path)], capture_output=True, text=True, check=False
    )
    return done.stdout + done.stderr


def _pixelmed(paths) -> list[str]:
    done = subprocess.run(
        [sys.executable, str(PARTS / "pixelmed.py"), *map(str, paths)],
        capture_output=True,
        text=True,
        check=True,
        timeout=2400,
    )
    said = json.loads(done.stdout.splitlines()[-1])
    assert len(said) == len(paths)
    return [
        text
        for text in said.values()
        if "Error" in text
        or "IOD validation complete" not in text
        or "Root Template TID_1500" not in text
    ]
