"""`conformance`: the DICOM conformance statement of an installation (layout after PS3.2 annex A).

Written from the settings and from what the code negotiates, so that it says what runs.
"""

from collections.abc import Iterable, Sequence

from pydicom.uid import UID
from pynetdicom import AllStoragePresentationContexts
from pynetdicom.sop_class import (
    InstanceAvailabilityNotification,
    ModalityPerformedProcedureStep,
    StorageCommitmentPushModel,
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelGet,
    StudyRootQueryRetrieveInformationModelMove,
)

from bonetumor.dicom.dimse import Status
from bonetumor.dicom.inbox import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from bonetumor.dicom.negotiation import storage_contexts
from bonetumor.dicom.objects import SOP_CLASSES, Kind
from bonetumor.dicom.presentation import ASSESSED_SOP_CLASSES
from bonetumor.worker.settings import DestinationSettings, Settings

_STATUSES = {
    Status.SUCCESS: "file synced, renamed, folder synced, ledger committed; also for an identical "
    "repetition and for an object of our own that comes back",
    Status.OUT_OF_RESOURCES: "no room in the spool, or the ledger cannot be written",
    Status.DOES_NOT_MATCH_SOP_CLASS: "SOP Class or Instance UID differ from the command or from "
    "the presentation context",
    Status.CANNOT_UNDERSTAND: "the data set cannot be parsed, a UID is none, or the object is "
    "above the configured size",
    Status.CONFLICTING_INSTANCE: "other bytes under a SOP Instance UID that is stored: the first "
    "are kept",
    Status.UNRECOGNIZED_OPERATION: "a DIMSE service that is not listed here",
}


def statement(settings: Settings) -> str:
    """The statement as Markdown."""
    parts = [
        "# DICOM conformance statement",
        "Written by `bonetumor conformance` from the settings of this installation.",
        *_overview(settings),
        *_storage_scp(settings),
        *_told(),
        *_source(settings),
        *_worklist(settings),
        *_destinations(settings),
        *_security(settings),
    ]
    return "\n\n".join(parts) + "\n"


def _overview(settings: Settings) -> Sequence[str]:
    listener = settings.listener
    names = [listener.ae_title, *sorted(listener.other_ae_titles)]
    asked = settings.archive is not None and settings.archive.ask
    return (
        "## 1 Overview",
        _table(
            ("network service", "user (SCU)", "provider (SCP)"),
            [
                ("Verification", "yes", "yes"),
                ("Storage", _yes(settings.result_destinations), "yes"),
                ("Query, retrieval (study root)", _yes(asked), "no"),
                ("Storage Commitment", _yes(settings.result_destinations), "no"),
                ("MPPS, Instance Availability Notification", "no", "yes"),
                ("STOW-RS, QIDO-RS, WADO-RS", _yes(_over_web(settings)), "no"),
                ("UPS-RS", _yes(settings.worklist), "no"),
            ],
        ),
        "## 2 Application entities",
        _table(
            ("", ""),
            [
                ("AE titles", ", ".join(f"`{name}`" for name in names)),
                ("address", f"{listener.host}:{listener.port}"),
                ("Implementation Class UID", IMPLEMENTATION_CLASS_UID),
                ("Implementation Version Name", IMPLEMENTATION_VERSION_NAME),
                ("application context", "1.2.840.10008.3.1.1.1"),
                (
                    "associations at once",
                    f"{listener.associations}, {listener.associations_per_peer} from one address",
                ),
                ("asynchronous operations, user identity", "not negotiated"),
            ],
        ),
    )


def _storage_scp(settings: Settings) -> Sequence[str]:
    listener = settings.listener
    known = {c.abstract_syntax for c in AllStoragePresentationContexts}
    storage = [c for c in storage_contexts() if c.abstract_syntax in known]
    syntaxes = sorted(UID(str(s)) for s in storage[0].transfer_syntax)
    callers = ", ".join(sorted(listener.calling_ae_titles)) or "everyone"
    return (
        "## 3 Storage SCP",
        (
            "Storage level 2 (full): data sets are kept byte for byte. Called AE titles are "
            f"checked; callers allowed: {callers}. Maximum PDU {listener.max_pdu_bytes} bytes, "
            "offered and enforced. Deadlines: association request "
            f"{listener.associate_deadline_s:g} s, whole PDU {listener.pdu_deadline_s:g} s, idle "
            f"{listener.idle_deadline_s:g} s. Associations for storage are rejected (transient, "
            "temporary congestion) while too many are open, or the disk has little room."
        ),
        (
            f"{len(storage)} SOP classes, each in {len(syntaxes)} transfer syntaxes; of several in "
            "one context Implicit VR Little Endian is taken where it is among them."
        ),
        _table(("transfer syntax", "UID"), [(s.name, str(s)) for s in syntaxes]),
        _table(("status", "when"), [(f"{s:04X}", why) for s, why in _STATUSES.items()]),
        "Assessed are: "
        + ", ".join(sorted(UID(uid).name for uid in ASSESSED_SOP_CLASSES))
        + ". Others are kept.",
        "### SOP classes",
        _table(
            ("SOP class", "UID"),
            [(UID(str(c.abstract_syntax)).name, str(c.abstract_syntax)) for c in storage],
        ),
    )


def _told() -> Sequence[str]:
    return (
        "## 4 What peers tell us",
        _table(
            ("SOP class", "UID", "service", "what follows"),
            [
                _row(
                    ModalityPerformedProcedureStep,
                    "N-CREATE, N-SET",
                    "the study waits for the step's end and for what it lists",
                ),
                _row(
                    InstanceAvailabilityNotification,
                    "N-CREATE",
                    "the study is complete once all that is ONLINE or NEARLINE has come",
                ),
                _row(StorageCommitmentPushModel, "N-EVENT-REPORT", "the delivery is confirmed"),
            ],
        ),
    )


def _source(settings: Settings) -> Sequence[str]:
    archive = settings.archive
    if archive is None or not archive.ask:
        return (
            "## 5 Query SCU",
            (
                "No archive is asked: studies are complete after "
                f"{settings.listener.quiet_s:g} s without an image, and results say so."
            ),
        )
    if archive.dicomweb_url:
        how = "over DICOMweb: QIDO-RS for series and instances, WADO-RS for what is missing"
        return ("## 5 Query client", f"The archive is asked {how}.")
    services = [(StudyRootQueryRetrieveInformationModelFind, "SERIES and IMAGE level")]
    if archive.fetch in ("auto", "get"):
        services.append((StudyRootQueryRetrieveInformationModelGet, "IMAGE level, UIDs listed"))
    if archive.fetch in ("auto", "move"):
        services.append((StudyRootQueryRetrieveInformationModelMove, "to our own AE title"))
    return (
        "## 5 Query SCU",
        (
            f"Asked: `{archive.ae_title}` at {archive.host}:{archive.port}, "
            f"{settings.listener.settle_s:g} s after the last image."
        ),
        _table(("SOP class", "UID", "use"), [(u.name, str(u), use) for u, use in services]),
    )


def _worklist(settings: Settings) -> Sequence[str]:
    chosen = settings.worklist
    if chosen is None:
        return ()
    keys = [
        ("Procedure Step State", "(0074,1000)", "SCHEDULED"),
        ("Input Readiness State", "(0040,4041)", "READY"),
        ("Worklist Label", "(0074,1202)", chosen.label),
        ("Scheduled Workitem Code Sequence", "(0040,4018)", chosen.workitem),
        ("Scheduled Station Name Code Sequence", "(0040,4025)", chosen.station),
    ]
    return (
        "### Worklist",
        (
            f"A performer of Unified Procedure Steps: {chosen.dicomweb_url} is searched every "
            f"{chosen.every_s:g} s, and of what fits at most {chosen.at_once} workitems are "
            "claimed at a time. Used are Search, Retrieve, Update and Change Workitem State "
            "(PS3.18 11); there is no subscription, and requests to cancel are not heard."
        ),
        _table(("attribute", "tag", "value"), [row for row in keys if row[2]]),
    )


def _destinations(settings: Settings) -> Sequence[str]:
    parts = ["## 6 Storage SCU"]
    if not settings.result_destinations:
        parts.append("No destination is configured: nothing is sent.")
    for chosen in settings.result_destinations:
        parts += _one_destination(chosen)
    return parts


def _one_destination(chosen: DestinationSettings) -> Sequence[str]:
    where = chosen.dicomweb_url or f"`{chosen.ae_title}` at {chosen.host}:{chosen.port}"
    confirmed = {
        "auto": "storage commitment where it is offered, else C-FIND at IMAGE level",
        "commitment": "storage commitment only",
        "find": "C-FIND at IMAGE level",
        "success": "the status of C-STORE alone",
    }[chosen.confirm]
    kinds = [Kind(k) for k in chosen.results]
    classes = dict.fromkeys(
        c for kind in (*kinds, *([Kind.SC] if chosen.notices else [])) for c in SOP_CLASSES[kind]
    )
    return (
        f"### {chosen.name}",
        (
            f"{where}; confirmed by {'QIDO-RS' if chosen.dicomweb_url else confirmed}. Explicit "
            "and Implicit VR Little Endian are proposed; statuses 0000, 0111 and Bxxx are taken as "
            "stored, A7xx is tried again, any other fails the delivery."
        ),
        _table(("SOP class", "UID"), [(UID(c).name, str(c)) for c in classes]),
    )


def _security(settings: Settings) -> Sequence[str]:
    listener = settings.listener
    if listener.tls_certificate is None:
        said = "The listener speaks DICOM without TLS."
    else:
        checked = "must" if listener.tls_client_authority else "need not"
        said = f"The listener speaks TLS 1.2 or newer (PS3.15 B.12); senders {checked} show a "
        said += "certificate of the configured authority."
    secured = {f"`{d.ae_title}`" for d in settings.result_destinations if d.tls and d.host}
    if settings.archive is not None and settings.archive.tls:
        secured.add(f"`{settings.archive.ae_title}`")
    ours = f"with TLS to {', '.join(sorted(secured))}, else without." if secured else "without TLS."
    return ("## 7 Security", f"{said} Associations of our own are opened {ours}")


def _over_web(settings: Settings) -> bool:
    archive = settings.archive
    asked = archive is not None and bool(archive.dicomweb_url)
    return asked or any(d.dicomweb_url for d in settings.result_destinations)


def _row(uid: str, service: str, follows: str) -> tuple[str, str, str, str]:
    return UID(uid).name, str(uid), service, follows


def _yes(what: object) -> str:
    return "yes" if what else "no"


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    titles = list(head)
    lines = [titles, ["---"] * len(titles), *map(list, rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
