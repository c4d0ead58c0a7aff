"""The canary: a worker that hears the broker is left alone, and one that does not ends itself."""

import threading

import pytest

from bonetumor.worker.app import build_app
from bonetumor.worker.canary import Canary, Perch
from bonetumor.worker.settings import Settings
from kit.ledger import START, Clock, sqlite_ledger
from kit.servers import free_port, redis_server


@pytest.fixture
def settings(tmp_path):
    return Settings(folder=tmp_path)


def made(settings, *, is_busy=lambda: False):
    ended, heard = threading.Event(), threading.Event()
    perch = Perch(settings, "here", "io")
    canary = Canary(
        build_app(settings),
        perch.queue,
        every_s=0.2,
        heard=heard.set,
        is_busy=is_busy,
        end=ended.set,
    )
    return canary, ended, heard


def test_a_worker_that_hears_nothing_ends_itself(settings):
    canary, ended, heard = made(settings)
    canary.start()
    assert ended.wait(10)
    assert not heard.is_set()


def test_a_worker_that_is_busy_is_waited_for(settings):
    canary, ended, _ = made(settings, is_busy=lambda: True)
    canary.start()
    assert not ended.wait(2)


def test_a_broker_that_is_down_is_no_proof_against_a_worker(tmp_path):
    with redis_server(tmp_path / "redis", free_port()) as url:
        pass
    canary, ended, _ = made(Settings(folder=tmp_path, queue={"url": url}))
    canary.start()
    assert not ended.wait(2)


def test_each_worker_has_a_place_of_its_own_and_places_are_used_again(settings):
    first, second = Perch(settings, "here", "io"), Perch(settings, "here", "io")
    assert (first.queue, second.queue) == (
        "bonetumor.canary.here-io-0",
        "bonetumor.canary.here-io-1",
    )
    first.leave()
    assert Perch(settings, "here", "io").queue == first.queue


def test_the_ledger_knows_who_was_heard_of_and_forgets_the_dead(tmp_path):
    clock = Clock()
    with sqlite_ledger(tmp_path, clock) as ledger:
        ledger.note_alive("here:1:", "io")
        clock.forward(30)
        ledger.note_alive("here:12:", "gpu")
        ledger.note_alive("here:1:", "io")
        assert {w.owner: w.started_at == START for w in ledger.workers()} == {
            "here:1:": True,
            "here:12:": False,
        }
        ledger.free("here:1:")
        assert [w.owner for w in ledger.workers()] == ["here:12:"]
        clock.forward(2 * 86400)
        ledger.note_alive("here:3:", "io")
        assert [w.owner for w in ledger.workers()] == ["here:3:"]
