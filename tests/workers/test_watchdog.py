"""A worker that hangs or grows ends itself, and only then."""

import threading
import time

import pytest

from bonetumor.worker.watchdog import Watchdog

GIB = 1024**3


def watched(seconds, *, limit_s=60.0, limit_bytes=64 * GIB, give_up=None):
    """What a step of some seconds is told before the process would end; None if it may go on."""
    said, ended = [], threading.Event()
    watchdog = Watchdog(
        limit_s=limit_s, limit_bytes=limit_bytes, give_up=give_up or said.append, end=ended.set
    )
    with watchdog.watching():
        ended.wait(seconds)
    return (said or [""])[0] if ended.is_set() else None


def test_a_step_that_ends_in_time_is_left_alone():
    assert watched(1.2) is None


def test_a_step_that_takes_too_long_is_given_back_and_its_worker_ends():
    assert watched(10, limit_s=0.1) == "expected an end within 0.1 s, got none"


def test_a_step_that_takes_too_much_memory_is_given_back_and_its_worker_ends():
    assert watched(10, limit_bytes=1024).startswith("expected at most 0 MiB of memory, got ")


@pytest.mark.timeout(30)
def test_a_ledger_that_hangs_too_does_not_keep_the_worker():
    assert watched(20, limit_s=0.1, give_up=lambda _: time.sleep(600)) == ""


def test_between_steps_nothing_is_watched():
    ended = threading.Event()
    Watchdog(limit_s=0.0, limit_bytes=0, give_up=lambda _: None, end=ended.set)
    assert not ended.wait(1.5)
