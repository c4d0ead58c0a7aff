"""Receiving: an instance is safe before the sender hears Success."""

from bonetumor.domain.errors import BoneTumorError, StorageUnavailable
from bonetumor.domain.progress import Refusal
from bonetumor.domain.study import Instance
from bonetumor.service.ledger import Arrival, InstanceLedger
from bonetumor.service.ports import Announced, Clock, Inbox, Incoming


class Intake:
    """Takes instances from the listener into the inbox and the ledger."""

    def __init__(self, *, inbox: Inbox, ledger: InstanceLedger, clock: Clock) -> None:
        self._inbox = inbox
        self._ledger = ledger
        self._clock = clock

    def open(self, announced: Announced) -> Incoming:
        """A place for an object that is about to be sent."""
        return self._inbox.open(announced)

    def has_room(self) -> bool:
        """Whether a new sender may begin."""
        return self._inbox.has_room()

    def refuse(self, calling_ae_title: str, sop_instance_uid: str, error: BoneTumorError) -> None:
        """Remembers that an object was not taken; never fails, the sender is being told anyway."""
        try:
            self._ledger.note_refusal(
                Refusal(
                    at=self._clock(),
                    calling_ae_title=calling_ae_title,
                    sop_instance_uid=sop_instance_uid,
                    problem=f"{error.code}: {error}",
                )
            )
        except StorageUnavailable:
            return  # the ledger is why nothing is taken: A700 and the log say so

    def keep(self, incoming: Incoming) -> Arrival:
        """Checks, makes durable and records the object; only then may Success be answered.

        Raises:
            InvalidInput: the data set cannot be read or is not what was announced.
            StorageUnavailable: the spool or the ledger cannot be written now.
        """
        try:
            keys, size, sha256 = incoming.seal()
            incoming.publish(keys)
        except OSError as error:
            raise StorageUnavailable(f"spool: expected to write, got {error.strerror}") from error
        finally:
            incoming.discard()
        arrival = self._ledger.record_instance(
            Instance(
                keys=keys,
                transfer_syntax_uid=incoming.announced.transfer_syntax_uid,
                size=size,
                sha256=sha256,
                received_at=self._clock(),
                calling_ae_title=incoming.announced.calling_ae_title,
                called_ae_title=incoming.announced.called_ae_title,
            )
        )
        # Nearly all instances are new: asking first would cost each of them more than this. A
        # repetition replaced its own bytes.
        if arrival in (Arrival.CONFLICTING, Arrival.OURS):
            incoming.withdraw()
        return arrival
