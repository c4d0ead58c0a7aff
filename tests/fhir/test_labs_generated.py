"""Thousands of Observations with every oddity, against an oracle that shares no code with ours."""

import json
import math
import random
from collections import Counter
from datetime import UTC, datetime, timedelta

import httpx

from bonetumor.domain.labs import Analyte
from bonetumor.fhir.client import FhirClient
from bonetumor.fhir.labs import LabContext, LabWindow, read_panel

COUNT = 6000
NOW = datetime(2026, 1, 1, tzinfo=UTC)
CONTEXT = LabContext(
    window=LabWindow(before=timedelta(days=90), after=timedelta(days=30)), around=NOW
)

# Analyte, LOINC, usual values in the canonical unit, and ways to write it: text, UCUM code or
# none, and how many canonical units one of it is. Written down here from the molar masses.
_ENZYME = [("U/L", "U/L", 1), ("IU/L", None, 1), ("U/l", None, 1), ("µkat/L", "ukat/L", 60)]
_CELLS = [
    ("10*3/uL", "10*3/uL", 1),
    ("10^3/µL", None, 1),
    ("x10E3/uL", None, 1),
    ("G/l", None, 1),
    ("Gpt/l", None, 1),
    ("10*9/L", "10*9/L", 1),
    ("/µL", "/uL", 0.001),
]
TABLE = {
    Analyte.ALP: ("6768-6", (20, 1500), _ENZYME),
    Analyte.ALP_BONE: ("1777-2", (3, 200), _ENZYME),
    Analyte.LDH: ("14804-9", (90, 2000), _ENZYME),
    Analyte.CALCIUM: (
        "17861-6",
        (6, 16),
        [("mg/dL", "mg/dL", 1), ("mmol/l", "mmol/L", 4.0078), ("mEq/L", "meq/L", 2.0039)],
    ),
    Analyte.PHOSPHATE: ("14879-1", (1, 9), [("mg/dl", None, 1), ("mmol/L", "mmol/L", 3.0974)]),
    Analyte.CRP: ("1988-5", (0.2, 300), [("mg/L", "mg/L", 1), ("mg/dL", "mg/dL", 10)]),
    Analyte.ESR: ("30341-2", (1, 120), [("mm/h", "mm/h", 1), ("mm/hr", None, 1)]),
    Analyte.HEMOGLOBIN: (
        "718-7",
        (5, 19),
        [("g/dL", "g/dL", 1), ("g/l", "g/L", 0.1), ("mmol/L", "mmol/L", 1.6114)],
    ),
    Analyte.WBC: ("6690-2", (1, 60), _CELLS),
    Analyte.PLATELETS: ("26515-7", (20, 900), _CELLS),
    Analyte.NEUTROPHILS: ("751-8", (0.5, 40), _CELLS),
    Analyte.LYMPHOCYTES: ("731-0", (0.2, 30), _CELLS),
    Analyte.MONOCYTES: ("742-7", (0.1, 5), _CELLS),
    Analyte.ALBUMIN: ("1751-7", (1.5, 6), [("g/dL", "g/dL", 1), ("g/L", "g/L", 0.1)]),
    Analyte.CREATININE: (
        "14682-9",
        (0.3, 9),
        [("mg/dL", "mg/dL", 1), ("µmol/l", "umol/L", 0.011312)],
    ),
    Analyte.PTH: ("2731-8", (5, 900), [("pg/mL", "pg/mL", 1), ("pmol/L", "pmol/L", 9.425)]),
    Analyte.VITAMIN_D: (
        "1989-3",
        (4, 120),
        [("ng/mL", "ng/mL", 1), ("nmol/L", "nmol/L", 0.40064), ("ug/L", "ug/L", 1)],
    ),
    Analyte.URATE: ("3084-1", (1, 15), [("mg/dL", "mg/dL", 1), ("umol/L", "umol/L", 0.016811)]),
    Analyte.PSA: ("2857-1", (0.1, 400), [("ng/mL", "ng/mL", 1), ("ug/L", "ug/L", 1)]),
}


class Drawn:
    """One Observation, the truth behind it, and what must become of it."""

    def __init__(self, chance: random.Random, number: int) -> None:
        self.analyte = chance.choice(list(TABLE))
        code, (low, high), units = TABLE[self.analyte]
        self.text, self.ucum, self.factor = chance.choice(units)
        self.truth = math.exp(chance.uniform(math.log(low), math.log(high)))
        self.written = float(f"{self.truth / self.factor:.5g}")
        self.truth = self.written * self.factor
        self.must = "understood"
        self.comparator = None
        quantity = {"value": self.written, "unit": self.text}
        if self.ucum and chance.random() < 0.7:
            quantity |= {"system": "http://unitsofmeasure.org", "code": self.ucum}
        taken = NOW - timedelta(days=chance.uniform(0, 60))
        self.resource = {
            "resourceType": "Observation",
            "id": str(number),
            "status": "final",
            "code": {"coding": [{"system": "http://loinc.org", "code": code}]},
            "effectiveDateTime": taken.isoformat(),
            "valueQuantity": quantity,
        }
        chance.choice(ODDITIES)(self, chance)

    def value(self, **new) -> None:
        del self.resource["valueQuantity"]
        self.resource |= new


def plain(drawn, chance):
    pass


def comma(drawn, chance):
    drawn.written = float(f"{drawn.written:.2f}")
    drawn.truth = drawn.written * drawn.factor
    drawn.value(valueString=f"{drawn.written:.2f}".replace(".", ",") + f" {drawn.text}")


def bound(drawn, chance):
    drawn.comparator = chance.choice(["<", ">", "<=", ">="])
    drawn.resource["valueQuantity"]["comparator"] = drawn.comparator


def component(drawn, chance):
    inner = {k: drawn.resource.pop(k) for k in ("code", "valueQuantity")}
    other = {"code": {"coding": [{"system": "http://loinc.org", "code": "9999-9"}]}}
    drawn.resource |= {"code": {"text": "panel"}, "component": [other, inner]}


def own_system_as_well(drawn, chance):
    coding = {"system": "urn:hospital:lab", "code": "X", "display": "Prostate specific antigen"}
    drawn.resource["code"]["coding"].insert(0, coding)


def foreign_code_system_for_the_unit(drawn, chance):
    drawn.resource["valueQuantity"] |= {"system": "http://snomed.info/sct", "code": "258813002"}


def refused(drawn, chance):
    drawn.must = "refused"
    kind = chance.randrange(9)
    if kind == 0:
        drawn.resource["valueQuantity"] |= {"unit": "furlong", "code": "furlong"}
    elif kind == 1:
        drawn.resource["modifierExtension"] = [{"url": "urn:x", "valueBoolean": True}]
    elif kind == 2:
        drawn.value(valueRange={"low": {"value": 1}, "high": {"value": 2}})
    elif kind == 3:
        drawn.value(valueString="see comment")
    elif kind == 4:
        drawn.value(dataAbsentReason={"text": "not asked"})
    elif kind == 5:
        drawn.value(valueRatio={"numerator": {"value": 1}, "denominator": {"value": 40}})
    elif kind == 6:
        drawn.resource["effectiveDateTime"] = "next Tuesday"
    elif kind == 7:
        drawn.resource["valueQuantity"] = {"value": drawn.written}
    else:
        drawn.resource["status"] = "unknown"


def broken(drawn, chance):
    drawn.must = "refused"
    drawn.resource[chance.choice(["component", "referenceRange"])] = chance.choice([7, "x", [3]])
    if chance.random() < 0.3:
        drawn.resource["valueQuantity"] = "5"


def void(drawn, chance):
    drawn.must = "void"
    drawn.resource["status"] = chance.choice(["entered-in-error", "cancelled", "registered"])


def display_only(drawn, chance):
    drawn.must = "void"
    drawn.resource["code"] = {"coding": [{"display": "Calcium"}], "text": "LDH"}


def wrong_by_a_thousand(drawn, chance):
    """A count in /µL under the unit 10*3/µL, a haemoglobin in g/L under g/dL."""
    if drawn.analyte in {Analyte.WBC, Analyte.PLATELETS}:
        drawn.resource["valueQuantity"] = {"value": drawn.truth * 1000 + 5000, "code": "10*3/uL"}
        drawn.must = "refused"
    elif drawn.analyte is Analyte.HEMOGLOBIN:
        drawn.resource["valueQuantity"] = {"value": drawn.truth * 10, "code": "g/dL"}
        drawn.must = "refused"


def haemolysed(drawn, chance):
    coding = {"system": "http://snomed.info/sct", "code": "118128002"}
    drawn.resource["modifierExtension"] = [{"url": "urn:mii", "valueCoding": coding}]
    if drawn.analyte in {Analyte.LDH, Analyte.PHOSPHATE}:
        drawn.must = "refused"


def old(drawn, chance):
    drawn.must = "outside"
    drawn.resource["effectiveDateTime"] = "2024-05-01"


ODDITIES = [
    plain, plain, plain, comma, bound, component, own_system_as_well,
    foreign_code_system_for_the_unit, refused, broken, void, display_only, wrong_by_a_thousand,
    haemolysed, old,
]  # fmt: skip


def judge(drawn: Drawn) -> str:
    """What became of one Observation read alone."""
    panel = read_panel([drawn.resource], CONTEXT)
    if panel.results:
        [result] = panel.results
        right = (
            result.analyte is drawn.analyte
            and math.isclose(result.value, drawn.truth, rel_tol=2e-4)
            and result.comparator == drawn.comparator
        )
        return "understood" if right else "wrong"
    if panel.not_understood:
        return "refused"
    return "outside" if panel.outside_window else "void"


def test_no_value_is_ever_wrong_and_nothing_is_dropped_in_silence():
    chance = random.Random(20261123)
    table = Counter()
    for number in range(COUNT):
        drawn = Drawn(chance, number)
        became = judge(drawn)
        table[drawn.must, became] += 1
        assert became == drawn.must, json.dumps(drawn.resource)
    print(dict(table))
    assert table["understood", "understood"] > COUNT / 3
    assert table["refused", "refused"] > COUNT / 10


def test_a_bundle_with_one_broken_entry_yields_all_the_others():
    chance = random.Random(3)
    good = [Drawn(chance, n) for n in range(400)]
    good = [d.resource for d in good if d.must == "understood"]
    entries = [{"resource": r} for r in good]
    for bad in ([], "x", {"resource": 5}, {"resource": {"resourceType": 7}}, {"resource": None}):
        entries.insert(len(entries) // 2, bad)
    bundle = {"resourceType": "Bundle", "type": "searchset", "entry": entries}
    http = httpx.Client(transport=httpx.MockTransport(lambda _: httpx.Response(200, json=bundle)))
    client = FhirClient("http://ehr.test/fhir", http=http)
    assert list(client.search("Observation", {})) == good
    panel = read_panel(client.search("Observation", {}), CONTEXT)
    assert len(panel.considered) == len(good)


def test_public_sample_files_are_read_or_refused_by_name(shared_data):
    """An extra over public samples, where they lie beside the checkout."""
    if shared_data is None:
        return
    table = Counter()
    anytime = LabContext(window=CONTEXT.window)
    for path in sorted((shared_data / "fhir/samples").rglob("*.json")):
        content = json.loads(path.read_text())
        found = [content, *(e.get("resource") or {} for e in content.get("entry") or [])]
        for resource in found:
            if resource.get("resourceType") != "Observation":
                continue
            panel = read_panel([resource], anytime)
            named = [p.split(": ", 1)[1] for p in panel.not_understood]
            for became in [*(f"understood {r.analyte}" for r in panel.results), *named]:
                table[path.parent.name, became] += 1
            table[path.parent.name, "Observations"] += 1
    for (folder, became), count in sorted(table.items()):
        print(f"{folder:18} {count:5} {became}")
    assert sum(c for (_, b), c in table.items() if b.startswith("understood")) > 10
