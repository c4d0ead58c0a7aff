"""All settings, read once at start from a TOML file and the environment.

The file is named by `--settings` or `BONETUMOR_SETTINGS`. An environment variable
`BONETUMOR_<GROUP>__<FIELD>` overrides the file. Secrets belong in the environment or in files.
"""

import os
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, SecretStr, ValidationError, model_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from bonetumor.domain.errors import Misconfigured
from bonetumor.worker.settings_ehr import EhrSettings, WebSettings
from bonetumor.worker.settings_group import CodeText, Group, WebUrl

SETTINGS_VARIABLE = "BONETUMOR_SETTINGS"
LARGEST_IN_S3 = 5 * 1024**3  # in one request, which is what makes an object appear at once


class ListenerSettings(Group):
    """The DICOM listener that the PACS sends to."""

    host: str = Field("127.0.0.1", description="Address to bind; 0.0.0.0 for all")
    port: int = Field(11112, ge=0, le=65535, description="TCP port; 0 takes any free one")
    ae_title: str = Field("BONETUMOR", min_length=1, max_length=16, description="Our AE title")
    other_ae_titles: frozenset[str] = Field(
        frozenset(), description="More AE titles that we answer to; rules may ask which was called"
    )
    calling_ae_titles: frozenset[str] = Field(
        frozenset(), description="AE titles that may send; empty allows all"
    )
    quiet_s: float = Field(
        10.0, gt=0, description="Without proof a study is complete after so long without an image"
    )
    settle_s: float = Field(
        0.5, gt=0, description="So long after the last image the archive is asked for proof"
    )
    partial_s: float = Field(
        60.0,
        gt=0,
        description="After so long a study is begun without what the archive does not send",
    )
    max_pdu_bytes: int = Field(131072, ge=4096, le=1048576, description="Largest PDU that is taken")
    max_object_bytes: int = Field(4 * 1024**3, gt=0, description="Largest object that is taken")
    associate_deadline_s: float = Field(10.0, gt=0, description="Time for the association request")
    pdu_deadline_s: float = Field(30.0, gt=0, description="Time for one whole PDU")
    idle_deadline_s: float = Field(60.0, gt=0, description="Time between two PDUs")
    associations: int = Field(100, gt=0, description="Connections served at once")
    associations_per_peer: int = Field(
        20, gt=0, description="Connections served at once per address"
    )
    tls_certificate: Path | None = Field(None, description="PEM file; turns TLS on")
    tls_key: Path | None = Field(None, description="PEM file of the private key")
    tls_client_authority: Path | None = Field(
        None, description="PEM file; senders must show a certificate of this authority"
    )

    @model_validator(mode="after")
    def _tls_is_whole(self) -> Self:
        if not self.has_all("tls_certificate", "tls_key") and self.tls_client_authority:
            raise ValueError(
                "expected tls_certificate and tls_key beside tls_client_authority, got neither"
            )
        return self


class PeerSettings(Group):
    """How another side is reached, over TLS where it speaks it."""

    timeout_s: float = Field(30.0, gt=0, description="Time for each answer")
    tls: bool = Field(False, description="Speak DICOM over TLS")
    authority: Path | None = Field(
        None, description="PEM file of the authority of its certificate, else this machine's own"
    )
    certificate: Path | None = Field(None, description="PEM file of ours, where it asks for one")
    key: Path | None = Field(None, description="PEM file of its key")

    @model_validator(mode="after")
    def _tls_is_whole(self) -> Self:
        if (self.has_all("certificate", "key") or self.authority) and not self.tls:
            raise ValueError("expected tls = true beside authority and certificate, got false")
        return self


class ArchiveSettings(PeerSettings):
    """The PACS that studies come from: it is asked whether they are complete.

    Without `destinations` results go here too.
    """

    host: str = Field(description="Host name or address")
    port: int = Field(ge=1, le=65535, description="DICOM port")
    ae_title: str = Field(min_length=1, max_length=16, description="Its AE title")
    dicomweb_url: WebUrl = Field(
        "", description="DICOMweb service base; then it is asked over QIDO-RS and WADO-RS instead"
    )
    ask: bool = Field(True, description="Ask it whether studies are complete")
    fetch: Literal["auto", "get", "move", "off"] = Field(
        "auto", description="How missing images are fetched; auto is C-GET, else C-MOVE"
    )


class RuleSettings(Group):
    """Which studies are for us. The first rule that fits decides."""

    when: str = Field(min_length=1, description="A condition, see deploy/pacs.md")
    then: Literal["assess", "urgent", "ignore"] = Field("assess", description="What follows")


class DestinationSettings(PeerSettings):
    """One place that results go to: a DICOM archive, or a DICOMweb one."""

    name: str = Field(
        min_length=1, max_length=32, pattern=r"^[A-Za-z0-9_.-]+$", description="As status shows it"
    )
    host: str = Field("", description="Host name or address of a DICOM archive")
    port: int = Field(104, ge=1, le=65535, description="Its DICOM port")
    ae_title: str = Field("", max_length=16, description="Its AE title")
    dicomweb_url: WebUrl = Field(
        "", description="Service base of a DICOMweb archive (STOW-RS, QIDO-RS), instead of host"
    )
    token: SecretStr | None = Field(None, description="Bearer token for DICOMweb")
    results: tuple[Literal["sr", "sc", "gsps", "pdf"], ...] = Field(
        ("sr", "sc"),
        min_length=1,
        description="What is sent: sr (structured report), sc (pictures), gsps (presentation "
        "states), pdf",
    )
    confirm: Literal["auto", "commitment", "find", "success"] = Field(
        "auto",
        description="How delivery is confirmed: auto is storage commitment where it is offered, "
        "else C-FIND; success is for routers, which answer neither: their Success for C-STORE "
        "is all there is; DICOMweb is read back by QIDO-RS",
    )
    commitment_wait_s: float = Field(
        120.0, gt=0, description="How long storage commitment may take; then auto reads back"
    )
    every_slice: bool = Field(
        False, description="In the SR, mark a lesion on every slice, not on its key slice alone"
    )
    notices: bool = Field(
        True, description="Send a picture that says so where a study could not be assessed"
    )

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        is_dicom = bool(self.host and self.ae_title)
        if is_dicom == bool(self.dicomweb_url):
            raise ValueError("expected host and ae_title, or dicomweb_url, got neither or both")
        return self


class WorklistSettings(PeerSettings):
    """A worklist manager (UPS-RS) whose workitems are performed; their studies lie in the archive.

    Only workitems of which all of `label`, `workitem` and `station` that are given is true.
    """

    dicomweb_url: WebUrl = Field(min_length=1, description="Its service base (UPS-RS)")
    token: SecretStr | None = Field(None, description="Bearer token")
    label: str = Field("", max_length=64, description="Worklist Label")
    workitem: CodeText = Field("", description="Scheduled Workitem Code, as 110005^DCM")
    station: CodeText = Field("", description="Scheduled Station Name Code, as AI1^99HOSPITAL")
    every_s: float = Field(10.0, gt=0, description="How often it is asked")
    at_once: int = Field(8, ge=1, le=1000, description="Workitems that are ours at one time")

    @model_validator(mode="after")
    def _not_everything(self) -> Self:
        if not (self.label or self.workitem or self.station):
            raise ValueError(
                "expected label, workitem or station, got none: every workitem would be claimed"
            )
        return self


class QueueSettings(Group):
    """The broker. It only rings the doorbell: the ledger is the truth."""

    url: str = Field(
        "",
        pattern=r"^((amqp|redis)s?://\S+)?$",
        description="amqp:// or redis:// URL; empty for the embedded one, which needs no server",
    )
    lease_s: float = Field(
        900.0,
        gt=0,
        description="A step that takes longer is given up, and its worker ended; RabbitMQ's "
        "consumer_timeout must be longer (it is 30 minutes by default)",
    )
    max_memory_bytes: int = Field(
        8 * 1024**3, gt=0, description="A worker that needs more for one step is ended"
    )
    max_attempts: int = Field(
        3, gt=0, description="Workers that may die on one step before it fails"
    )
    retry_s: float = Field(5.0, gt=0, description="First wait when the other side is unavailable")
    retry_max_s: float = Field(300.0, gt=0, description="Longest such wait")
    canary_s: float = Field(
        30.0,
        gt=0,
        description="How often each worker sends itself a message; three that do not come back "
        "end it",
    )
    sweep_s: float = Field(0.5, gt=0, description="How often waiting steps are looked for")


class BucketSettings(Group):
    """A bucket of an S3-compatible store that keeps what was received, for machines without a
    common disk. The access key is where S3 clients look for it: `AWS_ACCESS_KEY_ID` and
    `AWS_SECRET_ACCESS_KEY`, a file, or the machine's role.
    """

    name: str = Field(min_length=3, description="Name of the bucket, which exists already")
    endpoint_url: WebUrl = Field("", description="URL of the store; empty for Amazon's")
    region: str = Field("us-east-1", description="Region, where the store has any")
    prefix: str = Field("", description="Put before every key; ends with / where wanted")
    authority: Path | None = Field(None, description="PEM file of the store's authority")
    timeout_s: float = Field(30.0, gt=0, description="Time for each answer")
    local_hours: float = Field(
        24.0, gt=0, description="How long a copy stays on a machine's own disk after its last use"
    )


class RetentionSettings(Group):
    """How long images and evidence stay here. Results, events and deletion records always do."""

    keep_days: float | None = Field(
        None,
        gt=0,
        description="Images and evidence of a study are removed so long after it has ended; none "
        "keeps them for ever",
    )


class ModelSettings(Group):
    """The weights."""

    bundle: Path | None = Field(None, description="Folder of the bundle; empty for the shipped one")
    device: str = Field(
        "auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$", description="auto, cpu or cuda"
    )
    engine: Literal["auto", "torch", "openvino"] = Field(
        "auto", description="What runs the detector; auto is openvino on processors"
    )
    language_model: Path | None = Field(
        None,
        description="Folder of a causal language model that words the blood markers; empty "
        "for the template",
    )
    threads: int = Field(0, ge=0, description="CPU threads; 0 leaves the choice to torch")
    studies: int = Field(
        1, ge=1, le=64, description="Studies that one worker of the queue gpu assesses at once"
    )
    batch: int = Field(
        1,
        ge=1,
        le=64,
        description="Images, of one study or of several, in one pass of the detector; "
        "for torch on a GPU",
    )


class Settings(BaseSettings):
    """Everything that can be configured. Frozen once read."""

    model_config = SettingsConfigDict(
        env_prefix="BONETUMOR_", env_nested_delimiter="__", frozen=True, extra="forbid"
    )

    mode: Literal["research", "clinical"] = Field(
        "research", description="clinical refuses bundles whose intended use is not clinical"
    )
    folder: Path = Field(Path("var"), description="Where spool, ledger and embedded queues lie")
    ledger_url: str = Field("", description="Database URL; empty for SQLite in the folder")
    min_free_bytes: int = Field(
        256 * 1024**2,
        ge=0,
        description="Free disk space that is never used; new senders need twice as much",
    )
    log_format: Literal["text", "json"] = Field("text", description="How log lines look")
    listener: ListenerSettings = ListenerSettings()
    archive: ArchiveSettings | None = Field(None, description="Where studies come from")
    rules: tuple[RuleSettings, ...] = Field(
        (), description="Which studies are for us; without any every study is"
    )
    destinations: tuple[DestinationSettings, ...] = Field(
        (), description="Where results go; without any to the archive, as sr and sc"
    )
    worklist: WorklistSettings | None = Field(
        None, description="Workitems to perform; none where studies are sent unasked"
    )
    ehr: EhrSettings | None = Field(None, description="Where evidence comes from and reports go")
    web: WebSettings | None = Field(None, description="Our own FHIR service; none for no service")
    queue: QueueSettings = QueueSettings()
    bucket: BucketSettings | None = Field(
        None, description="Where received objects lie beside the folder; none for the folder alone"
    )
    retention: RetentionSettings = RetentionSettings()
    model: ModelSettings = ModelSettings()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - as inherited
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - as inherited
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The environment before the TOML file."""
        named = os.environ.get(SETTINGS_VARIABLE)
        sources: tuple[PydanticBaseSettingsSource, ...] = (init_settings, env_settings)
        return (*sources, TomlConfigSettingsSource(settings_cls, Path(named))) if named else sources

    @property
    def result_destinations(self) -> tuple[DestinationSettings, ...]:
        """The destinations, or the archive as the only one."""
        if self.destinations or self.archive is None:
            return self.destinations
        archive = self.archive
        return (
            DestinationSettings(
                name="archive",
                host=archive.host,
                port=archive.port,
                ae_title=archive.ae_title,
                **{name: getattr(archive, name) for name in PeerSettings.model_fields},
            ),
        )

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        names = [d.name for d in self.destinations]
        if len(set(names)) < len(names) or {"ehr", "shelf"} & set(names):
            raise ValueError("destinations: expected different names, none of them ehr or shelf")
        return self

    @model_validator(mode="after")
    def _workitems_have_studies(self) -> Self:
        archive = self.archive
        if self.worklist and (archive is None or not archive.ask or archive.fetch == "off"):
            raise ValueError(
                "worklist: expected an archive that may be asked and fetched from, got none"
            )
        return self

    @model_validator(mode="after")
    def _objects_fit(self) -> Self:
        if self.bucket is not None and self.listener.max_object_bytes > LARGEST_IN_S3:
            raise ValueError(
                f"listener.max_object_bytes: expected at most {LARGEST_IN_S3} with a bucket, "
                f"got {self.listener.max_object_bytes}"
            )
        return self

    @property
    def spool(self) -> Path:
        """Where received objects lie."""
        return self.folder / "spool"

    @property
    def database_url(self) -> str:
        """The ledger's database."""
        return self.ledger_url or f"sqlite:///{(self.folder / 'ledger.sqlite').absolute()}"


def read_settings(file: Path | None = None) -> Settings:
    """The settings; raises Misconfigured with the name of each wrong field."""
    if file is not None:
        os.environ[SETTINGS_VARIABLE] = str(file.absolute())
    named = os.environ.get(SETTINGS_VARIABLE)
    if named and not Path(named).is_file():
        raise Misconfigured(f"settings: expected a readable file, got {named}")
    try:
        return Settings()
    except ValidationError as error:
        said = [f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()]
        raise Misconfigured("settings: " + "; ".join(said)) from error
    except ValueError as error:
        raise Misconfigured(f"settings: expected TOML in {named}, got {error}") from error
