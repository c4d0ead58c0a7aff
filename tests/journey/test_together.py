"""One gpu worker with several studies at once: the same results, and each study's fate its own."""

from collections import Counter

import pydicom
import pytest

from bonetumor.domain.progress import StudyState
from bonetumor.service.assess import assess
from bonetumor.store import documents
from bonetumor.weights.installed import synthetic_bundle
from bonetumor.worker import thinking, wiring
from bonetumor.worker.settings import Settings
from kit import studies
from kit.crew import GPU_WORKER, IO_WORKER, LISTENER, Crew
from kit.plugin import Plugin, storescu
from kit.servers import answers, wait_until
from kit.sleeper import sleeper

STUDIES = 4
NUMBERS = range(360, 368)


def all_wait_for_the_gpu(plugin, paths, uids):
    wait_until(lambda: answers(plugin.port), 60, "listener")
    storescu(plugin.port, *paths)
    waiting = {StudyState.GATHERED: len(uids)}
    wait_until(lambda: plugin.ledger.counts() == waiting, 120, "all gathered")


def kept(plugin, study, kind):
    return plugin.ledger._documents(study, kind)[0]


@pytest.fixture(scope="module")
def plugin(tmp_path_factory):
    """Eight patients, four at once, and batches of four."""
    folder = tmp_path_factory.mktemp("together")
    paths = [path for n in NUMBERS for path in studies.write(folder / "studies", n, images=2)]
    uids = {str(pydicom.dcmread(path).StudyInstanceUID) for path in paths}
    made = Plugin(
        folder / "plugin",
        BONETUMOR_MODEL__ENGINE="torch",
        BONETUMOR_MODEL__STUDIES=str(STUDIES),
        BONETUMOR_MODEL__BATCH="4",
    )
    with Crew(made, [LISTENER, IO_WORKER]):
        all_wait_for_the_gpu(made, paths, uids)
        with Crew(made, [GPU_WORKER]):
            for uid in uids:
                assert made.wait(uid) is StudyState.DONE, made.problem(uid)
    yield made, uids
    made.ledger.close()


def test_each_result_is_the_one_that_the_study_gives_alone(plugin):
    """To the bit: boxes, scores, probabilities, heat maps, identities."""
    running, uids = plugin
    chosen = {"engine": "torch", "batch": STUDIES, "bundle": synthetic_bundle()}
    settings = Settings(folder=running.folder, model=chosen)
    model = thinking.build_model(settings)
    boxes = 0
    for uid in uids:
        found = documents.decode_assessment(kept(running, uid, documents.ASSESSMENT))
        alone = assess(
            running.ledger.study(uid),
            documents.decode_evidence(kept(running, uid, documents.EVIDENCE)),
            reader=wiring.build_studies(settings),
            slides=thinking.BundleSlides(settings.model.bundle),
            model=model,
            texts=running.ledger,
            clock=lambda at=found.assessed_at: at,
        )
        assert found == alone
        boxes += len(found.lesions)
    assert boxes >= len(NUMBERS) / 2


def test_they_were_assessed_at_once(plugin):
    assert "studies at once" in (plugin[0].folder / "crew.log").read_text()


def test_a_study_that_kills_its_worker_costs_its_neighbours_one_attempt(tmp_path):
    paths, uids = studies.write_many(tmp_path / "studies", "together", 2 * STUDIES)
    poison = str(pydicom.dcmread(paths[1], stop_before_pixels=True).SOPInstanceUID)
    plugin = Plugin(
        tmp_path / "plugin", BONETUMOR_MODEL__STUDIES=str(STUDIES), BONETUMOR_QUEUE__LEASE_S="12"
    )
    with Crew(plugin, [LISTENER, IO_WORKER]):
        all_wait_for_the_gpu(plugin, paths, uids)
        with Crew(plugin, [sleeper(0.5, poison)]):
            wanted = {StudyState.DONE: len(uids) - 1, StudyState.FAILED: 1}
            wait_until(lambda: plugin.ledger.counts() == wanted, 240, "all but the poison done")
    assert "got 3 attempts that died" in plugin.problem(uids[1])
    done = Counter(event.kind for u in uids for event in plugin.ledger.story(u))
    assert done["assessed"] == len(uids) - 1
    plugin.ledger.close()
