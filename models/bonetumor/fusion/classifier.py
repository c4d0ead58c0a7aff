"""The fusion network behind the Fusion port."""

import torch

from bonetumor.domain.assessment import Diagnosis, Modality, TumourClass
from bonetumor.domain.errors import NonFiniteOutput, WeightsMismatch
from bonetumor.fusion.evidence import CaseTensors, Preparation
from bonetumor.fusion.network import FusionConfig, FusionNetwork
from bonetumor.fusion.text import tokenizer_from
from bonetumor.service.ports import FusionInput
from bonetumor.weights.bundle import Bundle


class FusionClassifier:
    """Diagnoses with calibrated probabilities, a prediction set, and the right to abstain."""

    def __init__(self, bundle: Bundle, *, device: str) -> None:
        config = bundle.manifest.fusion
        self._preparation = Preparation(
            int(config["crop_px"]),
            int(config["tile_px"]),
            tokenizer_from(bundle.text("vocabulary.txt")),
        )
        self._temperatures: dict[str, float] = config["temperatures"]
        self._least_probability: dict[str, float] = config["least_probabilities"]
        self._network = FusionNetwork(FusionConfig(**config["network"]))
        try:
            self._network.load_state_dict(bundle.tensors("fusion.safetensors"), strict=True)
        except RuntimeError as error:
            raise WeightsMismatch(
                "weights: expected those of the fusion network, got others"
            ) from error
        self._network.eval().to(torch.device(device))

    @torch.inference_mode()
    def diagnose(self, evidence: FusionInput) -> Diagnosis:
        """Benign, intermediate or malignant; abstains where the evidence does not settle it."""
        case = self._preparation.prepare(
            evidence.image, evidence.box, evidence.slides, evidence.labs
        )
        used = modalities(case)
        pattern = "+".join(used)
        logits = self._network([case])[0].cpu()
        if not bool(torch.isfinite(logits).all()):
            raise NonFiniteOutput("fusion: expected finite logits, got NaN or infinity")
        probabilities = torch.softmax(logits.double() / self._temperatures[pattern], dim=0).tolist()
        by_class = dict(zip(TumourClass, probabilities, strict=True))
        least = self._least_probability[pattern]
        likely = tuple(c for c in TumourClass if by_class[c] >= least)
        reason = _reason(evidence.out_of_distribution, likely)
        return Diagnosis(
            probabilities=by_class,
            prediction_set=likely,
            abstained=reason is not None,
            out_of_distribution=evidence.out_of_distribution,
            used=used,
            reason=reason,
        )


def modalities(case: CaseTensors) -> tuple[Modality, ...]:
    """Which modalities a case has."""
    present = (case.crop, case.tiles, case.tokens)
    return tuple(m for m, tensor in zip(Modality, present, strict=True) if tensor is not None)


def _reason(out_of_distribution: bool, likely: tuple[TumourClass, ...]) -> str | None:
    """Why the model abstains; None if it does not."""
    if out_of_distribution:
        return "the images are unlike those the model was trained on"
    if len(likely) != 1:
        return f"the prediction set holds {len(likely)} classes ({', '.join(likely) or 'none'})"
    return None
