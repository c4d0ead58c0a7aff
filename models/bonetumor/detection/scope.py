"""What a detector was not made for, by what an image says that it shows.

A distance between pictures tells a chest from a shoulder badly; the image's own words do not.
"""

from collections.abc import Collection

# Body Part Examined (0018,0015) of head and trunk: PS3.16 Annex L, Table L-1. The detector knows
# limbs and the joints that join them to the trunk. What is not listed is left to the distance.
HEAD_AND_TRUNK = frozenset(
    {
        "ABDOMEN", "ABDOMENPELVIS", "BREAST", "CHEST", "CHESTABDOMEN", "CHESTABDPELVIS", "COCCYX",
        "CSPINE", "CTSPINE", "HEAD", "HEADNECK", "HEART", "JAW", "LSPINE", "LSSPINE", "LUNG",
        "NECK", "NECKCHEST", "NECKCHESTABDOMEN", "NECKCHESTABDPELV", "ORBIT", "RIB", "SKULL",
        "SPINE", "SSPINE", "STERNUM", "TLSPINE", "TSPINE", "WHOLEBODY",
    }
)  # fmt: skip


def describe_beyond(body_part: str, beyond: Collection[str]) -> str:
    """What to say of an image that shows one of the parts `beyond`; empty where it does not.

    `body_part`: as in ImageReference, perhaps with a side.
    """
    part = body_part.partition(" ")[0].upper()
    if part not in beyond:
        return ""
    return f"an image shows, as it says, {part}, which the model was not made for"
