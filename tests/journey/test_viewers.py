"""What a radiologist sees: our results in OHIF, in a real browser, over a real Orthanc.

Every box is compared with the detector's own, run without the plugin.
"""

from io import BytesIO

import httpx
import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.dataset import FileMetaDataset
from pynetdicom import AE, build_context

from bonetumor.dicom.presentation import present
from bonetumor.domain.progress import Content, DeliveryState, StudyState
from bonetumor.domain.uid import derived_uid
from bonetumor.weights.installed import synthetic_bundle
from bonetumor.worker.settings import Settings
from bonetumor.worker.thinking import build_model
from kit import studies, volumes
from kit.plugin import Plugin, storescu
from kit.servers import Orthanc, wait_until
from kit.viewer import Ohif, dwv

NUMBER = 8  # a tumour that is plain to see
BANNER_COLOUR = (255, 196, 0)


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    with Orthanc(tmp_path_factory.mktemp("archive"), dicomweb=True).up() as server:
        yield server


@pytest.fixture(scope="module")
def sent(tmp_path_factory, archive):
    """One study of each kind, walked to its end; its files and its Study Instance UID by kind."""
    folder = tmp_path_factory.mktemp("viewers")
    files = {
        "dx": studies.write(folder / "dx", NUMBER),
        "several": studies.write(folder / "several", 9, images=2),
        "ct": volumes.ct_series(folder / "ct", NUMBER),
        "frames": volumes.multi_frame(folder / "frames", NUMBER),
        "negative": volumes.negative(folder / "negative", NUMBER),
        "unreadable": studies.write(folder / "unreadable", 6),
    }
    broken = pydicom.dcmread(files["unreadable"][0])
    broken.PixelData = broken.PixelData[: len(broken.PixelData) // 2]
    broken.save_as(files["unreadable"][0], enforce_file_format=True)
    uids = {kind: str(pydicom.dcmread(paths[0]).StudyInstanceUID) for kind, paths in files.items()}
    plugin = Plugin(
        folder / "plugin",
        archive=archive,
        BONETUMOR_DESTINATIONS=_destinations(archive),
        BONETUMOR_ARCHIVE__ASK="false",
    )
    with plugin.up():
        for kind, paths in files.items():
            if kind != "unreadable":
                storescu(archive.port, *paths, ae_title="ORTHANC")
            storescu(plugin.port, *paths)
        for kind, uid in uids.items():
            wanted = StudyState.FAILED if kind == "unreadable" else StudyState.DONE
            assert plugin.wait(uid, seconds=240) is wanted, (kind, plugin.problem(uid))
        wait_until(
            lambda: _notices(plugin, uids["unreadable"]) == [DeliveryState.CONFIRMED], 60, "notice"
        )
    return files, uids


def _destinations(archive) -> str:
    return (
        f'[{{"name": "pacs", "host": "127.0.0.1", "port": {archive.port}, '
        '"ae_title": "ORTHANC", "results": ["sr", "sc", "gsps", "pdf"]}]'
    )


def _notices(plugin, uid):
    return [d.state for d in plugin.ledger.deliveries(uid) if d.content is Content.NOTICE]


@pytest.fixture(scope="module")
def viewer(archive):
    with Ohif(archive) as server:
        yield server


@pytest.fixture(scope="module")
def boxes(sent):
    """The detector's own boxes of each study: of a volume those of the key slice."""
    model = build_model(Settings(model={"bundle": synthetic_bundle()}))
    return {kind: _boxes(model, kind, paths) for kind, paths in sent[0].items() if kind in DRAWN}


DRAWN = ("dx", "several", "ct", "frames")


def _boxes(model, kind, paths):
    found = [
        (detection, image)
        for path in paths
        for image in present(pydicom.dcmread(path))
        for detection in model.detector.detect(image).detections
    ]
    assert found, f"{kind}: the phantom shows a tumour that the detector finds"
    if kind == "ct":  # equal images: the first is the key
        first = min((image.reference.sop_instance_uid for _, image in found))
        found = [(d, i) for d, i in found if i.reference.sop_instance_uid == first]
    return [
        {
            "sop": detection.image.sop_instance_uid,
            "frame": detection.image.frame_number,
            "box": list(detection.box.as_tuple()),
            "text": [f"{round(100 * detection.score, 2):.2f}"],
        }
        for detection, _ in found
    ]


@pytest.mark.parametrize("kind", [k for k in DRAWN if k != "several"])
def test_every_box_of_the_detector_is_drawn_in_its_place_with_its_text(
    kind, sent, viewer, archive, boxes, tmp_path
):
    study = sent[1][kind]
    [report] = [pydicom.dcmread(BytesIO(b)) for b in archive.structured_reports(study)]
    seen = viewer.look(tmp_path, study, report.SeriesInstanceUID, boxes[kind])
    assert [b["shown"] for b in seen["boxes"]] == [True] * len(boxes[kind]), seen
    assert max(b["off"] for b in seen["boxes"]) <= 2, seen
    assert all(b["text"] for b in seen["boxes"]), seen["texts"]


def test_tracking_is_continued_over_every_image(sent, viewer, archive, boxes, tmp_path):
    """OHIF's arrows leave an image only once the radiologist has said Yes to that question."""
    study = sent[1]["several"]
    assert len({b["sop"] for b in boxes["several"]}) == 2
    [report] = [pydicom.dcmread(BytesIO(b)) for b in archive.structured_reports(study)]
    seen = viewer.look(
        tmp_path, study, report.SeriesInstanceUID, boxes["several"], **{"continue": True}
    )
    assert [b["shown"] for b in seen["boxes"]] == [True] * len(boxes["several"]), seen
    assert max(b["off"] for b in seen["boxes"]) <= 2, seen
    assert len(seen["measurements"]) == len(boxes["several"])
    assert all("AI result, not for primary diagnosis" in m for m in seen["measurements"]), seen


@pytest.mark.parametrize("kind", ["dx", "several", "ct"])
def test_dwv_draws_every_box_of_an_image_and_labels_it(kind, sent, archive, boxes, tmp_path):
    paths, uids = sent
    shown = [b for b in boxes[kind] if b["sop"] == boxes[kind][0]["sop"]]
    image = {str(pydicom.dcmread(p).SOPInstanceUID): p for p in paths[kind]}[shown[0]["sop"]]
    report = tmp_path / "report.dcm"
    report.write_bytes(archive.structured_reports(uids[kind])[0])
    seen = dwv(tmp_path, [image], report)
    shapes = [s for s in seen["shapes"] if s["visible"]]
    wanted = [_on_canvas(b["box"], pydicom.dcmread(image), seen["side"]) for b in shown]
    assert [s["kind"] for s in shapes] == ["Rect"] * len(wanted), seen
    assert np.allclose(sorted(s["rectangle"] for s in shapes), sorted(wanted), atol=2), seen
    assert all(s["label"].startswith("Lesion ") for s in shapes), seen


def _on_canvas(box, image, side):
    """Where a viewer that fits the whole image into a square shows pixel edges of it."""
    height, width = (
        n * s for n, s in zip((image.Rows, image.Columns), _spacing(image), strict=True)
    )
    scale = side / max(height, width)
    left, top = (side - width * scale) / 2, (side - height * scale) / 2
    x, y = scale * _spacing(image)[1], scale * _spacing(image)[0]
    return [left + box[0] * x, top + box[1] * y, left + box[2] * x, top + box[3] * y]


def _spacing(image):
    return [
        float(s) for s in image.get("PixelSpacing") or image.get("ImagerPixelSpacing") or (1, 1)
    ]


@pytest.mark.parametrize("spoil", ["a box shifted by 15 px", "no tracking UID"])
def test_the_exam_notices_what_is_wrong(spoil, sent, viewer, archive, boxes, tmp_path):
    """A spoilt copy of the report, in a series of its own, must not pass."""
    study = sent[1]["dx"]
    report = pydicom.dcmread(BytesIO(archive.structured_reports(study)[0]))
    _spoil(report, spoil)
    report.SeriesInstanceUID = derived_uid("test", spoil, "series")
    report.SOPInstanceUID = derived_uid("test", spoil)
    _store(archive, report)
    seen = viewer.look(tmp_path, study, report.SeriesInstanceUID, boxes["dx"], seconds=8)
    assert not all(b["shown"] and b["text"] and (b["off"] or 0) <= 2 for b in seen["boxes"]), seen
    httpx.delete(f"http://127.0.0.1:{archive.http}/instances/{_orthanc_id(archive, report)}")


@pytest.mark.parametrize("kind", ["dx", "negative", "unreadable"])
def test_pictures_show_their_banner(kind, sent, viewer, archive, tmp_path):
    found = _instances(archive, sent[1][kind], "OT")
    assert len(found) == 1
    sop, series = found[0]

    def is_shown() -> bool:
        viewer.look(tmp_path, sent[1][kind], series, [], sop=sop)
        shown = np.asarray(Image.open(tmp_path / "seen.png").convert("RGB")).astype(int)
        is_banner = (np.abs(shown - BANNER_COLOUR) < 40).all(axis=2)
        return is_banner.sum() > 3000

    # The viewer says which image it shows before it has drawn it.
    wait_until(is_shown, 15, "the banner's ground")


def test_every_image_with_a_box_has_its_picture(sent, archive, boxes):
    assert len(_instances(archive, sent[1]["several"], "OT")) == 2
    assert len(_instances(archive, sent[1]["ct"], "OT")) == 1


def test_the_page_is_shown(sent, viewer, archive, tmp_path):
    [(sop, series)] = _instances(archive, sent[1]["dx"], "DOC")
    seen = viewer.look(tmp_path, sent[1]["dx"], series, [], sop=sop)
    assert any(seen["documents"]), seen


def _instances(archive, study, modality):
    asked = {"Level": "Instance", "Query": {"StudyInstanceUID": study, "Modality": modality}}
    found = httpx.post(
        f"http://127.0.0.1:{archive.http}/tools/find", json={**asked, "Expand": True}, timeout=30
    ).json()
    tags = [archive.get(f"/instances/{one['ID']}/simplified-tags") for one in found]
    return [
        (t["SOPInstanceUID"], t["SeriesInstanceUID"])
        for t in tags
        if t.get("Manufacturer") == "bonetumor project"
    ]


def _orthanc_id(archive, report):
    query = {"SOPInstanceUID": report.SOPInstanceUID}
    [found] = httpx.post(
        f"http://127.0.0.1:{archive.http}/tools/find",
        json={"Level": "Instance", "Query": query},
        timeout=30,
    ).json()
    return found


def _store(archive, report):
    report.file_meta = FileMetaDataset()
    report.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1"
    entity = AE(ae_title="TESTER")
    entity.requested_contexts = [build_context(report.SOPClassUID, "1.2.840.10008.1.2.1")]
    association = entity.associate("127.0.0.1", archive.port, ae_title="ORTHANC")
    assert association.send_c_store(report).Status == 0x0000
    association.release()


def _spoil(report, how) -> None:
    for group in _groups(report):
        if how == "no tracking UID":
            group.ContentSequence = [
                c
                for c in group.ContentSequence
                if c.ConceptNameCodeSequence[0].CodeValue != "112040"
            ]
        for item in group.ContentSequence:
            if item.ValueType == "SCOORD" and how != "no tracking UID":
                item.GraphicData = [float(v) + 15 for v in item.GraphicData]


def _groups(item):
    for child in item.get("ContentSequence", []):
        if child.ValueType == "CONTAINER" and child.get("ConceptNameCodeSequence"):
            if child.ConceptNameCodeSequence[0].CodeValue == "125007":
                yield child
            yield from _groups(child)
