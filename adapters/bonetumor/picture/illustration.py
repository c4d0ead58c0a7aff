"""What a report shows: the most telling image with its boxes, and a page as PDF.

The same result gives the same bytes.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from io import BytesIO

from PIL import Image
from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import ParagraphStyle, getSampleStyleSheet
from reportlab.lib.units import mm
from reportlab.platypus import Flowable, Paragraph, SimpleDocTemplate, Spacer, Table
from reportlab.platypus import Image as PdfImage

from bonetumor.domain.image import ClinicalImage
from bonetumor.picture.overlay import draw
from bonetumor.service.ports import Result
from bonetumor.service.wording import BANNER, found, notes

_LONGEST_PX = 1024
_STYLES = getSampleStyleSheet()
_BANNER = ParagraphStyle("banner", parent=_STYLES["Heading2"], backColor="#ffe9a8", borderPadding=4)


@dataclass(frozen=True, slots=True, kw_only=True)
class Illustration:
    """`png` is None where no image could be drawn."""

    png: bytes | None
    pdf: bytes


def illustrate(result: Result, images: Iterable[ClinicalImage]) -> Illustration:
    """The picture and the page of a result; `images` are those of its study, in order."""
    picture = _picture(result, images)
    return Illustration(png=None if picture is None else _png(picture), pdf=_pdf(result, picture))


def _picture(result: Result, images: Iterable[ClinicalImage]) -> Image.Image | None:
    """The image of the most certain lesion, or the first where there is none."""
    lesions = result.assessment.lesions
    wanted = lesions[0].detection.image if lesions else None
    for image in images:
        if wanted is None or image.reference == wanted:
            own = [x for x in lesions if x.detection.image == image.reference]
            picture = draw(image, own, result.assessment.diagnosis.heat_map if own else None)
            picture.thumbnail((_LONGEST_PX, _LONGEST_PX))
            return picture
    return None


def _png(picture: Image.Image) -> bytes:
    buffer = BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


def _pdf(result: Result, picture: Image.Image | None) -> bytes:
    buffer = BytesIO()
    document = SimpleDocTemplate(
        buffer,
        pagesize=A4,
        title="AI result, not for primary diagnosis",
        author="bonetumor",
        invariant=1,
        leftMargin=20 * mm,
        rightMargin=20 * mm,
        topMargin=15 * mm,
        bottomMargin=15 * mm,
    )
    document.build(list(_story(result, picture)))
    return buffer.getvalue()


def _story(result: Result, picture: Image.Image | None) -> Iterable[Flowable]:
    header, diagnosis = result.header, result.assessment.diagnosis
    yield Paragraph("Bone tumour assessment by artificial intelligence", _STYLES["Title"])
    yield Paragraph(BANNER, _BANNER)
    yield Spacer(0, 4 * mm)
    acquired = f"{header.acquired_at:%Y-%m-%d}" if header.acquired_at else "unknown"
    yield Table(
        [
            ["Accession number", header.accession_number or "none"],
            ["Study date", acquired],
            ["Study Instance UID", header.study_instance_uid],
            ["Run", result.assessment.run_key[:16]],
        ],
        hAlign="LEFT",
    )
    yield Paragraph(_escaped(found(result)), _STYLES["Heading3"])
    if diagnosis.probabilities is not None:
        rows = [[str(c), f"{p:.0%}"] for c, p in diagnosis.probabilities.items()]
        yield Table([["Class", "Probability"], *rows], hAlign="LEFT")
    if picture is not None:
        scale = min(150 * mm / picture.width, 110 * mm / picture.height)
        yield PdfImage(BytesIO(_png(picture)), picture.width * scale, picture.height * scale)
    for note in notes(result):
        yield Paragraph(_escaped(note), _STYLES["BodyText"])


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
