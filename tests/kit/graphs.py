"""Report graphs of results of any shape."""

from bonetumor.fhir.graph import Anchors, Places, transaction
from bonetumor.fhir.report import graph
from bonetumor.picture.illustration import Illustration

ANCHORS = Anchors(organization="Organization/1", device="Device/1", imaging_study="ImagingStudy/1")


EARLIER = {"resourceType": "DiagnosticReport", "id": "7", "meta": {"versionId": "2"}}
PICTURE = Illustration(png=b"\x89PNG", pdf=b"%PDF-1.4")


def report_bundle(one, earlier=None):
    places = Places(one.assessment.run_key)
    return transaction(places, graph(one, ANCHORS, PICTURE, places, earlier))
