"""Models that never come back, or take their worker with them; and messages that come too often."""

import pydicom

from bonetumor.domain.progress import Errand, Step, StudyState
from bonetumor.worker.app import build_app
from bonetumor.worker.settings import Settings
from bonetumor.worker.tasks import Doorbell
from kit import studies
from kit.crew import GPU_WORKER, IO_WORKER, LISTENER, Crew
from kit.plugin import Plugin, storescu
from kit.servers import answers, rabbitmq_server, wait_until
from kit.sleeper import sleeper


def test_a_step_that_hangs_fails_after_three_attempts(tmp_path):
    plugin = Plugin(tmp_path / "plugin", BONETUMOR_QUEUE__LEASE_S="4")
    paths, (uid,) = studies.write_many(tmp_path / "studies", "hung", 1)
    with Crew(plugin, [LISTENER, IO_WORKER, sleeper(3600)]):
        wait_until(lambda: answers(plugin.port), 60, "listener")
        storescu(plugin.port, *paths)
        assert plugin.wait(uid, StudyState.FAILED, seconds=180) is StudyState.FAILED
    assert "3 attempts that died (expected an end within 3.8 s, got none)" in plugin.problem(uid)
    crashes = [e for e in plugin.ledger.story(uid) if e.kind == "crashed"]
    assert len(crashes) == 3


def test_a_poison_study_stops_after_three_attempts_and_its_neighbours_go_on(tmp_path):
    """Over RabbitMQ, whose quorum queue delivers a message again when its worker is gone."""
    paths, uids = studies.write_many(tmp_path / "studies", "poison", 12)
    poison = str(pydicom.dcmread(paths[4], stop_before_pixels=True).SOPInstanceUID)
    with rabbitmq_server(tmp_path / "broker") as url:
        plugin = Plugin(tmp_path / "plugin", BONETUMOR_QUEUE__URL=url, BONETUMOR_QUEUE__LEASE_S="4")
        workers = [sleeper(0.2, poison)] * 2
        with Crew(plugin, [LISTENER, IO_WORKER, *workers]):
            wait_until(lambda: answers(plugin.port), 60, "listener")
            storescu(plugin.port, *paths)
            wanted = {StudyState.DONE: 11, StudyState.FAILED: 1}
            wait_until(lambda: plugin.ledger.counts() == wanted, 240, "all but the poison done")
    assert plugin.state(uids[4]) is StudyState.FAILED
    assert "got 3 attempts that died" in plugin.problem(uids[4])
    assert plugin.command("replay", "--problem", "3 attempts that died").returncode == 0
    assert plugin.state(uids[4]) is StudyState.GATHERED


def test_every_message_a_hundred_times_makes_one_result(tmp_path, orthanc, fhir_server):
    record = studies.record(345)
    fhir_server.load(record)
    files = studies.write(tmp_path / "study", 345)
    study = str(pydicom.dcmread(files[0]).StudyInstanceUID)
    plugin = Plugin(tmp_path / "plugin", archive=orthanc, ehr=fhir_server)
    bell = Doorbell(build_app(Settings(folder=plugin.folder)))
    errands = [
        Errand(study_instance_uid=study, step=step)
        for step in (Step.GATHER, Step.ASSESS, Step.DISPATCH)
    ] + [
        Errand(study_instance_uid=study, step=step, destination=name)
        for step in (Step.SEND, Step.CONFIRM)
        for name in ("archive", "ehr")
    ]
    with Crew(plugin, [LISTENER]):
        wait_until(lambda: answers(plugin.port), 60, "listener")
        storescu(plugin.port, *files)
        plugin.wait(study, StudyState.COMPLETE)
        for _ in range(100):
            for errand in errands:
                bell.ring(errand)
        with Crew(plugin, [IO_WORKER, IO_WORKER, IO_WORKER, GPU_WORKER, GPU_WORKER]):
            assert plugin.wait(study, seconds=240) is StudyState.DONE
            wait_until(lambda: not any(plugin.folder.glob("queues/messages/*")), 240, "silence")
    kinds = [event.kind for event in plugin.ledger.story(study)]
    for kind, count in {"gathered": 1, "assessed": 1, "delivering": 1, "sent": 2}.items():
        assert kinds.count(kind) == count, kinds
    assert len(orthanc.structured_reports(study)) == 1
    [imaging] = fhir_server.search("ImagingStudy", identifier=f"urn:dicom:uid|urn:oid:{study}")
    referred = [
        report["id"]
        for report in fhir_server.search("DiagnosticReport", _count="1000")
        for shown in report.get("imagingStudy", [])
        if shown["reference"] == f"ImagingStudy/{imaging['id']}"
    ]
    assert len(referred) == 1
