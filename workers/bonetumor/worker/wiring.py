"""The one place that builds adapters. Networks are built in `thinking.py`, for GPU workers only."""

import random
import socket
from datetime import UTC, datetime, timedelta

from bonetumor.dicom.archive import ArchiveAddress, DicomArchive
from bonetumor.dicom.inbox import Spool
from bonetumor.dicom.listener import Limits, Listener, tls_context
from bonetumor.dicom.negotiation import Policy
from bonetumor.dicom.reader import SpooledStudies
from bonetumor.dicom.upper_layer import Deadlines
from bonetumor.domain.errors import Misconfigured, StorageUnavailable
from bonetumor.domain.progress import Claim
from bonetumor.fhir.client import FhirClient
from bonetumor.fhir.labs import LabWindow
from bonetumor.fhir.patient import PatientMatcher
from bonetumor.fhir.record import FhirHealthRecord
from bonetumor.fhir.server import FhirReportServer
from bonetumor.service.complete import QuietPeriod
from bonetumor.service.intake import Intake
from bonetumor.service.ports import Archive, CompletenessProof, HealthRecord, Ledger, ReportServer
from bonetumor.store.engine import open_engine
from bonetumor.store.ledger import SqlLedger
from bonetumor.worker.settings import Settings


def now() -> datetime:
    """Now, in UTC."""
    return datetime.now(UTC)


def host_name() -> str:
    """What this machine's lease owners start with."""
    return socket.gethostname().split(".")[0][:40]


def owner(process: int) -> str:
    """A process of this machine as an owner of leases.

    The colon at the end keeps process 12 from being a prefix of process 123.
    """
    return f"{host_name()}:{process}:"


def build_ledger(settings: Settings) -> Ledger:
    """The ledger, with its tables in place."""
    _make_folder(settings)
    queue = settings.queue
    ledger = SqlLedger(
        open_engine(settings.database_url),
        clock=now,
        lease=timedelta(seconds=queue.lease_s),
        max_attempts=queue.max_attempts,
    )
    ledger.prepare()
    return ledger


def build_spool(settings: Settings) -> Spool:
    """The spool, with its folders in place."""
    _make_folder(settings)
    spool = Spool(
        settings.spool,
        max_object_bytes=settings.listener.max_object_bytes,
        min_free_bytes=settings.min_free_bytes,
    )
    spool.prepare()
    return spool


def build_listener(settings: Settings, ledger: Ledger) -> Listener:
    """The DICOM listener, not started."""
    chosen = settings.listener
    tls = None
    if chosen.tls_certificate is not None:
        if chosen.tls_key is None:
            raise Misconfigured(
                "listener.tls_key: expected a file beside tls_certificate, got none"
            )
        authority = chosen.tls_client_authority
        tls = tls_context(
            str(chosen.tls_certificate), str(chosen.tls_key), str(authority) if authority else None
        )
    return Listener(
        address=(chosen.host, chosen.port),
        policy=Policy(
            ae_title=chosen.ae_title,
            calling_ae_titles=chosen.calling_ae_titles,
            max_pdu_bytes=chosen.max_pdu_bytes,
        ),
        deadlines=Deadlines(
            associate_s=chosen.associate_deadline_s,
            pdu_s=chosen.pdu_deadline_s,
            idle_s=chosen.idle_deadline_s,
        ),
        limits=Limits(
            associations=chosen.associations, associations_per_peer=chosen.associations_per_peer
        ),
        intake=Intake(inbox=build_spool(settings), ledger=ledger, clock=now),
        tls=tls,
    )


def build_completeness(settings: Settings, ledger: Ledger) -> CompletenessProof:
    """How it is known that a study has arrived."""
    return QuietPeriod(ledger=ledger, clock=now, quiet=timedelta(seconds=settings.listener.quiet_s))


def build_studies(settings: Settings) -> SpooledStudies:
    """The reader of stored studies."""
    return SpooledStudies(build_spool(settings))


def build_archive(settings: Settings) -> Archive | None:
    """The archive, or None where none is configured."""
    return build_dicom_archive(settings)


def build_dicom_archive(settings: Settings) -> DicomArchive | None:
    """The archive with its C-ECHO, for the doctor."""
    if settings.archive is None:
        return None
    address = ArchiveAddress(
        host=settings.archive.host,
        port=settings.archive.port,
        ae_title=settings.archive.ae_title,
        calling_ae_title=settings.listener.ae_title,
        timeout_s=settings.archive.timeout_s,
    )
    return DicomArchive(address, build_studies(settings))


def build_fhir_client(settings: Settings) -> FhirClient | None:
    """The FHIR client, or None where no EHR is configured."""
    ehr = settings.ehr
    if ehr is None:
        return None
    return FhirClient(
        ehr.base_url,
        token=ehr.token.get_secret_value() if ehr.token else None,
        timeout_s=ehr.timeout_s,
        search_by_post=ehr.search_by_post,
    )


def build_record(settings: Settings, client: FhirClient | None) -> HealthRecord | None:
    """The EHR as a source of evidence."""
    if client is None or settings.ehr is None:
        return None
    window = LabWindow(
        before=timedelta(days=settings.ehr.labs_days_before),
        after=timedelta(days=settings.ehr.labs_days_after),
    )
    return FhirHealthRecord(client, PatientMatcher(client, settings.ehr.identifier_systems), window)


def build_report_server(settings: Settings, client: FhirClient | None) -> ReportServer | None:
    """The EHR as the place where reports go."""
    if client is None or settings.ehr is None:
        return None
    return FhirReportServer(client, settings.ehr.organization)


def backoff(settings: Settings, claim: Claim) -> timedelta:
    """Doubling waits up to the cap, with jitter so that workers do not knock together."""
    queue = settings.queue
    wait = min(queue.retry_max_s, queue.retry_s * 2 ** min(claim.put_offs, 20))
    return timedelta(seconds=wait * random.uniform(0.75, 1.25))  # noqa: S311 - jitter, not secrets


def _make_folder(settings: Settings) -> None:
    try:
        settings.folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageUnavailable(
            f"folder: expected to write into {settings.folder}, got {error.strerror}"
        ) from error
