"""Building what performs the workitems of a worklist."""

from datetime import timedelta

from pydicom.uid import generate_uid

from bonetumor.dicom.worklist import Code, Meant, Retrieval, UpsWorklist
from bonetumor.domain.uid import UID
from bonetumor.service.ledger import Ledger
from bonetumor.service.perform import Performing
from bonetumor.worker import wiring, wiring_results
from bonetumor.worker.settings import Settings

_OWN_CODES = "99BONETUMOR"


def build_performing(settings: Settings, ledger: Ledger) -> Performing | None:
    """What claims workitems and ends them; None without a worklist."""
    worklist, source = build_worklist(settings), wiring.build_source(settings, ledger)
    if settings.worklist is None or worklist is None or source is None:
        return None
    return Performing(
        ledger=ledger,
        worklist=worklist,
        source=source,
        clock=wiring.now,
        new_uid=lambda: UID(generate_uid(prefix=None)),
        most=settings.worklist.at_once,
        patience=timedelta(seconds=settings.listener.partial_s),
    )


def build_worklist(settings: Settings) -> UpsWorklist | None:
    """The worklist manager, if there is one."""
    chosen = settings.worklist
    if chosen is None:
        return None
    station, ae_title = _code(chosen.station), settings.listener.ae_title
    return UpsWorklist(
        wiring_results.build_dicomweb(chosen),
        meant=Meant(label=chosen.label, workitem=_code(chosen.workitem), station=station),
        ae_title=ae_title,
        station=station or Code(ae_title, _OWN_CODES),
        retrieval={
            destination.name: Retrieval(
                ae_title=destination.ae_title, dicomweb_url=destination.dicomweb_url
            )
            for destination in settings.result_destinations
        },
        clock=wiring.now,
    )


def _code(text: str) -> Code | None:
    return Code(*text.split("^")) if text else None
