"""What a detector was not made for, by what an image says of itself.

A distance between pictures tells a chest from a shoulder badly, and a slice from a radiograph no
better; the image's own words do.
"""

from collections.abc import Collection

from pydicom.uid import (
    CTImageStorage,
    EnhancedCTImageStorage,
    EnhancedMRImageStorage,
    MRImageStorage,
)

from bonetumor.domain.image import ImageReference

_KINDS = {
    CTImageStorage: "CT",
    EnhancedCTImageStorage: "CT",
    MRImageStorage: "MR",
    EnhancedMRImageStorage: "MR",
}
# Body Part Examined (0018,0015) of head and trunk: PS3.16 Annex L, Table L-1. What is not listed
# is left to the distance.
_HEAD_AND_TRUNK = frozenset(
    {
        "ABDOMEN", "ABDOMENPELVIS", "BREAST", "CHEST", "CHESTABDOMEN", "CHESTABDPELVIS", "COCCYX",
        "CSPINE", "CTSPINE", "HEAD", "HEADNECK", "HEART", "JAW", "LSPINE", "LSSPINE", "LUNG",
        "NECK", "NECKCHEST", "NECKCHESTABDOMEN", "NECKCHESTABDPELV", "ORBIT", "RIB", "SKULL",
        "SPINE", "SSPINE", "STERNUM", "TLSPINE", "TSPINE", "WHOLEBODY",
    }
)  # fmt: skip
# Of a detector that has seen radiographs of limbs, and of the joints that join them to the trunk.
BEYOND_LIMBS = _HEAD_AND_TRUNK | frozenset(_KINDS.values())


def words_of(image: ImageReference) -> tuple[str, ...]:
    """The words that `beyond` may list: CT or MR, and what a radiograph shows, without its side."""
    part = image.body_part.partition(" ")[0].upper()
    return tuple(word for word in (_KINDS.get(image.sop_class_uid, ""), part) if word)


def describe_beyond(image: ImageReference, beyond: Collection[str]) -> str:
    """What to say of an image of which one of the words `beyond` is true; else nothing."""
    said = [word for word in words_of(image) if word in beyond]
    return f"an image is, as it says, {said[0]}: the model was not made for that" if said else ""
