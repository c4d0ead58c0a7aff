"""Building the side of the EHR: FHIR, HL7 v2, and the read API."""

import ssl
from collections.abc import Callable
from datetime import timedelta
from importlib.metadata import version

import httpx
from starlette.applications import Starlette

from bonetumor.domain.errors import Misconfigured
from bonetumor.fhir.analytes import Catalogue, build_catalogue
from bonetumor.fhir.attachments import AttachmentLimits, Attachments
from bonetumor.fhir.auth import (
    Anonymous,
    Authorization,
    BackendServices,
    BearerToken,
    SigningKey,
    jwks,
    read_signing_key,
)
from bonetumor.fhir.client import FhirClient, Patience
from bonetumor.fhir.labs import LabWindow
from bonetumor.fhir.pathology import PathologyReader
from bonetumor.fhir.patient import PatientMatcher
from bonetumor.fhir.record import FhirHealthRecord
from bonetumor.fhir.server import FhirReportServer
from bonetumor.fhir.shelf import shelve
from bonetumor.hl7.server import Hl7ReportServer, MllpAddress
from bonetumor.picture.illustration import Illustration, illustrate
from bonetumor.service.ledger import Ledger
from bonetumor.service.ports import HealthRecord, ReportServer, Result
from bonetumor.web.access import Access, SiteToken, SmartTokens, keys_at
from bonetumor.web.reading import build_read_api
from bonetumor.worker import wiring
from bonetumor.worker.sampling import BundleSampler
from bonetumor.worker.settings import Settings
from bonetumor.worker.settings_ehr import EhrSettings, WebSettings
from bonetumor.worker.steps import Readiness


def build_fhir_client(settings: Settings) -> FhirClient | None:
    """The FHIR client, or None where no EHR is configured."""
    ehr = settings.ehr
    if ehr is None:
        return None
    return FhirClient(
        ehr.base_url,
        http=_http(ehr),
        authorization=_authorization(ehr),
        patience=Patience(deadline_s=ehr.timeout_s),
        search_by_post=ehr.search_by_post,
    )


def build_record(settings: Settings, client: FhirClient | None) -> HealthRecord | None:
    """The EHR as a source of evidence."""
    ehr = settings.ehr
    if client is None or ehr is None:
        return None
    attachments = Attachments(client, AttachmentLimits(origins=ehr.attachment_origins))
    return FhirHealthRecord(
        client,
        matcher=PatientMatcher(
            client, ehr.identifier_systems, birth_date_required=ehr.birth_date_required
        ),
        pathology=PathologyReader(
            client, attachments, BundleSampler(settings.model.bundle), dicomweb_url=ehr.dicomweb_url
        ),
        window=LabWindow(
            before=timedelta(days=ehr.labs_days_before), after=timedelta(days=ehr.labs_days_after)
        ),
        catalogue=build_lab_catalogue(settings),
    )


def build_lab_catalogue(settings: Settings) -> Catalogue:
    """LOINC, and the codes and units of this site's laboratory."""
    ehr = settings.ehr
    return build_catalogue(ehr.local_codes, ehr.local_units) if ehr else build_catalogue()


def build_signing_keys(settings: Settings) -> list[SigningKey]:
    """The keys that prove to the EHR who we are."""
    smart = settings.ehr.smart if settings.ehr else None
    return [read_signing_key(file) for file in smart.keys] if smart else []


def _authorization(ehr: EhrSettings) -> Authorization:
    if ehr.token is not None and ehr.smart is not None:
        raise Misconfigured("ehr: expected token or smart, got both")
    if ehr.token is not None:
        return BearerToken(ehr.token.get_secret_value())
    if ehr.smart is None:
        return Anonymous()
    return BackendServices(
        _http(ehr),
        fhir_base_url=ehr.base_url,
        client_id=ehr.smart.client_id,
        keys=[read_signing_key(file) for file in ehr.smart.keys],
        scope=ehr.smart.scope,
        token_url=ehr.smart.token_url,
    )


def _http(ehr: EhrSettings) -> httpx.Client:
    """Connections to the EHR, with the site's authority and our certificate."""
    try:
        tls = ssl.create_default_context(cafile=str(ehr.authority) if ehr.authority else None)
        tls.minimum_version = ssl.TLSVersion.TLSv1_2
        if ehr.certificate is not None and ehr.key is not None:
            tls.load_cert_chain(ehr.certificate, ehr.key)
    except OSError as error:
        raise Misconfigured(
            f"ehr: expected readable PEM files for TLS, got {type(error).__name__}"
        ) from error
    return httpx.Client(verify=tls, timeout=ehr.timeout_s)


def build_report_server(settings: Settings, client: FhirClient | None) -> ReportServer | None:
    """The EHR as the place where reports go, or None where they are only read from us."""
    ehr = settings.ehr
    if client is None or ehr is None or ehr.write == "none":
        return None
    studies = wiring.build_studies(settings)

    def illustrated(result: Result) -> Illustration:
        return illustrate(result, studies.images(result.study))

    engine = None
    if ehr.hl7 is not None:
        address = MllpAddress(
            host=ehr.hl7.host,
            port=ehr.hl7.port,
            facility=ehr.hl7.facility,
            timeout_s=ehr.hl7.timeout_s,
        )
        engine = Hl7ReportServer(address, lambda result: illustrated(result).pdf)
    if ehr.write == "hl7":
        if engine is None:
            raise Misconfigured("ehr.hl7: expected host and port for write = 'hl7', got none")
        return engine
    return FhirReportServer(client, ehr.organization, illustrated, otherwise=engine)


def build_shelve(settings: Settings, ledger: Ledger) -> Callable[[Result], None]:
    """What puts results where we serve them from."""
    studies, ehr = wiring.build_studies(settings), settings.ehr

    def keep(result: Result) -> None:
        illustration = illustrate(result, studies.images(result.study))
        name = ehr.organization if ehr else "bonetumor"
        base_url, systems = (ehr.base_url, ehr.identifier_systems) if ehr else ("", {})
        ledger.keep(shelve(result, illustration, name, base_url, systems))

    return keep


def need_web(settings: Settings) -> WebSettings:
    """The settings of the read API; raises Misconfigured where there are none."""
    if settings.web is None:
        raise Misconfigured("web: expected settings for the read API, got none")
    return settings.web


def build_web(settings: Settings, ledger: Ledger) -> Starlette:
    """The read API over the ledger."""
    web = need_web(settings)
    smart = (web.issuer, web.jwks_url, web.audience)
    access: Access
    if web.token is not None and not any(smart):
        access = SiteToken(web.token.get_secret_value())
    elif all(smart) and web.token is None:
        keys = keys_at(web.jwks_url)
        access = SmartTokens(issuer=web.issuer, audience=web.audience, key_of=keys)
    else:
        raise Misconfigured(
            "web: expected either token, or issuer, jwks_url and audience; got neither or both"
        )
    key_set = jwks(build_signing_keys(settings))
    return build_read_api(ledger, access, version=version("bonetumor"), key_set=key_set)


def build_readiness(settings: Settings) -> Readiness:
    """How long results wait for evidence, and how long late evidence still counts."""
    ehr = settings.ehr
    if ehr is None:
        return Readiness()
    return Readiness(
        wait=timedelta(seconds=ehr.wait_s),
        watch=timedelta(hours=ehr.watch_hours),
        poll=timedelta(seconds=ehr.poll_s),
    )
