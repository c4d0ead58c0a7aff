"""The one place that builds adapters. Networks are built in `thinking.py`, for GPU workers only."""

import random
import socket
import ssl
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import httpx

from bonetumor.dicom.archive import PacsArchive, WebArchive
from bonetumor.dicom.bucket import Bucket
from bonetumor.dicom.decoding import DecodingChild
from bonetumor.dicom.inbox import Spool
from bonetumor.dicom.listener import Limits, Listener
from bonetumor.dicom.negotiation import Policy
from bonetumor.dicom.normalized import NormalizedServices
from bonetumor.dicom.peer import Peer, PeerAddress
from bonetumor.dicom.reader import SpooledStudies
from bonetumor.dicom.removal import SpooledFiles
from bonetumor.dicom.tls import client_context, server_context
from bonetumor.dicom.upper_layer import Deadlines
from bonetumor.dicom.web import Dicomweb
from bonetumor.domain.errors import InvalidInput, StorageUnavailable
from bonetumor.domain.progress import Claim
from bonetumor.service.complete import Arrived, Completeness, Waits, doubt
from bonetumor.service.intake import Intake
from bonetumor.service.ledger import Closing, Ledger, Receiving
from bonetumor.service.ports import StudySource
from bonetumor.service.retain import Retention
from bonetumor.service.rules import Judgement, Rule, judge, parse_rule
from bonetumor.store.engine import open_engine
from bonetumor.store.ledger import SqlLedger
from bonetumor.worker.settings import (
    ArchiveSettings,
    BucketSettings,
    DestinationSettings,
    PeerSettings,
    Settings,
)


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
        notify=[d.name for d in settings.result_destinations if d.notices],
    )
    ledger.prepare()
    return ledger


def build_spool(settings: Settings) -> Spool:
    """The spool, with its folders in place."""
    _make_folder(settings)
    chosen = settings.bucket
    spool = Spool(
        settings.spool,
        max_object_bytes=settings.listener.max_object_bytes,
        min_free_bytes=settings.min_free_bytes,
        bucket=None if chosen is None else build_bucket(chosen),
        copies_s=0 if chosen is None else 3600 * chosen.local_hours,
    )
    spool.prepare()
    return spool


def build_bucket(chosen: BucketSettings) -> Bucket:
    """Where received objects lie for machines without a common disk."""
    return Bucket(
        chosen.name,
        endpoint_url=chosen.endpoint_url,
        region=chosen.region,
        prefix=chosen.prefix,
        authority=chosen.authority,
        timeout_s=chosen.timeout_s,
    )


def build_listener(settings: Settings, ledger: Ledger) -> Listener:
    """The DICOM listener, not started."""
    chosen = settings.listener
    tls = None
    if chosen.tls_certificate is not None and chosen.tls_key is not None:
        authority = chosen.tls_client_authority
        tls = server_context(
            str(chosen.tls_certificate), str(chosen.tls_key), str(authority) if authority else None
        )
    return Listener(
        address=(chosen.host, chosen.port),
        policy=Policy(
            ae_titles=frozenset({chosen.ae_title, *chosen.other_ae_titles}),
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
        intake=build_intake(settings, ledger),
        told=NormalizedServices(ledger, ledger),
        tls=tls,
    )


def build_intake(settings: Settings, ledger: Ledger) -> Intake:
    """What takes instances in, however they come."""
    return Intake(inbox=build_spool(settings), ledger=ledger, clock=now)


def build_completeness(settings: Settings, ledger: Ledger) -> Completeness:
    """How it is known that a study has arrived."""
    listener = settings.listener
    return Completeness(
        ledger=ledger,
        clock=now,
        waits=Waits(
            settle=timedelta(seconds=min(listener.settle_s, listener.quiet_s)),
            quiet=timedelta(seconds=listener.quiet_s),
            partial=timedelta(seconds=max(listener.partial_s, listener.quiet_s)),
        ),
        source=build_source(settings, ledger),
    )


def build_source(settings: Settings, ledger: Ledger) -> StudySource | None:
    """The archive that is asked whether studies are complete, if there is one."""
    archive = settings.archive
    if archive is None or not archive.ask:
        return None
    intake = build_intake(settings, ledger)
    if archive.dicomweb_url:
        http = httpx.Client(timeout=archive.timeout_s, verify=build_tls(archive))
        return WebArchive(
            Dicomweb(archive.dicomweb_url, http),
            intake,
            name=archive.ae_title,
            called=settings.listener.ae_title,
        )
    return PacsArchive(build_peer(settings, archive), intake, fetching=archive.fetch)


def build_retention(settings: Settings, ledger: Ledger) -> Retention:
    """What removes images and evidence that are old enough."""
    days = settings.retention.keep_days
    return Retention(
        ledger=ledger,
        files=SpooledFiles(build_spool(settings)),
        clock=now,
        keep=None if days is None else timedelta(days=days),
    )


def build_rules(settings: Settings) -> list[Rule]:
    """The site's rules; raises Misconfigured if one cannot be read."""
    return [parse_rule(rule.when, rule.then) for rule in settings.rules]


def build_closing(settings: Settings, ledger: Ledger) -> Callable[[Receiving, Arrived], bool]:
    """What closes a study that is complete, once the rules have said whether it is for us."""
    rules, studies = build_rules(settings), build_studies(settings)

    def close(receiving: Receiving, arrived: Arrived) -> bool:
        judgement, unread = Judgement(), None
        if rules:
            try:
                facts = studies.facts(ledger.study(receiving.study_instance_uid))
                judgement = judge(rules, facts)
            except InvalidInput as error:
                unread = f"{error}: no rule can say whether the study is for us"
        return ledger.close_study(
            Closing(
                study_instance_uid=receiving.study_instance_uid,
                revision=receiving.revision,
                completeness=arrived.how,
                urgent=judgement.urgent,
                unwanted=judgement.unwanted,
                doubt=unread or doubt(receiving, arrived),
            )
        )

    return close


def build_studies(settings: Settings) -> SpooledStudies:
    """The reader of stored studies. Pixel data is decoded in a child process of its own."""
    return SpooledStudies(build_spool(settings), DecodingChild().images)


def build_peer(settings: Settings, chosen: ArchiveSettings | DestinationSettings) -> Peer:
    """A DICOM archive to talk to."""
    return Peer(
        PeerAddress(
            host=chosen.host,
            port=chosen.port,
            ae_title=chosen.ae_title,
            calling_ae_title=settings.listener.ae_title,
            timeout_s=chosen.timeout_s,
            tls=build_tls(chosen) if chosen.tls else None,
        )
    )


def build_tls(chosen: PeerSettings) -> ssl.SSLContext:
    """How we know the other side over TLS, and how it knows us."""
    files = (chosen.authority, chosen.certificate, chosen.key)
    return client_context(*(None if file is None else str(file) for file in files))


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
