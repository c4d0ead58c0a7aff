"""Images with attributes that no rule foresees: what is said of them, and results about them."""

import pydicom
import pytest
from pydicom import Dataset, Sequence
from pydicom.valuerep import PersonName

from bonetumor.dicom.objects import Kind, ObjectMaker
from bonetumor.dicom.reader import SpooledStudies, decode_here, read_file, read_header
from bonetumor.domain.errors import CorruptPixelData
from kit import studies
from kit.results import result_about
from kit.site import send
from kit.validators import dciodvfy

# As archives have them. Each must cost what it says and nothing else.
ODD = {
    "PatientBirthDate": "19500000",
    "PatientSex": "W",
    "StudyDate": "2026.99.99",
    "StudyTime": "noon",
    "AcquisitionDate": "0",
    "ContentTime": ["1200", "1300"],
    "ImagerPixelSpacing": ["0.1"],
    "WindowCenter": "middle",
    "WindowWidth": "0",
    "RescaleType": "",
    "RescaleIntercept": " ",
    "RescaleSlope": None,
    "InstanceNumber": "first",
    "FrameOfReferenceUID": "none",
    "ImageLaterality": "B",
    "AnatomicRegionSequence": Sequence([Dataset()]),
}


def odd_image(tmp_path, number, keyword, value):
    image = studies.dataset(number, 320)
    setattr(image, keyword, None)
    image[keyword]._value = value  # which pydicom would not take
    path = tmp_path / "odd.dcm"
    image.save_as(path, enforce_file_format=True)
    return path


def without_a_type(path, keyword):
    """The file with a value representation that does not exist."""
    tag = pydicom.tag.Tag(keyword)
    start = tag.group.to_bytes(2, "little") + tag.element.to_bytes(2, "little")
    vr = pydicom.datadict.dictionary_VR(tag).encode()
    assert path.read_bytes().count(start + vr) == 1
    path.write_bytes(path.read_bytes().replace(start + vr, start + b"Q?"))


def results_of(site, image):
    """Every kind of object about the image, each before a validator."""
    study = site.ledger.study(str(image.StudyInstanceUID))
    reader = SpooledStudies(site.spool)
    result = result_about(study, reader)
    maker = ObjectMaker(reader, list(Kind))
    for one in (*maker.pictures(result), maker.report(result, three_d=True)):
        path = site.folder / "one.dcm"
        one.save_as(path, enforce_file_format=True)
        said = dciodvfy(path)
        assert "Error" not in said, said
        yield one


@pytest.mark.parametrize("keyword", ODD)
@pytest.mark.filterwarnings("ignore")
def test_an_odd_attribute_costs_no_result(site, tmp_path, keyword):
    number = 400 + list(ODD).index(keyword)
    path = odd_image(tmp_path, number, keyword, ODD[keyword])
    image = pydicom.dcmread(path)
    assert send(site, image) == 0x0000
    assert {str(one.SOPClassUID) for one in results_of(site, image)} >= {
        pydicom.uid.Comprehensive3DSRStorage,
        pydicom.uid.EncapsulatedPDFStorage,
    }


def test_two_names_are_as_if_there_were_none(site, tmp_path):
    path = odd_image(tmp_path, 429, "PatientName", PersonName("One^Phantom"))
    path.write_bytes(path.read_bytes().replace(b"One^Phantom", b"One\\Phantom"))
    image = pydicom.dcmread(path)
    assert send(site, image) == 0x0000
    assert {str(one.PatientName) for one in results_of(site, image)} == {""}


JAPANESE = "Yamada^Tarou=山田^太郎=やまだ^たろう"


@pytest.mark.parametrize(
    ("stated", "name", "written"),
    [
        ("ISO_IR 100", "Müller^Jörg", "ISO_IR 100"),
        ("ISO_IR 144", "Люкceмбypг", "ISO_IR 144"),
        ("ISO_IR 192", JAPANESE, "ISO_IR 192"),
        ("GB18030", "Wang^XiaoDong=王^小东", "GB18030"),
        (["", "ISO 2022 IR 87"], JAPANESE, ["ISO 2022 IR 6", "ISO 2022 IR 87"]),
        (
            ["ISO 2022 IR 13", "ISO 2022 IR 87"],
            "ﾔﾏﾀﾞ^ﾀﾛｳ=山田^太郎",
            ["ISO 2022 IR 13", "ISO 2022 IR 87"],
        ),
        (["", "ISO 2022 IR 149"], "Hong^Gildong=洪^吉洞=홍^길동", "ISO_IR 192"),
        ("latin1", "Müller^Jörg", "ISO_IR 192"),
        ("ISO-8859-1", "Müller^Jörg", "ISO_IR 192"),
        ("ISO_IR 999", "Muller^Jorg", "ISO_IR 192"),
        (["ISO_IR 100", "ISO_IR 144"], "Müller^Jörg", "ISO_IR 192"),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_names_are_told_in_the_characters_that_they_came_in(site, tmp_path, stated, name, written):
    """Where highdicom has those; else in UTF-8."""
    image = studies.dataset(433, 320)
    image.SpecificCharacterSet, image.PatientName = stated, name
    path = tmp_path / "named.dcm"
    image.save_as(path)
    assert send(site, pydicom.dcmread(path)) == 0x0000
    for one in results_of(site, image):
        one.save_as(path, enforce_file_format=True)
        told = pydicom.dcmread(path)
        assert str(told.PatientName) == name
        assert told.SpecificCharacterSet == written


@pytest.mark.parametrize(
    ("stated", "said"),
    [("P1\0\0", "P1"), (" P1 ", "P1"), ("P1\r\n", "P1"), ("P\x0b1\0x", "P\ufffd1\ufffdx")],
)
def test_control_characters_are_no_part_of_an_identifier(tmp_path, stated, said):
    path = odd_image(tmp_path, 432, "PatientID", stated)
    image = pydicom.dcmread(path)
    image.AccessionNumber = stated
    image.save_as(path)
    header = read_header(read_file(path, pixels=False))
    assert (header.patient.patient_id, header.accession_number) == (said, said)


@pytest.mark.parametrize(
    ("keyword", "value"),
    [("PatientBirthDate", "19500101"), ("PatientID", "P1"), ("AccessionNumber", "A1")],
)
def test_a_type_that_does_not_exist_states_nothing(tmp_path, keyword, value):
    nothing = read_header(read_file(odd_image(tmp_path, 430, keyword, ""), pixels=False))
    path = odd_image(tmp_path, 430, keyword, value)
    assert read_header(read_file(path, pixels=False)) != nothing
    without_a_type(path, keyword)
    assert read_header(read_file(path, pixels=False)) == nothing


@pytest.mark.parametrize("characters", ["ISO_IR 100", "latin1"])
def test_a_private_element_of_no_type_costs_nothing(tmp_path, characters):
    image = studies.dataset(434, 320)
    image.SpecificCharacterSet = "ISO_IR 100"
    image.private_block(0x0011, "PHANTOM", create=True).add_new(1, "LO", "abcd")
    path = tmp_path / "private.dcm"
    image.save_as(path)
    odd = path.read_bytes().replace(b"LO\x04\x00abcd", b"Q?\x04\x00abcd")
    path.write_bytes(odd.replace(b"ISO_IR 100", characters.encode().ljust(10)))
    assert read_header(read_file(path, pixels=False)).patient.patient_id == image.PatientID


@pytest.mark.parametrize(
    ("keyword", "value"),
    [("RescaleSlope", "steep"), ("BitsStored", [12, 12]), ("NumberOfFrames", "many")],
)
@pytest.mark.filterwarnings("ignore")
def test_pixels_that_are_not_described_are_refused(tmp_path, keyword, value):
    path = odd_image(tmp_path, 431, keyword, value)
    with pytest.raises(CorruptPixelData, match="pixel data: expected") as refused:
        list(decode_here(path))
    assert str(value) not in str(refused.value)
