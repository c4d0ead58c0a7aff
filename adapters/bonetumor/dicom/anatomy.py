"""Where on the body, from what the images state: coded sites, and words (PS3.16 Annex L)."""

from pydicom import Dataset
from pydicom.sr.coding import Code as Concept

from bonetumor.dicom.attributes import said
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
    "THIGH": Code("68367000", "SCT", "Thigh"),
    "CALCANEUS": Code("80144004", "SCT", "Calcaneus"),
    "CLAVICLE": Code("51299004", "SCT", "Clavicle"),
    "FINGER": Code("7569003", "SCT", "Finger"),
    "PATELLA": Code("64234005", "SCT", "Patella"),
    "SCAPULA": Code("79601000", "SCT", "Scapula"),
    "THUMB": Code("76505004", "SCT", "Thumb"),
    "TOE": Code("29707007", "SCT", "Toe"),
    "ABDOMEN": Code("818981001", "SCT", "Abdomen"),
    "ABDOMENPELVIS": Code("818982008", "SCT", "Abdomen and Pelvis"),
    "BREAST": Code("76752008", "SCT", "Breast"),
    "CHEST": Code("816094009", "SCT", "Thorax"),
    "CHESTABDOMEN": Code("416550000", "SCT", "Chest and Abdomen"),
    "CHESTABDPELVIS": Code("416775004", "SCT", "Chest, Abdomen and Pelvis"),
    "COCCYX": Code("64688005", "SCT", "Coccyx"),
    "CSPINE": Code("122494005", "SCT", "Cervical spine"),
    "CTSPINE": Code("1217257000", "SCT", "Cervico-thoracic spine"),
    "HEAD": Code("69536005", "SCT", "Head"),
    "HEADNECK": Code("774007", "SCT", "Head and Neck"),
    "HEART": Code("80891009", "SCT", "Heart"),
    "JAW": Code("661005", "SCT", "Jaw region"),
    "LSPINE": Code("122496007", "SCT", "Lumbar spine"),
    "LSSPINE": Code("1217253001", "SCT", "Lumbo-sacral spine"),
    "LUNG": Code("39607008", "SCT", "Lung"),
    "NECK": Code("45048000", "SCT", "Neck"),
    "NECKCHEST": Code("417437006", "SCT", "Neck and Chest"),
    "NECKCHESTABDOMEN": Code("416152001", "SCT", "Neck, Chest and Abdomen"),
    "NECKCHESTABDPELV": Code("416319003", "SCT", "Neck, Chest, Abdomen and Pelvis"),
    "ORBIT": Code("363654007", "SCT", "Orbital structure"),
    "RIB": Code("113197003", "SCT", "Rib"),
    "SKULL": Code("89546000", "SCT", "Skull"),
    "SPINE": Code("421060004", "SCT", "Spine"),
    "SSPINE": Code("54735007", "SCT", "Sacrum"),
    "STERNUM": Code("56873002", "SCT", "Sternum"),
    "TLSPINE": Code("1217256009", "SCT", "Thoraco-lumbar spine"),
    "TSPINE": Code("122495006", "SCT", "Thoracic spine"),
    "WHOLEBODY": Code("38266002", "SCT", "Entire body"),
}
# Codes that these had before, or that stand for the joint; SNOMED RT's (SRT) are known to pydicom.
_OTHER_CODES = {
    "ABDOMEN": ("113345001",),
    "ANKLE": ("344001",),
    "CHEST": ("51185008", "43799004"),
    "ELBOW": ("16953009",),
    "HIP": ("29836001",),
    "PELVIS": ("816092008",),
    "WRIST": ("8205005",),
}
_WORDS = {
    **{site.value: word for word, site in _BODY_PARTS.items()},
    **{value: word for word, values in _OTHER_CODES.items() for value in values},
}
_PROJECTIONS = ("CR", "DX")
_LATERALITY = {
    "L": Code("7771000", "SCT", "Left"),
    "R": Code("24028007", "SCT", "Right"),
    "B": Code("51440002", "SCT", "Right and left"),
}


def body_part(image: Dataset) -> str:
    """Body Part Examined; where it is empty, its word for the Anatomic Region, if there is one.

    Digital radiographs must state the region and may leave the other out (PS3.3 C.8.11.2).
    """
    stated = said(image, "BodyPartExamined")
    region = image.get("AnatomicRegionSequence")
    if stated or not region:
        return stated
    value, scheme = (str(region[0].get(k) or "") for k in ("CodeValue", "CodingSchemeDesignator"))
    concept = Concept(value, scheme, "")
    return next((w for code, w in _WORDS.items() if concept == Concept(code, "SCT", "")), "")


def laterality(image: Dataset) -> str:
    """The side as the image states it, else as its series does; empty where neither does."""
    return said(image, "ImageLaterality") or said(image, "Laterality")


def finding_site(image: Dataset) -> tuple[Code | None, Code | None]:
    """The site and its laterality; None where the image does not say."""
    region = image.get("AnatomicRegionSequence")
    site = _BODY_PARTS.get(said(image, "BodyPartExamined"))
    if region and region[0].get("CodeValue") and region[0].get("CodeMeaning"):
        site = Code(
            str(region[0].CodeValue),
            str(region[0].CodingSchemeDesignator),
            str(region[0].CodeMeaning),
        )
    return site, _LATERALITY.get(laterality(image))


def projected_part(image: Dataset) -> str:
    """What a projection image (CR, DX) says that it shows, with its side; else nothing."""
    if str(image.get("Modality") or "") not in _PROJECTIONS:
        return ""
    part = body_part(image)
    return f"{part} {laterality(image)}".strip() if part else ""
