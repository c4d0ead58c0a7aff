"""When a study is complete: proof, announcements, patience. Time is the test's own."""

import random
import statistics
from datetime import timedelta

import pytest

from bonetumor.domain.errors import ArchiveUnavailable, InvalidInput, StorageUnavailable
from bonetumor.service.complete import Completeness, Waits, close_complete_studies
from bonetumor.service.ports import Holding
from kit.ledger import START, close, instance

WAITS = Waits(
    settle=timedelta(seconds=0.5), quiet=timedelta(seconds=5), partial=timedelta(seconds=30)
)
STUDY = "1.2.3"


class Source:
    """An archive in a few answers; what is fetched arrives when the test says so."""

    def __init__(self):
        self.held = {}
        self.modalities = {}
        self.counts = True
        self.down = False
        self.fetched = []

    def hold(self, study, *uids, series=None, images=True):
        self.held.setdefault(study, {}).setdefault(series or f"{study}.1", set()).update(uids)
        self.modalities[series or f"{study}.1"] = images

    def holdings(self, study):
        if self.down:
            raise ArchiveUnavailable("archive: expected an answer, got none")
        return {
            s: Holding(len(uids) if self.counts else None, self.modalities[s])
            for s, uids in self.held.get(study, {}).items()
        }

    def instances(self, study, series):
        return frozenset(self.held[study][series])

    def fetch(self, study, missing):
        self.fetched.append((study, {s: set(uids) for s, uids in missing.items()}))


@pytest.fixture
def source():
    return Source()


@pytest.fixture
def completeness(ledger, clock, source):
    return Completeness(ledger=ledger, clock=clock, waits=WAITS, source=source)


def how(completeness):
    return [arrived.how for _, arrived in completeness.complete()]


def came(ledger, clock, *numbers, study=STUDY):
    for number in numbers:
        ledger.record_instance(instance(number, study=study, at=clock.now))


def uids(*numbers, study=STUDY):
    return [f"{study}.1.{n}" for n in numbers]


def test_equal_counts_are_proof_once_the_last_image_has_settled(
    completeness, ledger, clock, source
):
    source.hold(STUDY, *uids(1, 2))
    came(ledger, clock, 1, 2)
    assert how(completeness) == []
    clock.forward(0.5)
    assert how(completeness) == ["complete, 2 of 2 instances, as the archive counts"]


def test_a_study_that_cannot_be_closed_keeps_no_other_open(completeness, ledger, clock, source):
    studies, closed = [f"1.5.{number}" for number in range(1, 4)], []
    for study in studies:
        source.hold(study, *uids(1, study=study))
        came(ledger, clock, 1, study=study)
    clock.forward(1)

    def closing(study, _):
        if study.study_instance_uid == studies[0]:
            raise StorageUnavailable("spool: no file")
        closed.append(study.study_instance_uid)
        return True

    with pytest.raises(StorageUnavailable):
        close_complete_studies(completeness, closing)
    assert closed == studies[1:]


def test_an_archive_that_speaks_nonsense_is_no_proof_and_the_timer_goes_on(
    completeness, ledger, clock, source, monkeypatch
):
    def nonsense(_):
        raise InvalidInput("archive: expected multipart/related, got text/html")

    monkeypatch.setattr(source, "holdings", nonsense)
    came(ledger, clock, 1)
    clock.forward(1)
    assert how(completeness) == []
    clock.forward(5)
    [said] = how(completeness)
    assert said.endswith(
        "not proven: InvalidInput: archive: expected multipart/related, got text/html"
    )


def test_a_study_that_lacks_an_image_is_not_complete_and_the_image_is_asked_for(
    completeness, ledger, clock, source
):
    source.hold(STUDY, *uids(1, 2, 3))
    came(ledger, clock, 1, 2)
    for _ in range(40):
        clock.forward(0.2)
        assert how(completeness) == []
    assert source.fetched[0] == (STUDY, {f"{STUDY}.1": set(uids(3))})
    came(ledger, clock, 3)
    clock.forward(0.5)
    assert how(completeness) == ["complete, 3 of 3 instances, as the archive counts"]


def test_what_the_archive_never_sends_is_said(completeness, ledger, clock, source):
    source.hold(STUDY, *uids(1, 2, 3))
    came(ledger, clock, 1, 2)
    said = []
    while not said and clock.now < START + timedelta(minutes=2):
        clock.forward(1)
        said = how(completeness)
    assert said == [
        "no image for 5 s; not proven: 2 of 3 instances came, the archive holds the others"
    ]
    assert clock.now - START >= timedelta(seconds=30)


def test_equal_numbers_of_other_images_are_no_proof(completeness, ledger, clock, source):
    source.counts = False
    source.hold(STUDY, *uids(1, 9))
    came(ledger, clock, 1, 2)
    clock.forward(1)
    assert how(completeness) == []


def test_an_archive_that_holds_less_than_we_is_waited_for(completeness, ledger, clock, source):
    source.hold(STUDY, *uids(1))
    came(ledger, clock, 1, 2)
    clock.forward(1)
    assert how(completeness) == []
    source.hold(STUDY, *uids(2))
    clock.forward(2)
    assert how(completeness) == ["complete, 2 of 2 instances, as the archive counts"]


def test_reports_of_others_need_not_come(completeness, ledger, clock, source):
    source.hold(STUDY, *uids(1))
    source.hold(STUDY, f"{STUDY}.7.1", series=f"{STUDY}.7", images=False)
    came(ledger, clock, 1)
    clock.forward(1)
    assert how(completeness) == ["complete, 1 of 1 instances, as the archive counts"]


def test_an_archive_that_is_down_leaves_the_timer_and_the_result_says_why(
    completeness, ledger, clock, source
):
    source.down = True
    came(ledger, clock, 1)
    clock.forward(4)
    assert how(completeness) == []
    clock.forward(2)
    [said] = how(completeness)
    assert said.startswith("no image for 5 s; not proven: ArchiveUnavailable")


def test_an_archive_that_is_down_is_asked_by_one_study_and_not_by_all(
    completeness, ledger, clock, source
):
    source.down, asked = True, []
    holdings = source.holdings
    source.holdings = lambda study: asked.append(study) or holdings(study)
    for number in range(20):
        came(ledger, clock, 1, study=f"1.7.{number + 1}")
    for _ in range(8):
        clock.forward(1)
        said = how(completeness)
        if said:
            break
    assert len(asked) == 1
    assert len(said) == 20
    assert all(s.startswith("no image for 5 s; not proven: ArchiveUnavailable") for s in said)


def test_a_study_that_the_archive_does_not_know_waits_for_the_timer(completeness, ledger, clock):
    came(ledger, clock, 1)
    clock.forward(1)
    assert how(completeness) == []
    clock.forward(5)
    assert how(completeness) == [
        "no image for 5 s; not proven: the archive does not hold the study"
    ]


def test_announced_instances_are_proof_and_a_step_in_progress_is_waited_for(
    completeness, ledger, clock
):
    came(ledger, clock, 1, 2)
    assert ledger.note_step("1.9", STUDY, is_over=False)
    clock.forward(20)
    assert how(completeness) == []
    assert ledger.note_step("1.9", None, is_over=True)
    ledger.note_made("1.9", uids(1, 2, 3))
    ledger.note_made("1.9", uids(1, 2, 3))
    came(ledger, clock, 3)
    clock.forward(0.5)
    assert how(completeness) == ["complete, 3 of 3 announced instances came"]
    assert not ledger.note_step("1.10", None, is_over=True)


def test_a_modality_that_never_ends_its_step_is_given_up(completeness, ledger, clock):
    came(ledger, clock, 1)
    ledger.note_step("1.9", STUDY, is_over=False)
    clock.forward(31 * 60)
    [said] = how(completeness)
    assert "never ended it; not proven" in said


def test_no_study_of_a_thousand_is_called_complete_while_an_image_is_missing(
    completeness, ledger, clock, source
):
    """Shuffled, delayed, duplicated and missing instances; seed 1105."""
    chance = random.Random(1105)
    arrivals, studies = [], 1000
    for number in range(studies):
        study = f"1.5.{number + 1}"
        numbers = list(range(1, chance.randint(1, 12) + 1))
        source.hold(study, *uids(*numbers, study=study))
        chance.shuffle(numbers)
        absent = numbers[chance.randint(1, len(numbers)) :] if chance.random() < 0.1 else []
        at = chance.uniform(0, 60)
        for each in numbers:
            at += chance.choice([0.01, 0.05, 0.4, 2.0])
            if each not in absent:
                arrivals.append((at, study, each))
                if chance.random() < 0.1:
                    arrivals.append((at + chance.uniform(0, 3), study, each))
    arrivals.sort()
    waits, closed, done = [], 0, 0
    while closed < studies and clock.now < START + timedelta(minutes=10):
        clock.forward(0.2)
        now = (clock.now - START).total_seconds()
        while done < len(arrivals) and arrivals[done][0] <= now:
            at, study, each = arrivals[done]
            moment = START + timedelta(seconds=at)
            ledger.record_instance(instance(each, study=study, at=moment))
            done += 1
        for study, arrived in completeness.complete():
            uid = study.study_instance_uid
            ours = ledger.instance_uids(uid)
            assert arrived.is_proven, arrived.how
            assert ours == source.held[uid][f"{uid}.1"]
            assert close(ledger, uid, study.revision)
            waits.append((clock.now - study.last_instance_at).total_seconds())
            closed += 1
        for study, missing in source.fetched:
            for uid in missing[f"{study}.1"]:
                each = int(uid.rsplit(".", 1)[1])
                ledger.record_instance(instance(each, study=study, at=clock.now))
        source.fetched.clear()
    assert closed == studies
    assert statistics.median(waits) <= 1.0
