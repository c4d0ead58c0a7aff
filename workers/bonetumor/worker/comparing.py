"""Other bundles' fusion networks on the cases that `evaluate` measures one bundle on."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bonetumor.domain.assessment import Diagnosis, Modality, TumourClass
from bonetumor.domain.errors import InvalidInput
from bonetumor.evaluation.cases import ClassifiedCase
from bonetumor.evaluation.comparison import Rival, compare
from bonetumor.fusion.classifier import FusionClassifier
from bonetumor.service.ports import FusionInput
from bonetumor.weights.bundle import Bundle, open_bundle

Answers = list[dict[str, tuple[float, ...]]]
_DETECTOR = "detector.safetensors"


def probabilities_of(
    diagnoses: Mapping[tuple[Modality, ...], Diagnosis],
) -> dict[str, tuple[float, ...]]:
    """In the order of TumourClass, by the name of the pattern (`image+labs`)."""
    return {
        "+".join(used): tuple(diagnosis.probabilities[c] for c in TumourClass)
        for used, diagnosis in diagnoses.items()
        if diagnosis.probabilities is not None
    }


class Comparison:
    """Fusion networks of several bundles, the first of which is being evaluated."""

    def __init__(self, first: Bundle, others: Sequence[Path], device: str) -> None:
        """Raises InvalidInput: a bundle with another detector, which would see other lesions."""
        self._bundles = [first, *map(open_bundle, others)]
        for bundle in self._bundles[1:]:
            if bundle.manifest.files[_DETECTOR] != first.manifest.files[_DETECTOR]:
                raise InvalidInput(
                    f"compare: expected bundles with the detector of {first.manifest.version}, "
                    f"got another in {bundle.manifest.version} ({bundle.folder})"
                )
        self._networks = [FusionClassifier(b, device=device) for b in self._bundles]

    def ask(self, evidence: FusionInput) -> Answers:
        """Each network's probabilities for a case, from each subset of its evidence."""
        return [probabilities_of(network.by_subset(evidence)) for network in self._networks]

    def result(self, cases: Sequence[ClassifiedCase], answers: Sequence[Answers]) -> dict[str, Any]:
        """The content of `classification.comparison`; `answers` of `ask` for each of the cases."""
        rivals = [
            Rival(
                version=bundle.manifest.version,
                design=str(bundle.manifest.fusion["network"]["design"]),
                seed=int(bundle.manifest.fusion["training"]["seed"]),
                answers=[said[number] for said in answers],
            )
            for number, bundle in enumerate(self._bundles)
        ]
        return compare(rivals, [c.truth for c in cases], [c.patient for c in cases])
