"""PixelMed's DicomSRValidator over many reports in one Java machine.

usage: python pixelmed.py FILE…, prints a JSON object of what it says of each file.
"""

import json
import sys

import jpype


def main() -> None:
    limits = [
        f"-Djdk.xml.xpath{name}=0" for name in ("ExprGrpLimit", "ExprOpLimit", "TotalOpLimit")
    ]
    jpype.startJVM(*limits, classpath=["/usr/share/java/*"])
    validator = jpype.JClass("com.pixelmed.validate.DicomSRValidator")()
    said = {}
    for file in sys.argv[1:]:
        attributes = jpype.JClass("com.pixelmed.dicom.AttributeList")()
        attributes.read(file)
        said[file] = str(validator.validate(attributes))
    print(json.dumps(said))


if __name__ == "__main__":
    main()
