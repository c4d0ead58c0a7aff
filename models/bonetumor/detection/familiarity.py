"""How unlike the training pictures an image is, by the backbone's summary of it.

Two measures: the Mahalanobis distance from the training pictures (Lee et al., NeurIPS 2018), which
tells stained tiles and noise from radiographs, and how far an image leans from them towards drawn
radiographs of trunk and head, which tells a chest from a limb: outlier exposure (Hendrycks et al.,
ICLR 2019) by a linear discriminant.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from bonetumor.domain.errors import NonFiniteOutput, WeightsMismatch

_SHRINKAGE = 0.3
_PREFIX = "familiarity."

Summaries = NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Familiarity:
    """`mean`: float64 (channels,), and `precision`: float64 (channels, channels), of the training
    pictures' summaries; `trunk`: float64 (channels,), the direction towards trunk and head."""

    mean: NDArray[np.float64]
    precision: NDArray[np.float64]
    trunk: NDArray[np.float64]

    def measure(self, summary: Summaries) -> tuple[float, float]:
        """Distance, and lean, of the summary of an image, shape (channels,).

        Raises:
            NonFiniteOutput: one of them is no number.
        """
        offset = summary.astype(np.float64) - self.mean
        with np.errstate(invalid="ignore"):
            square = float(offset @ self.precision @ offset)
            lean = float(offset @ self.trunk)
        if not np.isfinite([square, lean]).all():  # no number is above a threshold: all would pass
            raise NonFiniteOutput("detector: expected a finite distance, got NaN or infinity")
        return float(np.sqrt(max(0.0, square))), lean

    def tensors(self) -> dict[str, torch.Tensor]:
        """As a bundle holds them."""
        held = {"mean": self.mean, "precision": self.precision, "trunk": self.trunk}
        return {f"{_PREFIX}{name}": torch.from_numpy(v).float() for name, v in held.items()}


def fit_familiarity(known: Summaries, trunk: Summaries) -> Familiarity:
    """From the summaries, shape (pictures, channels), of training pictures, and of trunk and head.

    Both covariances are shrunken towards a multiple of the identity.
    """
    mean = known.mean(axis=0, dtype=np.float64)
    away = trunk.mean(axis=0, dtype=np.float64) - mean
    spread, other_spread = _covariance(known), _covariance(trunk)
    direction = np.linalg.solve((spread + other_spread) / 2, away)
    return Familiarity(
        mean=mean,
        precision=np.asarray(np.linalg.inv(spread), np.float64),
        trunk=direction / np.sqrt(direction @ spread @ direction),
    )


def take_familiarity(tensors: dict[str, torch.Tensor]) -> Familiarity:
    """Takes out of a bundle's detector what `Familiarity.tensors` put there.

    Raises:
        WeightsMismatch: one of them is missing.
    """
    return Familiarity(**{name: _taken(tensors, name) for name in ("mean", "precision", "trunk")})


def without_familiarity(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The network's own weights alone."""
    return {name: t for name, t in tensors.items() if not name.startswith(_PREFIX)}


def _covariance(summaries: Summaries) -> NDArray[np.float64]:
    plain = np.cov(summaries.T.astype(np.float64))
    ground = np.eye(len(plain)) * plain.diagonal().mean()
    return np.asarray((1 - _SHRINKAGE) * plain + _SHRINKAGE * ground, np.float64)


def _taken(tensors: dict[str, torch.Tensor], name: str) -> NDArray[np.float64]:
    try:
        return tensors.pop(_PREFIX + name).numpy().astype(np.float64)
    except KeyError as error:
        raise WeightsMismatch(
            f"weights: expected {_PREFIX}{name} in the detector, got none"
        ) from error
