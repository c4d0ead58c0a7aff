"""A ledger with a million studies: how long people and the dispatcher wait. Asserts nothing.

usage: python tests/bench_ledger.py [--studies N]
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from sqlalchemy import insert

from bonetumor.domain.progress import STOPPED, DeliveryState, StudyState
from bonetumor.store.engine import open_engine
from bonetumor.store.ledger import SqlLedger
from bonetumor.store.schema import deliveries, events, instances, studies

_CHUNK = 20_000
_START = datetime(2026, 1, 1, tzinfo=UTC)
_WALK = ("receiving", "complete", "gathered", "assessed", "delivering", "sent", "confirmed", "done")


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("--studies", type=int, default=1_000_000)
    count = options.parse_args().studies
    with tempfile.TemporaryDirectory(prefix="bonetumor-bench-") as folder:
        path = Path(folder) / "ledger.sqlite"
        ledger = SqlLedger(
            open_engine(f"sqlite:///{path}"),
            clock=lambda: _START + timedelta(days=400),
            lease=timedelta(minutes=15),
            max_attempts=3,
        )
        ledger.prepare()
        began = time.perf_counter()
        for first in range(0, count, _CHUNK):
            _fill(ledger, range(first, min(count, first + _CHUNK)))
        print(
            f"{count} studies written in {time.perf_counter() - began:.0f} s, "
            f"{path.stat().st_size / 1e9:.2f} GB. Milliseconds, median and worst of 20:"
        )
        middle = _uid(count // 2)
        _time("status: the newest 30", lambda: ledger.progress(limit=30))
        _time("status: counts", ledger.counts)
        _time("status --state failed", lambda: ledger.progress(states=STOPPED, limit=30))
        _time("a study's page: row", lambda: ledger.one(middle))
        _time("a study's page: story", lambda: ledger.story(middle))
        _time("a study's page: deliveries", lambda: ledger.deliveries(middle))
        _time("dispatcher: what is due", ledger.due)
        _time("completeness: what is receiving", ledger.receiving)
        ledger.close()


def _uid(number: int) -> str:
    return f"2.25.{10**30 + number}"


def _fill(ledger: SqlLedger, numbers: range) -> None:
    """All done, but for one in ten thousand that failed."""
    rows, images, told, sent = [], [], [], []
    for n in numbers:
        at = _START + timedelta(seconds=30 * n)
        state = StudyState.FAILED if n % 10_000 == 7 else StudyState.DONE
        rows.append(
            {
                "study_instance_uid": _uid(n),
                "state": state,
                "revision": 1,
                "completeness": "no image for 10 s",
                "last_instance_at": at,
                "updated_at": at,
                "problem": "a reason" if state is StudyState.FAILED else None,
            }
        )
        images.append(
            {
                "sop_instance_uid": f"{_uid(n)}.1.1",
                "study_instance_uid": _uid(n),
                "series_instance_uid": f"{_uid(n)}.1",
                "sop_class_uid": "1.2.840.10008.5.1.4.1.1.1.1",
                "transfer_syntax_uid": "1.2.840.10008.1.2.1",
                "size": 2_000_000,
                "sha256": f"{n:064x}",
                "received_at": at,
                "calling_ae_title": "PACS",
            }
        )
        told += [
            {
                "study_instance_uid": _uid(n),
                "revision": 1,
                "at": at,
                "kind": kind,
                "detail": "what happened, in a sentence of usual length",
            }
            for kind in _WALK
        ]
        sent += [
            {
                "study_instance_uid": _uid(n),
                "revision": 1,
                "content": "result",
                "destination": name,
                "state": DeliveryState.CONFIRMED,
                "opened_at": at,
                "updated_at": at,
            }
            for name in ("pacs", "ehr")
        ]
    with ledger._transaction() as connection:
        for table, values in ((studies, rows), (instances, images), (events, told)):
            connection.execute(insert(table), values)
        connection.execute(insert(deliveries), sent)


def _time(name: str, action: Callable[[], object]) -> None:
    spent = []
    for _ in range(20):
        start = time.perf_counter()
        action()
        spent.append(1000 * (time.perf_counter() - start))
    print(f"  {name:<34} {statistics.median(spent):8.1f} {max(spent):8.1f}", flush=True)


if __name__ == "__main__":
    main()
