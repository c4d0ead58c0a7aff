"""Texts of blood markers, kept beside the evidence that they were written of."""

from bonetumor.domain.labs import BloodText, Writer
from bonetumor.domain.progress import Step
from kit.ledger import EVIDENCE, complete, deliver, sqlite_ledger, walk_to_deliveries

MODEL = Writer(name="model", version="a" * 64, is_language_model=True)
KEY = ("1.2.3", EVIDENCE.digest, MODEL.key)


def said(text, note=""):
    return BloodText(text=text, writer=MODEL, note=note)


def test_a_text_is_there_after_a_restart(tmp_path, clock):
    with sqlite_ledger(tmp_path, clock) as ledger:
        assert ledger.text(*KEY) is None
        assert ledger.keep_text(*KEY, said("high", "why")) == said("high", "why")
    with sqlite_ledger(tmp_path, clock) as again:
        assert again.text(*KEY) == said("high", "why")


def test_the_first_text_of_an_evidence_and_a_writer_stays(ledger):
    ledger.keep_text(*KEY, said("first"))
    assert ledger.keep_text(*KEY, said("second")) == said("first")
    others = [("1.2.4", *KEY[1:]), (KEY[0], "b" * 64, KEY[2]), (*KEY[:2], "c" * 64)]
    for n, key in enumerate(others):
        assert ledger.text(*key) is None
        assert ledger.keep_text(*key, said(f"other {n}")) == said(f"other {n}")
    assert ledger.text(*KEY) == said("first")


def test_texts_go_with_the_evidence(ledger, clock):
    complete(ledger)
    ledger.keep_text(*KEY, said("high"))
    ledger.keep_text("1.2.4", *KEY[1:], said("another study's"))
    walk_to_deliveries(ledger, "pacs")
    deliver(ledger, Step.SEND)
    deliver(ledger, Step.CONFIRM)
    assert ledger.remove("1.2.3", "me", "asked for")
    assert ledger.text(*KEY) is None
    assert ledger.text("1.2.4", *KEY[1:]) == said("another study's")
