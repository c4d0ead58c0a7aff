"""What a bundle is meant for: a closed choice, because `mode = "clinical"` depends on it."""

from enum import StrEnum


class IntendedUse(StrEnum):
    """The intended use that a bundle states.

    CLINICAL is a claim of whoever answers for the weights as a medical device under the law of the
    place (in the European Union, Regulation (EU) 2017/745). Nothing here checks it.
    """

    RESEARCH = "research"
    CLINICAL = "clinical"


STATEMENTS = {
    IntendedUse.RESEARCH: (
        "Research, demonstration and integration tests. Not for primary diagnosis."
    ),
    IntendedUse.CLINICAL: (
        "Clinical use, as claimed by whoever made this bundle. The program does not check that."
    ),
}
