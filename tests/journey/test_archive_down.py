"""An archive that is away for five minutes, while studies come: all of them arrive there."""

import time

import pytest

from bonetumor.domain.progress import StudyState
from kit import studies
from kit.crew import IO_WORKER, LISTENER, Crew
from kit.plugin import Plugin, storescu
from kit.servers import Orthanc, answers, wait_until
from kit.sleeper import sleeper

AWAY_S, DELIVERED_WITHIN_S = 300, 600
STUDIES = 20
# With the waits as a site has them: 5 s, doubled up to 300, a quarter more or less.
WAITS = {"BONETUMOR_QUEUE__RETRY_S": "5", "BONETUMOR_QUEUE__RETRY_MAX_S": "300"}
MOST_ATTEMPTS = 9  # in five minutes, by waits that are all as short as they can be


@pytest.mark.timeout(AWAY_S + DELIVERED_WITHIN_S + 200)
def test_all_is_delivered_within_ten_minutes_of_its_return(tmp_path):
    archive = Orthanc(tmp_path / "orthanc")
    plugin = Plugin(tmp_path / "plugin", archive=archive, **WAITS)
    paths, uids = studies.write_many(tmp_path / "studies", "away", STUDIES)
    with Crew(plugin, [LISTENER, IO_WORKER, sleeper(0.05)]):
        wait_until(lambda: answers(plugin.port), 60, "listener")
        storescu(plugin.port, *paths)
        time.sleep(AWAY_S)
        assert not plugin.ledger.counts().get(StudyState.DONE)
        waiting = [plugin.ledger.one(uid) for uid in uids]
        assert {study.state for study in waiting} == {StudyState.DELIVERING}
        assert all("ArchiveUnavailable" in study.problem for study in waiting)
        tried = [[e.at for e in plugin.ledger.story(u) if e.kind == "put_off"] for u in uids]
        assert max(map(len, tried)) <= MOST_ATTEMPTS
        last = sorted(attempts[-1].timestamp() for attempts in tried)
        assert last[-1] - last[0] > 10  # they do not knock together
        with archive.up():
            back = time.time()
            done = {StudyState.DONE: STUDIES}
            wait_until(lambda: plugin.ledger.counts() == done, DELIVERED_WITHIN_S, "all delivered")
            print(f"{STUDIES} studies, all delivered {time.time() - back:.0f} s after the return")
            assert [len(archive.structured_reports(uid)) for uid in uids] == [1] * STUDIES
        plugin.ledger.close()
