"""Building what performs the workitems of a worklist."""

from datetime import timedelta

from pydicom.uid import generate_uid

from bonetumor.dicom.worklist import Meant, Retrieval, UpsWorklist
from bonetumor.domain.code import Code
from bonetumor.domain.errors import Misconfigured
from bonetumor.domain.uid import UID
from bonetumor.service.ledger import Ledger
from bonetumor.service.perform import Performing
from bonetumor.worker import wiring, wiring_results
from bonetumor.worker.settings import Settings, WorklistSettings

_OWN_CODES = "99BONETUMOR"


def build_performing(settings: Settings, chosen: WorklistSettings, ledger: Ledger) -> Performing:
    """What claims workitems and ends them."""
    source = wiring.build_source(settings, ledger)
    if source is None:
        raise Misconfigured("worklist: expected an archive that may be asked, got none")
    return Performing(
        ledger=ledger,
        worklist=build_worklist(settings, chosen),
        source=source,
        clock=wiring.now,
        new_uid=lambda: UID(generate_uid(prefix=None)),
        most=chosen.at_once,
        patience=timedelta(seconds=settings.listener.partial_s),
    )


def build_worklist(settings: Settings, chosen: WorklistSettings) -> UpsWorklist:
    """The worklist manager."""
    ae_title = settings.listener.ae_title
    station = _code(chosen.station, ae_title)
    return UpsWorklist(
        wiring_results.build_dicomweb(chosen, "worklist"),
        meant=Meant(label=chosen.label, workitem=_code(chosen.workitem, ""), station=station),
        ae_title=ae_title,
        station=station or Code(ae_title, _OWN_CODES, ae_title),
        retrieval={
            destination.name: Retrieval(
                ae_title=destination.ae_title, dicomweb_url=destination.dicomweb_url
            )
            for destination in settings.result_destinations
        },
        clock=wiring.now,
    )


def _code(text: str, meaning: str) -> Code | None:
    if not text:
        return None
    value, scheme = text.split("^")
    return Code(value, scheme, meaning)
