"""Machines that share no disk: one takes studies, the others work on them."""

import pydicom

from bonetumor.domain.progress import StudyState
from kit import studies
from kit.crew import GPU_WORKER, IO_WORKER, LISTENER, Crew
from kit.objects import ACCESS, ObjectStore
from kit.plugin import Plugin, storescu
from kit.servers import answers, postgres_server, redis_server, wait_until


def test_workers_on_other_machines_read_what_the_listener_took(tmp_path, orthanc, fhir_server):
    """Each process has a disk of its own; the worker of the queue gpu loses its own half-way."""
    for number in (347, 348):
        fhir_server.load(studies.record(number))
    first, second = (studies.write(tmp_path / str(n), n, images=2) for n in (347, 348))
    uids = [str(pydicom.dcmread(f[0]).StudyInstanceUID) for f in (first, second)]
    with (
        postgres_server(tmp_path / "postgres") as ledger,
        redis_server(tmp_path / "redis") as queue,
        ObjectStore(tmp_path / "weed").up() as store,
    ):

        def machine(name):
            return Plugin(
                tmp_path / name,
                archive=orthanc,
                ehr=fhir_server,
                BONETUMOR_LEDGER_URL=ledger,
                BONETUMOR_QUEUE__URL=queue,
                BONETUMOR_BUCKET__NAME=store.NAME,
                BONETUMOR_BUCKET__ENDPOINT_URL=store.url,
                **ACCESS,
            )

        listener, io, gpu, new_gpu = (machine(n) for n in ("listener", "io", "gpu", "new gpu"))
        assert "can be written, listed and read" in io.command("doctor").stdout
        with Crew(listener, [LISTENER]), Crew(io, [IO_WORKER]):
            wait_until(lambda: answers(listener.port), 60, "listener")
            for files, uid, machine_of_gpu in zip(
                (first, second), uids, (gpu, new_gpu), strict=True
            ):
                with Crew(machine_of_gpu, [GPU_WORKER]):
                    storescu(listener.port, *files)
                    assert listener.wait(uid, seconds=180) is StudyState.DONE
        listener.ledger.close()
    for uid in uids:
        assert len(orthanc.structured_reports(uid)) == 1
    for place, count in ((gpu, 2), (new_gpu, 2), (io, 4), (listener, 4)):
        assert len(list((place.folder / "spool").glob("*/*.dcm"))) <= count
    assert len(list((new_gpu.folder / "spool").glob("*/*.dcm"))) == 2
