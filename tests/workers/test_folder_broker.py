"""The embedded broker never hands out half a message."""

from pathlib import Path

import pytest
from kombu.exceptions import ChannelError
from kombu.transport import filesystem

from bonetumor.domain.progress import Errand, Step
from bonetumor.worker import folder_broker
from bonetumor.worker.app import build_app, queues_of
from bonetumor.worker.settings import Settings
from bonetumor.worker.tasks import Doorbell

_, USUAL = queues_of("gpu")
ERRAND = Errand(study_instance_uid="1.2.3", step=Step.ASSESS)


@pytest.fixture
def app(tmp_path):
    return build_app(Settings(folder=tmp_path))


@pytest.fixture
def take(app):
    with app.connection_for_read() as connection, connection.channel() as channel:
        yield lambda: channel.basic_get(USUAL, no_ack=True)


def test_nothing_is_taken_before_it_is_whole(app, take, monkeypatch):
    looks = []

    def looking(real):
        def look_first(*arguments):
            looks.append(take())
            return real(*arguments)

        return look_first

    for module in (folder_broker, filesystem):
        monkeypatch.setattr(module, "dumps", looking(module.dumps))
    monkeypatch.setattr(Path, "rename", looking(Path.rename))
    Doorbell(app).ring(ERRAND)
    assert len(looks) >= 2
    assert not any(looks)
    assert take().payload


def test_messages_are_taken_in_the_order_of_their_coming(app, take):
    bell = Doorbell(app)
    for number in range(20):
        bell.ring(Errand(study_instance_uid=f"1.2.{number}", step=Step.ASSESS))
    found = [str(take().payload) for _ in range(20)]
    assert [f"1.2.{number}'" in text for number, text in enumerate(found)] == [True] * 20
    assert take() is None


def test_what_a_killed_writer_left_is_nobody_s(app, take, monkeypatch):
    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", killed)
        with pytest.raises(KeyboardInterrupt):
            Doorbell(app).ring(ERRAND)
    assert take() is None


def test_a_folder_that_cannot_be_written_is_said(app, tmp_path):
    with app.connection_for_write() as connection, connection.channel() as channel:
        channel.data_folder_out = str(tmp_path / "nowhere")
        with pytest.raises(ChannelError, match="expected to write"):
            channel._put(USUAL, {})
