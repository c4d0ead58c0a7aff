"""The integration engineer's page says what the code does."""

import re
from pathlib import Path

from bonetumor.domain.labs import WEIGHED
from bonetumor.fhir.analytes import READINGS
from bonetumor.worker.settings_ehr import SmartSettings

PAGE = (Path(__file__).resolve().parents[2] / "deploy/ehr.md").read_text()


def test_the_table_of_analytes_is_the_codes():
    rows = re.findall(r"^\| `(\w+)` \| ([\d -]+) \| (\S+) \| ([\d.]*) ?\| (yes|no) \|$", PAGE, re.M)
    expected = {
        (
            str(analyte),
            frozenset(reading.loinc),
            reading.unit,
            f"{reading.molar_mass:.10g}" if reading.molar_mass else "",
            "yes" if analyte in WEIGHED else "no",
        )
        for analyte, reading in READINGS.items()
    }
    assert {(a, frozenset(c.split()), u, m, w) for a, c, u, m, w in rows} == expected


def test_every_scope_that_is_asked_for_is_named():
    scope = SmartSettings.model_fields["scope"].default
    assert " ".join(scope.split()) in " ".join(PAGE.split())
