"""One patient as the classifier saw it, and what shortcuts would say of the patient."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from bonetumor.domain.assessment import TumourClass
from bonetumor.evaluation import classification as classes

MALIGNANT = list(TumourClass).index(TumourClass.MALIGNANT)
_PROBED = 40
_LEAST_OF_A_KIND = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassifiedCase:
    """One patient: the true class, and the probabilities and prediction set of each subset of
    modalities that the patient has. `served`: the subset that serving would use, if any. Serving
    abstains where the image was not `assessed`, because it is out of distribution.

    `picture`: the `PROPERTIES` of the patient's first picture, empty without one;
    `property_score`: how malignant they look to the probe, which `probed` sets.
    """

    patient: str
    truth: int
    probabilities: dict[str, tuple[float, ...]]
    sets: dict[str, tuple[bool, ...]]
    served: str | None
    image_size: list[float]
    metadata: list[float]
    picture: tuple[float, ...] = ()
    labels: dict[str, str] = field(default_factory=dict)
    assessed: bool = True
    property_score: float = float("nan")


def probed(cases: Sequence[ClassifiedCase]) -> list[ClassifiedCase]:
    """The cases with the `property_score` of each that has a picture: the answer of boosted trees
    that saw nothing but the picture's properties, and not the patient's group, for malignant
    against other tumours.

    With too few patients, or fewer than five of one of the two, all keep NaN.
    """
    seen = [place for place, case in enumerate(cases) if case.picture]
    malignant = np.array([cases[place].truth == MALIGNANT for place in seen], np.int64)
    groups = [cases[place].patient for place in seen]
    kinds = [len({g for g, m in zip(groups, malignant, strict=True) if m == k}) for k in (0, 1)]
    if len(seen) < _PROBED or min(kinds) < _LEAST_OF_A_KIND:
        return list(cases)
    features = _properties([cases[place] for place in seen])
    scores = classes.probe_answers(features, malignant, groups, labels=2)[:, 1]
    found = dict(zip(seen, scores.tolist(), strict=True))
    unknown = float("nan")
    return [replace(c, property_score=found.get(place, unknown)) for place, c in enumerate(cases)]


def summarise_probes(cases: Sequence[ClassifiedCase]) -> dict[str, Any]:
    """What image size alone, age, sex, site and box shape alone, and properties of the picture
    alone would reach."""
    shown = [c for c in cases if c.picture]
    probes = (
        ("image_size_only", cases, np.array([c.image_size for c in cases])),
        ("age_sex_site_and_box", cases, np.array([c.metadata for c in cases])),
        ("picture_properties", shown, _properties(shown)),
    )
    answer = {}
    for name, own, features in probes:
        truth = np.array([c.truth for c in own], np.int64)
        if len(own) < _PROBED or min(np.bincount(truth, minlength=3)) < _LEAST_OF_A_KIND:
            continue
        value, low, high = classes.probe_auc(features, truth, [c.patient for c in own])
        answer[name] = {"auc": {"value": value, "ci95": [low, high]}}
    return answer


def _properties(cases: Sequence[ClassifiedCase]) -> classes.Floats:
    """Shape (n, 7), of cases with a picture."""
    return np.array([c.picture for c in cases], np.float64)
