"""The tables of the ledger. Nothing in `events` or `documents` is ever overwritten.

`refusals` keeps the newest only: a hostile sender must not fill the disk with them.
"""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    DateTime,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    false,
)

# The newest revision in `migrations/versions`: whoever changes a table here adds one there.
SCHEMA = "7"

metadata = MetaData()

_UID = String(64)

studies = Table(
    "studies",
    metadata,
    Column("study_instance_uid", _UID, primary_key=True),
    Column("state", String(16), nullable=False),
    Column("revision", Integer, nullable=False),
    Column("completeness", Text, nullable=False, default=""),
    Column("last_instance_at", DateTime(timezone=True), nullable=False),
    Column("updated_at", DateTime(timezone=True), nullable=False),
    # The state to go on from once a held or failed study is retried.
    Column("resume_state", String(16)),
    Column("problem", Text),
    Column("owner", String(64)),
    Column("lease_expires_at", DateTime(timezone=True)),
    # Claims that nobody gave back (crashes), and times the other side was unavailable, in a row.
    Column("attempts", Integer, nullable=False, default=0),
    Column("put_offs", Integer, nullable=False, default=0),
    Column("next_attempt_at", DateTime(timezone=True)),
    # Set by the site's rules: urgent studies have queues of their own.
    Column("urgent", Boolean, nullable=False, default=False, server_default=false()),
    # A person wants the study assessed whatever the rules say.
    Column("wanted_by_hand", Boolean, nullable=False, default=False, server_default=false()),
    Index("studies_by_state", "state"),
    Index("studies_by_update", "updated_at"),
    Index("studies_by_next_attempt", "next_attempt_at"),
)

instances = Table(
    "instances",
    metadata,
    Column("sop_instance_uid", _UID, primary_key=True),
    Column("study_instance_uid", _UID, ForeignKey("studies.study_instance_uid"), nullable=False),
    Column("series_instance_uid", _UID, nullable=False),
    Column("sop_class_uid", _UID, nullable=False),
    Column("transfer_syntax_uid", _UID, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("received_at", DateTime(timezone=True), nullable=False),
    Column("calling_ae_title", String(16), nullable=False),
    Column("called_ae_title", String(16), nullable=False, default="", server_default=""),
    Index("instances_by_study", "study_instance_uid"),
)

events = Table(
    "events",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("study_instance_uid", _UID, nullable=False),
    Column("revision", Integer, nullable=False),
    Column("at", DateTime(timezone=True), nullable=False),
    Column("kind", String(32), nullable=False),
    Column("detail", Text, nullable=False),
    Index("events_by_study", "study_instance_uid", "id"),
)

refusals = Table(
    "refusals",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("at", DateTime(timezone=True), nullable=False),
    Column("calling_ae_title", String(16), nullable=False),
    Column("sop_instance_uid", _UID, nullable=False),
    Column("problem", Text, nullable=False),
)

documents = Table(
    "documents",
    metadata,
    Column("study_instance_uid", _UID, primary_key=True),
    Column("revision", Integer, primary_key=True),
    Column("kind", String(16), primary_key=True),
    Column("body", LargeBinary, nullable=False),
)

# Texts of blood markers, by the digest of the evidence and the key of the writer that was asked.
# The first one stays: a language model need not give the same text twice.
texts = Table(
    "texts",
    metadata,
    Column("study_instance_uid", _UID, primary_key=True),
    Column("evidence", String(64), primary_key=True),
    Column("writer", String(64), primary_key=True),
    Column("body", LargeBinary, nullable=False),
)

# One row for each thing that goes to each destination; a delivery walks by itself.
deliveries = Table(
    "deliveries",
    metadata,
    Column("study_instance_uid", _UID, primary_key=True),
    Column("revision", Integer, primary_key=True),
    Column("content", String(16), primary_key=True),
    Column("destination", String(64), primary_key=True),
    Column("state", String(16), nullable=False),
    # Of a notice: why there is no result.
    Column("reason", Text, nullable=False, default=""),
    Column("opened_at", DateTime(timezone=True), nullable=False),
    Column("sent_at", DateTime(timezone=True)),
    Column("updated_at", DateTime(timezone=True), nullable=False),
    Column("problem", Text),
    Column("owner", String(64)),
    Column("lease_expires_at", DateTime(timezone=True)),
    Column("attempts", Integer, nullable=False, default=0),
    Column("put_offs", Integer, nullable=False, default=0),
    Column("next_attempt_at", DateTime(timezone=True)),
    Index("deliveries_by_state", "state"),
)

# What we sent ourselves: an archive that sends it back to us adds nothing to the study.
own_objects = Table(
    "own_objects",
    metadata,
    Column("sop_instance_uid", _UID, primary_key=True),
    Column("destination", String(64), primary_key=True),
    # The run key or the notice's key.
    Column("parcel", String(64), nullable=False),
    Column("study_instance_uid", _UID, nullable=False),
    Column("series_instance_uid", _UID, nullable=False),
    Column("sop_class_uid", _UID, nullable=False),
    Index("own_objects_by_study", "study_instance_uid"),
    Index("own_objects_by_parcel", "parcel"),
)

# Storage commitment that we asked for, and its answer once that has come (PS3.4 J): how many of
# what the destination was sent of the parcel.
commitments = Table(
    "commitments",
    metadata,
    Column("transaction_uid", _UID, primary_key=True),
    Column("destination", String(64), nullable=False),
    Column("parcel", String(64), nullable=False),
    Column("requested_at", DateTime(timezone=True), nullable=False),
    Column("answered_at", DateTime(timezone=True)),
    Column("committed", Integer, nullable=False, default=0),
    Column("failed", Integer, nullable=False, default=0),
    Index("commitments_by_parcel", "parcel"),
)

# Instances that MPPS or an Instance Availability Notification says exist.
announced = Table(
    "announced",
    metadata,
    Column("sop_instance_uid", _UID, primary_key=True),
    Column("study_instance_uid", _UID, nullable=False),
    Column("source", String(8), nullable=False),
    Index("announced_by_study", "study_instance_uid"),
)

# Performed procedure steps of modalities (MPPS) and whether they are over.
procedure_steps = Table(
    "procedure_steps",
    metadata,
    Column("sop_instance_uid", _UID, primary_key=True),
    Column("study_instance_uid", _UID, nullable=False),
    Column("is_over", Boolean, nullable=False),
    Index("procedure_steps_by_study", "study_instance_uid"),
)

# Workitems of a worklist that we perform, or did. One that is not claimed is about to be.
workitems = Table(
    "workitems",
    metadata,
    Column("workitem_uid", _UID, primary_key=True),
    Column("transaction_uid", _UID, nullable=False),
    Column("urgent", Boolean, nullable=False),
    Column("begun_at", DateTime(timezone=True), nullable=False),
    Column("claimed_at", DateTime(timezone=True)),
    Column("ended_at", DateTime(timezone=True)),
    # How it ended.
    Column("said", Text, nullable=False, default=""),
    Index("workitems_by_end", "ended_at"),
)

workitem_studies = Table(
    "workitem_studies",
    metadata,
    Column("workitem_uid", _UID, ForeignKey("workitems.workitem_uid"), primary_key=True),
    Column("study_instance_uid", _UID, primary_key=True),
    Index("workitem_studies_by_study", "study_instance_uid"),
)

# Deletion records. The files go after the rows; `files_gone_at` is when none of them was left.
removals = Table(
    "removals",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("study_instance_uid", _UID, nullable=False),
    Column("revision", Integer, nullable=False),
    Column("at", DateTime(timezone=True), nullable=False),
    Column("by", String(64), nullable=False),
    Column("reason", Text, nullable=False),
    Column("instances", Integer, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("files_gone_at", DateTime(timezone=True)),
    Index("removals_by_study", "study_instance_uid"),
    Index("removals_by_files", "files_gone_at"),
)

# Workers that have been heard of: each hears its own canary through the broker (`worker.canary`).
workers = Table(
    "workers",
    metadata,
    Column("owner", String(64), primary_key=True),
    Column("queues", String(32), nullable=False),
    Column("started_at", DateTime(timezone=True), nullable=False),
    Column("heard_at", DateTime(timezone=True), nullable=False),
)

# Reports that the plugin serves itself. `superseded` ones are kept, and found by id alone.
reports = Table(
    "reports",
    metadata,
    Column("report_id", String(36), primary_key=True),
    Column("study_instance_uid", _UID, nullable=False),
    Column("run", String(64), nullable=False),
    Column("patient", String(80), nullable=False),
    # Longer than LO and SH allow is what some sites send.
    Column("patient_id", Text, nullable=False),
    # The system of that identifier; empty where the site's settings name none.
    Column("patient_system", Text, nullable=False, default=""),
    Column("accession_number", Text, nullable=False),
    Column("acquired_at", DateTime(timezone=True)),
    Column("written_at", DateTime(timezone=True), nullable=False),
    Column("superseded", Boolean, nullable=False, default=False),
    Column("body", Text, nullable=False),
    Index("reports_by_study", "study_instance_uid"),
    Index("reports_by_patient", "patient"),
    Index("reports_by_patient_id", "patient_id"),
    Index("reports_by_accession", "accession_number"),
    Index("reports_by_run", "run"),
    Index("reports_by_acquired", "acquired_at"),
)

# Which report each of our resources belongs to; some belong to several.
report_resources = Table(
    "report_resources",
    metadata,
    Column("resource_id", String(36), primary_key=True),
    Column("report_id", String(36), ForeignKey("reports.report_id"), primary_key=True),
)
