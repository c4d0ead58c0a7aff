"""Settings of the EHR's side: where evidence comes from, and how reports are read or sent."""

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, SecretStr, model_validator

from bonetumor.worker.settings_group import Group, WebUrl


class SmartSettings(Group):
    """SMART Backend Services: we prove who we are with a signed JWT."""

    client_id: str = Field(min_length=1, description="As the authorisation server knows us")
    keys: tuple[Path, ...] = Field(
        min_length=1,
        description="PEM files of private keys (RSA or P-384); the first signs, all are published",
    )
    token_url: WebUrl = Field("", description="Empty to ask .well-known/smart-configuration")
    scope: str = Field(
        "system/Patient.rs system/Observation.crus system/Specimen.rs system/DiagnosticReport.crus "
        "system/DocumentReference.crus system/Media.crus system/Binary.r system/ImagingStudy.crs "
        "system/Endpoint.r system/ServiceRequest.rs system/Organization.cs system/Device.cs "
        "system/Provenance.cs",
        description="Scopes asked for (SMART 2.1)",
    )


class Hl7Settings(Group):
    """An interface engine that takes ORU^R01 over MLLP."""

    host: str = Field(description="Host name or address")
    port: int = Field(ge=1, le=65535, description="MLLP port")
    facility: str = Field("", description="Sending facility (MSH-4)")
    timeout_s: float = Field(30.0, gt=0, description="Time for the acknowledgement")


class EhrSettings(Group):
    """The FHIR server of the EHR."""

    base_url: WebUrl = Field(min_length=1, description="FHIR R4 service base")
    token: SecretStr | None = Field(None, description="Bearer token, better from the environment")
    smart: SmartSettings | None = Field(None, description="SMART Backend Services, not with token")
    authority: Path | None = Field(
        None, description="PEM file; the server's certificate must be of this authority"
    )
    certificate: Path | None = Field(None, description="PEM file of our own, for mutual TLS")
    key: Path | None = Field(None, description="PEM file of its private key")
    identifier_systems: dict[str, str] = Field(
        description="Issuer of Patient ID to identifier system; the key '' is for images "
        "without issuer"
    )
    birth_date_required: bool = Field(
        True, description="Hold a case whose birth date is not known on both sides"
    )
    organization: str = Field("bonetumor", description="In whose name reports are written")
    search_by_post: bool = Field(
        True, description="Search by POST where the server allows it: identifiers stay out of logs"
    )
    timeout_s: float = Field(30.0, gt=0, description="Time for each answer")
    labs_days_before: float = Field(90.0, ge=0, description="How old a blood result may be")
    labs_days_after: float = Field(30.0, ge=0, description="How much later it may be")
    local_codes: dict[str, str] = Field(
        {}, description="The laboratory's own codes: 'system|code' to our name of the analyte"
    )
    local_units: dict[str, str] = Field({}, description="The laboratory's own units to UCUM")
    attachment_origins: frozenset[WebUrl] = Field(
        frozenset(), description="Other origins (https://host) whose attachments may be fetched"
    )
    dicomweb_url: WebUrl = Field(
        "", description="DICOMweb service of whole slides whose ImagingStudy names no Endpoint"
    )
    write: Literal["auto", "hl7", "none"] = Field(
        "auto",
        description="How reports go out: auto is FHIR as the CapabilityStatement allows, else HL7 "
        "v2 where one is configured; none leaves them to our own read API",
    )
    hl7: Hl7Settings | None = Field(None, description="Where HL7 v2 reports go")
    wait_s: float = Field(
        0.0, ge=0, description="How long the first result waits for blood and pathology"
    )
    watch_hours: float = Field(
        72.0, ge=0, description="How long late blood and pathology still make a new result"
    )
    poll_s: float = Field(300.0, gt=0, description="How often the EHR is asked for them")

    @model_validator(mode="after")
    def _tls_is_whole(self) -> Self:
        self.has_all("certificate", "key")
        return self


class WebSettings(Group):
    """The read API. Who reads needs a token: of an issuer (SMART), or the one given here."""

    host: str = Field("127.0.0.1", description="Address to bind; 0.0.0.0 for all")
    port: int = Field(8080, ge=1, le=65535, description="TCP port")
    issuer: str = Field("", description="Issuer of the tokens that are taken")
    jwks_url: WebUrl = Field("", description="Where the issuer's public keys are")
    audience: str = Field("", description="Our own FHIR base URL, as tokens name it")
    token: SecretStr | None = Field(None, description="One token for all who read, instead")
    tls_certificate: Path | None = Field(None, description="PEM file; turns TLS on")
    tls_key: Path | None = Field(None, description="PEM file of the private key")

    @model_validator(mode="after")
    def _tls_is_whole(self) -> Self:
        self.has_all("tls_certificate", "tls_key")
        return self
