"""Where on the body: coded finding sites from what the images state (PS3.16 Annex L)."""

from pydicom import Dataset

from bonetumor.domain.code import Code

_BODY_PARTS = {
    "FEMUR": Code("71341001", "SCT", "Femur"),
    "TIBIA": Code("12611008", "SCT", "Tibia"),
    "FIBULA": Code("87342007", "SCT", "Fibula"),
    "HUMERUS": Code("85050009", "SCT", "Humerus"),
    "RADIUS": Code("62413002", "SCT", "Radius"),
    "ULNA": Code("23416004", "SCT", "Ulna"),
    "KNEE": Code("72696002", "SCT", "Knee"),
    "ANKLE": Code("70258002", "SCT", "Ankle"),
    "HAND": Code("85562004", "SCT", "Hand"),
    "FOOT": Code("56459004", "SCT", "Foot"),
    "WRIST": Code("74670003", "SCT", "Wrist"),
    "ELBOW": Code("76248009", "SCT", "Elbow"),
    "SHOULDER": Code("16982005", "SCT", "Shoulder"),
    "HIP": Code("24136001", "SCT", "Hip"),
    "PELVIS": Code("12921003", "SCT", "Pelvis"),
    "EXTREMITY": Code("66019005", "SCT", "Extremity"),
    "LEG": Code("30021000", "SCT", "Lower leg"),
    "ARM": Code("40983000", "SCT", "Upper arm"),
    "FOREARM": Code("14975008", "SCT", "Forearm"),
}
_PROJECTIONS = ("CR", "DX")
_LATERALITY = {
    "L": Code("7771000", "SCT", "Left"),
    "R": Code("24028007", "SCT", "Right"),
    "B": Code("51440002", "SCT", "Right and left"),
}


def finding_site(image: Dataset) -> tuple[Code | None, Code | None]:
    """The site and its laterality; None where the image does not say."""
    side = str(image.get("ImageLaterality") or image.get("Laterality") or "").strip()
    region = image.get("AnatomicRegionSequence")
    site = _BODY_PARTS.get(str(image.get("BodyPartExamined") or "").strip())
    if region and region[0].get("CodeValue") and region[0].get("CodeMeaning"):
        site = Code(
            str(region[0].CodeValue),
            str(region[0].CodingSchemeDesignator),
            str(region[0].CodeMeaning),
        )
    return site, _LATERALITY.get(side)


def projected_part(image: Dataset) -> str:
    """What a projection image (CR, DX) says that it shows, with its side; else nothing."""
    if str(image.get("Modality") or "") not in _PROJECTIONS:
        return ""
    part = str(image.get("BodyPartExamined") or "").strip()
    side = str(image.get("ImageLaterality") or image.get("Laterality") or "").strip()
    return f"{part} {side}".strip() if part else ""
