"""Where on the body an image is, by its words or by its codes."""

import pytest
from pydicom import Dataset, Sequence

from bonetumor.detection.scope import BEYOND_LIMBS, describe_beyond
from bonetumor.dicom.anatomy import body_part, finding_site
from bonetumor.dicom.presentation import present
from bonetumor.dicom.reader import read_header
from kit import studies


def region(value: str, scheme: str = "SCT") -> Sequence:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, "as coded"
    return Sequence([item])


@pytest.mark.parametrize(
    ("value", "scheme", "word"),
    [
        ("71341001", "SCT", "FEMUR"),
        ("T-12710", "SRT", "FEMUR"),
        ("816094009", "SCT", "CHEST"),
        ("51185008", "SCT", "CHEST"),
        ("T-D3000", "SRT", "CHEST"),
        ("T-D1100", "SRT", "HEAD"),
        ("22356005", "SCT", ""),  # the ilium has no word in Annex L
        ("71341001", "99SITE", ""),
        ("", "", ""),
    ],
)
def test_the_region_says_the_word_where_body_part_examined_is_empty(value, scheme, word):
    image = studies.dataset(1)
    image.AnatomicRegionSequence = region(value, scheme)
    image.BodyPartExamined = "KNEE"
    assert body_part(image) == "KNEE"
    image.BodyPartExamined = ""
    assert body_part(image) == word
    del image.BodyPartExamined
    assert read_header(image).body_part == (word or None)


def test_an_empty_region_says_nothing():
    image = studies.dataset(1)
    image.BodyPartExamined, image.AnatomicRegionSequence = "", Sequence([])
    assert body_part(image) == ""
    image.AnatomicRegionSequence = Sequence([Dataset()])
    assert body_part(image) == ""


def test_a_chest_by_its_code_alone_is_beyond_limbs():
    image = studies.dataset(1)
    image.BodyPartExamined, image.ImageLaterality = "", "L"
    image.AnatomicRegionSequence = region("T-D3000", "SRT")
    reference = next(present(image)).reference
    assert reference.body_part == "CHEST L"
    assert "CHEST" in describe_beyond(reference, BEYOND_LIMBS)


@pytest.mark.parametrize("word", sorted(BEYOND_LIMBS - {"CT", "MR"}))
def test_every_word_of_head_and_trunk_has_a_code_and_the_code_the_word(word):
    image = Dataset()
    image.BodyPartExamined = word
    site, _ = finding_site(image)
    image.BodyPartExamined, image.AnatomicRegionSequence = "", region(site.value, site.scheme)
    assert body_part(image) == word
