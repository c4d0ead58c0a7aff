"""Building the places that results go to."""

from datetime import timedelta

import httpx

from bonetumor.dicom.destination import DicomDestination
from bonetumor.dicom.objects import Kind, ObjectMaker
from bonetumor.dicom.web import Dicomweb, DicomwebDestination
from bonetumor.fhir.client import FhirClient
from bonetumor.service.deliver import ReportDestination, ShelfDestination
from bonetumor.service.ledger import Ledger, Outbox
from bonetumor.service.ports import Destination
from bonetumor.worker import wiring, wiring_ehr
from bonetumor.worker.settings import DestinationSettings, Settings, WorklistSettings


def build_destinations(
    settings: Settings, ledger: Ledger, client: FhirClient | None
) -> dict[str, Destination]:
    """Every place that results go to, by name."""
    found: dict[str, Destination] = {
        chosen.name: build_destination(settings, chosen, ledger)
        for chosen in settings.result_destinations
    }
    if settings.web is not None:
        found["shelf"] = ShelfDestination(wiring_ehr.build_shelve(settings, ledger))
    server = wiring_ehr.build_report_server(settings, client)
    if server is not None:
        found["ehr"] = ReportDestination(server)
    return found


def build_destination(
    settings: Settings,
    chosen: DestinationSettings,
    ledger: Outbox,
    maker: ObjectMaker | None = None,
) -> DicomDestination | DicomwebDestination:
    """One archive that results go to; `maker` where the objects come from elsewhere."""
    maker = maker or ObjectMaker(
        wiring.build_studies(settings),
        [Kind(k) for k in chosen.results],
        every_slice=chosen.every_slice,
    )
    if chosen.dicomweb_url:
        return DicomwebDestination(chosen.name, build_dicomweb(chosen), maker, ledger)
    return DicomDestination(
        chosen.name,
        wiring.build_peer(settings, chosen),
        maker,
        ledger,
        confirmation=chosen.confirm,
        commitment_wait=timedelta(seconds=chosen.commitment_wait_s),
        clock=wiring.now,
    )


def build_dicomweb(
    chosen: DestinationSettings | WorklistSettings, called: str = "archive"
) -> Dicomweb:
    """A DICOMweb service to talk to."""
    token = chosen.token.get_secret_value() if chosen.token else ""
    http = httpx.Client(
        verify=wiring.build_tls(chosen),
        timeout=chosen.timeout_s,
        headers={"Authorization": f"Bearer {token}"} if token else {},
    )
    return Dicomweb(chosen.dicomweb_url, http, called)
