"""One phantom patient: radiographs, slides, blood, and the truth about them."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bonetumor.domain.assessment import TumourClass
from bonetumor.phantom.blood import BloodMarker, draw_blood
from bonetumor.phantom.radiograph import Radiograph, draw_radiograph
from bonetumor.phantom.slide import draw_slide
from bonetumor.phantom.tumour import draw_age, draw_type


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PhantomPatient:
    """Evidence that is missing is empty (slides, blood); `tumour_class` is the truth."""

    number: int
    tumour_type: str
    tumour_class: TumourClass
    age_years: int
    sex: str
    radiograph: Radiograph
    slides: tuple[NDArray[np.uint8], ...]
    blood: tuple[BloodMarker, ...]


def draw_patient(seed: int, number: int, *, longest_px: int = 960) -> PhantomPatient:
    """Patient `number` of the cohort `seed`: the same for the same two numbers."""
    rng = np.random.default_rng([seed, number])
    kind = draw_type(rng)
    age = draw_age(kind, rng)
    radiograph = draw_radiograph(kind, rng, longest_px=longest_px)
    slides = tuple(draw_slide(kind.tumour_class, rng) for _ in range(int(rng.integers(1, 3))))
    return PhantomPatient(
        number=number,
        tumour_type=kind.name,
        tumour_class=kind.tumour_class,
        age_years=age,
        sex=str(rng.choice(["M", "F"])),
        radiograph=radiograph,
        slides=slides,
        blood=draw_blood(kind.tumour_class, age, rng),
    )


def draw_normal(seed: int, number: int, *, longest_px: int = 960) -> Radiograph:
    """A radiograph without tumour: the same for the same two numbers."""
    return draw_radiograph(None, np.random.default_rng([seed, number, 1]), longest_px=longest_px)
