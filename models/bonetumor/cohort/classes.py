"""Which class a tumour type belongs to, where a data set names types alone."""

from bonetumor.domain.assessment import TumourClass

BTXRD_CLASSES = {
    # WHO 2020 table, version 1. Intermediate: locally aggressive or rarely metastasising.
    "osteochondroma": TumourClass.BENIGN,
    "multiple osteochondromas": TumourClass.BENIGN,
    "simple bone cyst": TumourClass.BENIGN,
    "giant cell tumor": TumourClass.INTERMEDIATE,
    "osteofibroma": TumourClass.BENIGN,
    "synovial osteochondroma": TumourClass.INTERMEDIATE,
    "other bt": TumourClass.BENIGN,
    "osteosarcoma": TumourClass.MALIGNANT,
    "other mt": TumourClass.MALIGNANT,
}
BTXRD_CLASSES_VERSION = "WHO 2020, table 1"
