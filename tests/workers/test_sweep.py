"""Ringing: nothing that is due stays unheard, and no queue drowns in messages."""

from collections import Counter
from dataclasses import replace

import pytest

from bonetumor.domain.progress import Step
from bonetumor.worker import sweep
from bonetumor.worker.app import GPU, IO, build_app, queue_of, queues_of
from bonetumor.worker.settings import Settings
from bonetumor.worker.sweep import MOST_WAITING, RING_AGAIN_S, Sweep
from bonetumor.worker.tasks import Doorbell
from kit.ledger import errand
from kit.servers import rabbitmq_server, redis_server


class Ledger:
    def __init__(self, *due):
        self.errands = list(due)

    def due(self):
        return self.errands


class Bell:
    """Messages that wait until the test takes them."""

    def __init__(self):
        self.messages, self.rung, self.is_up = [], Counter(), True

    def ring(self, errand):
        self.messages.append(errand)
        self.rung[errand] += 1

    def waiting(self, queue):
        return sum(queue_of(e) == queue for e in self.messages) if self.is_up else None


@pytest.fixture
def now(monkeypatch):
    class Now:
        at = 1000.0

    monkeypatch.setattr(sweep.time, "monotonic", lambda: Now.at)
    return Now


def errands(count, step=Step.GATHER):
    return [errand(step, study=f"1.{n}") for n in range(1, count + 1)]


def test_each_step_is_rung_for_once_while_its_message_waits(now):
    bell = Bell()
    swept = Sweep(Ledger(*errands(5)), bell)
    for _ in range(100):
        swept.once()
        now.at += RING_AGAIN_S
    assert bell.rung == Counter(errands(5))


def test_a_message_that_was_lost_is_sent_again_after_a_while(now):
    bell = Bell()
    swept = Sweep(Ledger(*errands(5)), bell)
    swept.once()
    bell.messages.clear()
    now.at += RING_AGAIN_S - 1
    swept.once()
    assert not bell.messages
    now.at += 1
    swept.once()
    assert bell.messages == errands(5)


def test_slow_workers_never_have_more_messages_than_steps_and_every_step_is_heard(now):
    """Two steps are done each second of three thousand; each is rung for hardly more than once."""
    left = errands(3000)
    ledger, bell = Ledger(*left), Bell()
    swept, most = Sweep(ledger, bell), 0
    while ledger.errands and now.at < 5000:
        swept.once()
        most = max(most, len(bell.messages))
        for message in bell.messages[:2]:
            bell.messages.remove(message)
            if message in ledger.errands:
                ledger.errands.remove(message)
        now.at += 1
    assert not ledger.errands
    assert most <= MOST_WAITING
    assert sum(bell.rung.values()) <= 1.01 * len(left)


def test_a_full_queue_holds_up_no_other(now):
    bell = Bell()
    urgent = replace(errand(Step.GATHER, study="2.1"), urgent=True)
    swept = Sweep(Ledger(*errands(1000), urgent, errand(Step.ASSESS, study="2.2")), bell)
    swept.once()
    (io_urgent, io), (_, gpu) = queues_of(IO), queues_of(GPU)
    assert Counter(map(queue_of, bell.messages)) == {io: MOST_WAITING, io_urgent: 1, gpu: 1}


def test_a_broker_that_is_down_is_not_rung_and_heard_of_once_it_is_back(now):
    bell = Bell()
    bell.is_up = False
    swept = Sweep(Ledger(*errands(2)), bell)
    swept.once()
    assert not bell.messages
    bell.is_up = True
    swept.once()
    assert bell.messages == errands(2)


@pytest.mark.parametrize("server", [None, redis_server, rabbitmq_server])
def test_messages_that_wait_are_counted_on_every_broker(server, tmp_path):
    def counted(url):
        bell = Doorbell(build_app(Settings(folder=tmp_path / "plugin", queue={"url": url})))
        (_, io), (_, gpu) = queues_of(IO), queues_of(GPU)
        counts = [bell.waiting(io)]
        for number in range(3):
            bell.ring(errand(Step.GATHER, study=f"1.{number + 1}"))
            counts.append(bell.waiting(io))
        return bell, [*counts, bell.waiting(gpu)]

    if server is None:
        assert counted("")[1] == [0, 1, 2, 3, 0]
        return
    with server(tmp_path / "broker") as url:
        bell, counts = counted(url)
    assert counts == [0, 1, 2, 3, 0]
    assert bell.waiting(queues_of(IO)[1]) is None
