"""A model that never comes back: three workers end themselves, then the study fails visibly."""

from bonetumor.domain.progress import StudyState
from kit import studies
from kit.crew import IO_WORKER, LISTENER, Crew
from kit.plugin import Plugin, storescu
from kit.servers import answers, wait_until
from kit.sleeper import sleeper


def test_a_step_that_hangs_fails_after_three_attempts_and_holds_up_no_other(tmp_path):
    plugin = Plugin(tmp_path / "plugin", BONETUMOR_QUEUE__LEASE_S="4")
    paths, (uid,) = studies.write_many(tmp_path / "studies", "hung", 1)
    with Crew(plugin, [LISTENER, IO_WORKER, sleeper(3600)]):
        wait_until(lambda: answers(plugin.port), 60, "listener")
        storescu(plugin.port, *paths)
        assert plugin.wait(uid, StudyState.FAILED, seconds=120) is StudyState.FAILED
    assert "3 attempts that died (expected an end within 3.8 s, got none)" in plugin.problem(uid)
    crashes = [e for e in plugin.ledger.story(uid) if e.kind == "crashed"]
    assert len(crashes) == 3
