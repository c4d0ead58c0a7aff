"""The same code on RabbitMQ and on Redis, with a PostgreSQL ledger beside one of them."""

import pydicom

from bonetumor.domain.progress import StudyState
from kit import studies
from kit.plugin import Plugin, storescu
from kit.servers import postgres_server, rabbitmq_server, redis_server


def test_the_walk_on_redis(tmp_path, orthanc):
    with redis_server(tmp_path / "redis") as url:
        _walk(tmp_path, orthanc, 201, BONETUMOR_QUEUE__URL=url)


def test_the_walk_on_rabbitmq_with_a_postgresql_ledger(tmp_path_factory, orthanc):
    folder = tmp_path_factory.mktemp("amqp")
    with rabbitmq_server(folder / "rabbitmq") as url, postgres_server(folder / "pg") as ledger:
        _walk(folder, orthanc, 202, BONETUMOR_QUEUE__URL=url, BONETUMOR_LEDGER_URL=ledger)


def _walk(folder, orthanc, number, **settings):
    files = studies.write(folder / "study", number)
    study = str(pydicom.dcmread(files[0]).StudyInstanceUID)
    plugin = Plugin(folder / "plugin", archive=orthanc, **settings)
    with plugin.up():
        storescu(plugin.port, *files)
        assert plugin.wait(study) is StudyState.DONE, plugin.problem(study)
        assert "broker" in plugin.command("doctor").stdout
    assert len(orthanc.structured_reports(study)) == 1
    assert not list(plugin.folder.glob("queues/messages/*")), "the embedded broker was not used"
