"""One phantom patient: radiographs, slides, blood, and the truth about them."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bonetumor.domain.assessment import TumourClass
from bonetumor.phantom.blood import BloodMarker, draw_blood
from bonetumor.phantom.normals import Normals
from bonetumor.phantom.radiograph import Radiograph, draw_radiograph
from bonetumor.phantom.slide import draw_slide
from bonetumor.phantom.tumour import TumourType, draw_age, draw_type

_ATTEMPTS = 8


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PhantomPatient:
    """Evidence that is missing is empty (slides, blood); `tumour_class` is the truth."""

    seed: int
    number: int
    tumour_type: str
    tumour_class: TumourClass
    age_years: int
    sex: str
    radiographs: tuple[Radiograph, ...]
    slides: tuple[NDArray[np.uint8], ...]
    blood: tuple[BloodMarker, ...]

    @property
    def radiograph(self) -> Radiograph:
        """The first view."""
        return self.radiographs[0]


def draw_patient(
    seed: int,
    number: int,
    *,
    longest_px: int = 960,
    views: int = 1,
    normals: Normals | None = None,
    slides: bool = True,
) -> PhantomPatient:
    """Patient `number` of the cohort `seed`: the same for the same two numbers.

    Each kind of evidence has its own stream of chance, so that one can change, or slides be left
    out (they take most of the time), without the others.
    """
    rng = np.random.default_rng([seed, number])
    kind = draw_type(rng)
    age = draw_age(kind, rng)
    sex = "M" if rng.random() < kind.male else "F"
    slides_rng = np.random.default_rng([seed, number, 2])
    return PhantomPatient(
        seed=seed,
        number=number,
        tumour_type=kind.name,
        tumour_class=kind.tumour_class,
        age_years=age,
        sex=sex,
        radiographs=tuple(
            _draw_seen(kind, age, (seed, number, view), longest_px, normals)
            for view in range(views)
        ),
        slides=tuple(
            draw_slide(kind, slides_rng)
            for _ in range(int(slides_rng.integers(1, 3)) if slides else 0)
        ),
        blood=draw_blood(kind, age, sex, np.random.default_rng([seed, number, 3])),
    )


def draw_normal(
    seed: int, number: int, *, longest_px: int = 960, normals: Normals | None = None
) -> Radiograph:
    """A radiograph without tumour: the same for the same two numbers."""
    rng = np.random.default_rng([seed, number, 1])
    age = int(rng.integers(5, 75))
    return draw_radiograph(None, rng, age_years=age, longest_px=longest_px, normals=normals)


def _draw_seen(
    kind: TumourType, age: int, key: tuple[int, int, int], longest_px: int, normals: Normals | None
) -> Radiograph:
    """A radiograph on which the tumour can be seen; where it cannot, another one is taken."""
    for attempt in range(_ATTEMPTS):
        seed, number, view = key
        rng = np.random.default_rng([seed, number, 4 + 16 * view, attempt])
        radiograph = draw_radiograph(
            kind, rng, age_years=age, longest_px=longest_px, normals=normals
        )
        if radiograph.boxes:
            break
    return radiograph
