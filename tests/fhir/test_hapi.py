"""Report graphs through HAPI's strict parser: an R4 reader that is neither ours nor the server's.

The parser lies inside a Java library of the test dependencies; JPype runs it in its own process.
"""

import json
import subprocess
import sys
from importlib.metadata import files

import pytest

from bonetumor.fhir.document import document_reference
from bonetumor.fhir.report import device, imaging_study
from kit.graphs import EARLIER, PICTURE, report_bundle
from kit.results import result
from kit.servers import need

GRAPHS = 1000
_READ = """
import json, sys
import jpype
jpype.startJVM(classpath=[sys.argv[1]], convertStrings=True)
context = jpype.JClass("ca.uhn.fhir.context.FhirContext").forR4()
strict = jpype.JClass("ca.uhn.fhir.parser.StrictErrorHandler")()
parser = context.newJsonParser()
parser.setParserErrorHandler(strict)
problems, count = [], 0
for line in open(sys.argv[2]):
    count += 1
    try:
        again = parser.encodeResourceToString(parser.parseResource(line))
        assert json.loads(again)["resourceType"] == json.loads(line)["resourceType"]
    except Exception as error:
        problems.append(str(error).splitlines()[0])
print(json.dumps({"count": count, "problems": problems}))
"""


def _jar() -> str:
    need("java")
    [jar] = [f for f in files("pathling") if f.name.endswith("-all.jar")]
    return str(jar.locate())


def _read(tmp_path, resources) -> dict:
    path = tmp_path / "resources.ndjson"
    path.write_text("\n".join(json.dumps(r) for r in resources))
    ran = subprocess.run(
        [sys.executable, "-c", _READ, _jar(), str(path)],
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )
    return json.loads(ran.stdout.splitlines()[-1])


def test_a_strict_reader_finds_nothing_to_complain_of(tmp_path):
    made = []
    for seed in range(GRAPHS):
        one = result(seed)
        earlier = EARLIER if seed % 3 == 0 else None
        made += [report_bundle(one, earlier), imaging_study(one), device(one, "Organization/1")]
        made.append(document_reference(one, "Organization/1", PICTURE.pdf, earlier))
    said = _read(tmp_path, made)
    assert said["problems"] == []
    assert said["count"] == len(made) == 4 * GRAPHS


@pytest.mark.parametrize(
    "spoil",
    [
        lambda r: r.update(status="perhaps"),
        lambda r: r.update(colour="red"),
        lambda r: r.update(issued="yesterday"),
    ],
)
def test_the_strict_reader_can_say_no(tmp_path, spoil):
    report = next(
        e["resource"]
        for e in report_bundle(result(3))["entry"]
        if e["resource"]["resourceType"] == "DiagnosticReport"
    )
    spoil(report)
    assert len(_read(tmp_path, [report])["problems"]) == 1
