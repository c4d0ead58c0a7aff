"""`certify`: what one destination makes of our results, as evidence for the PACS administrator.

A probe study of nobody is sent with every kind of result, confirmed, read back and compared,
checked by dciodvfy where it is installed, shown in the viewer where one is named, and deleted
where the archive allows that.
"""

import shutil
import subprocess
import tempfile
import time
from base64 import b64encode
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property, partial
from io import BytesIO
from pathlib import Path

from jinja2 import Environment, PackageLoader
from pydicom import Dataset, dcmread

from bonetumor.dicom.archive import PacsArchive, WebArchive
from bonetumor.dicom.destination import store
from bonetumor.dicom.objects import Kind, ObjectMaker
from bonetumor.domain.errors import (
    BoneTumorError,
    CommitmentPending,
    InvalidInput,
    Rejected,
    Unavailable,
)
from bonetumor.domain.uid import UID
from bonetumor.service.ports import Parcel
from bonetumor.worker import wiring, wiring_results
from bonetumor.worker.probe import Probe, Shelf, probe_in, probe_notice, probe_result, shelf_in
from bonetumor.worker.settings import DestinationSettings, Settings

Say = Callable[[str], None]
_CONFIRM_S = 60.0
_COMMITMENT_S = 5.0
_ANSWERED_ELSEWHERE = (
    "over an association of its own, the archive answers the listener and not this"
)
# What an archive may not touch; names and numbers of patients it may correct.
_OURS_TO_SAY = frozenset(
    {"ContentSequence", "PixelData", "GraphicAnnotationSequence", "EncapsulatedDocument"}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One thing that was tried. `is_well` is None where it could not be tried."""

    name: str
    is_well: bool | None
    detail: str


@dataclass(slots=True, kw_only=True)
class Certificate:
    """Everything that was tried at one destination."""

    destination: str
    study: str
    at: datetime
    checks: list[Check] = field(default_factory=list)
    picture: bytes | None = None

    @property
    def is_well(self) -> bool:
        """Whether nothing failed."""
        return all(check.is_well is not False for check in self.checks)


def certify(settings: Settings, name: str, out: Path, viewer: str, say: Say) -> bool:
    """Tries the destination and writes `certificate.html` into `out`; whether all went well."""
    chosen = next((d for d in settings.result_destinations if d.name == name), None)
    if chosen is None:
        known = ", ".join(d.name for d in settings.result_destinations) or "none"
        raise InvalidInput(f"certify: expected one of the destinations ({known}), got {name}")
    with tempfile.TemporaryDirectory() as folder, probe_in(Path(folder)) as probe:
        certificate = Certificate(
            destination=name, study=probe.study.study_instance_uid, at=datetime.now(UTC)
        )
        trial = _Trial(settings, chosen, probe, certificate, say)
        trial.run(viewer)
    out.mkdir(parents=True, exist_ok=True)
    template = Environment(
        loader=PackageLoader("bonetumor.worker", "pages"), autoescape=True
    ).get_template("certificate.html")
    picture = b64encode(certificate.picture).decode() if certificate.picture else ""
    page = template.render(certificate=certificate, settings=chosen, picture=picture)
    (out / "certificate.html").write_text(page)
    return certificate.is_well


class _Trial:
    """The steps, in order. One that fails is written down, and the next is tried."""

    def __init__(
        self,
        settings: Settings,
        chosen: DestinationSettings,
        probe: Probe,
        certificate: Certificate,
        say: Say,
    ) -> None:
        self._settings = settings
        self._chosen = chosen
        self._probe = probe
        self._certificate = certificate
        self._say = say
        self._maker = ObjectMaker(probe.studies, [Kind(k) for k in chosen.results])
        self._destination = wiring_results.build_destination(
            settings,
            chosen.model_copy(update={"commitment_wait_s": _COMMITMENT_S}),
            probe.ledger,
            maker=self._maker,
        )

    def run(self, viewer: str) -> None:
        """All of it."""
        self._try("answers", self._answers)
        self._try("takes an image", self._send_image)
        for name, parcel in (
            ("a result with a lesion", probe_result(self._probe, with_lesion=True)),
            ("a result without", probe_result(self._probe, with_lesion=False)),
            ("a notice that AI was not performed", probe_notice(self._probe)),
        ):
            if self._try(f"takes {name}", partial(self._destination.send, parcel)):
                self._try(f"confirms {name}", partial(self._confirmed, parcel))
        self._try("gives them back as they were", self._read_back)
        self._try("valid objects", self._validated)
        if viewer:
            self._try("shown by the viewer", lambda: self._shown(viewer))
        self._try("taken away again", self._cleaned)

    def _try(self, name: str, step: Callable[[], str]) -> bool:
        try:
            check = Check(name=name, is_well=True, detail=step())
        except _NotTried as reason:
            check = Check(name=name, is_well=None, detail=str(reason))
        except BoneTumorError as error:
            check = Check(name=name, is_well=False, detail=f"{error.code}: {error}")
        self._certificate.checks.append(check)
        mark = {True: "ok  ", False: "FAIL", None: "-   "}[check.is_well]
        self._say(f"{mark} {name}: {check.detail}")
        return bool(check.is_well)

    def _answers(self) -> str:
        if self._chosen.dicomweb_url:
            wiring_results.build_dicomweb(self._chosen).answers()
            return "QIDO-RS"
        wiring.build_peer(self._settings, self._chosen).echo()
        return "C-ECHO"

    def _send_image(self) -> str:
        image = self._probe.image
        if self._chosen.dicomweb_url:
            failed = wiring_results.build_dicomweb(self._chosen).store(
                str(image.StudyInstanceUID), [image]
            )
            if failed:
                raise InvalidInput(f"archive: expected it to store the image, got {failed}")
            return "STOW-RS"
        peer = wiring.build_peer(self._settings, self._chosen)
        with peer.associate([str(image.SOPClassUID)]) as association:
            store(association, image)
        return "C-STORE"

    def _confirmed(self, parcel: Parcel) -> str:
        begun = time.monotonic()
        while True:
            try:
                return self._destination.confirm(parcel)
            except Unavailable as error:
                waited = time.monotonic() - begun
                if isinstance(error, CommitmentPending) and waited > 2 * _COMMITMENT_S:
                    raise _NotTried(f"{error}: {_ANSWERED_ELSEWHERE}") from error
                if waited > _CONFIRM_S:
                    raise
                time.sleep(1)

    def _read_back(self) -> str:
        sent = {str(one.SOPInstanceUID): _written_and_read(one) for one in self._objects}
        wanted: dict[UID, frozenset[UID]] = {}
        for one in sent.values():
            series = UID(str(one.SeriesInstanceUID))
            wanted[series] = wanted.get(series, frozenset()) | {UID(str(one.SOPInstanceUID))}
        study = self._probe.study.study_instance_uid
        with tempfile.TemporaryDirectory() as folder, shelf_in(Path(folder)) as shelf:
            try:
                self._archive(shelf, sent.values()).fetch(study, wanted)
            except (Rejected, Unavailable) as error:
                raise _NotTried(f"it gives us nothing back: {error}") from error
            back = [
                dcmread(shelf.spool.path(instance))
                for instance in shelf.ledger.study(study).instances
            ]
        changed = {
            element.keyword
            for one in back
            for element in sent[str(one.SOPInstanceUID)]
            if one.get(element.tag) != element
        }
        if len(back) < len(sent) or changed & _OURS_TO_SAY:
            raise InvalidInput(
                f"archive: expected {len(sent)} objects back as they were, got {len(back)}, "
                f"changed: {', '.join(sorted(changed)) or 'nothing'}"
            )
        return f"{len(back)} objects; changed: {', '.join(sorted(changed)) or 'nothing'}"

    def _archive(self, shelf: Shelf, sent: Iterable[Dataset]) -> PacsArchive | WebArchive:
        if self._chosen.dicomweb_url:
            web = wiring_results.build_dicomweb(self._chosen)
            return WebArchive(web, shelf.intake, name="CERTIFY", called="")
        return PacsArchive(
            wiring.build_peer(self._settings, self._chosen),
            shelf.intake,
            fetching="get",
            sop_classes={str(one.SOPClassUID) for one in sent},
        )

    def _validated(self) -> str:
        program = shutil.which("dciodvfy")
        if program is None:
            raise _NotTried("dciodvfy is not installed (Debian: dicom3tools)")
        wrong = []
        for one in self._objects:
            with tempfile.NamedTemporaryFile(suffix=".dcm") as file:
                one.save_as(file.name, enforce_file_format=True)
                said = subprocess.run(
                    [program, "-new", file.name], capture_output=True, text=True, check=False
                )
            wrong += [line for line in said.stderr.splitlines() if line.startswith("Error")]
        if wrong:
            raise InvalidInput(f"dciodvfy: expected no error, got {len(wrong)}, first {wrong[0]}")
        return f"dciodvfy finds no error in {len(self._objects)} objects"

    @cached_property
    def _objects(self) -> list[Dataset]:
        """Everything that both results became."""
        objects = []
        for with_lesion in (True, False):
            result = probe_result(self._probe, with_lesion=with_lesion)
            made = self._maker.pictures(result)
            if Kind.SR in self._maker.kinds(result):
                made.append(self._maker.report(result, three_d=True))
            for one in made:
                one.ensure_file_meta()
                one.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1"
                objects.append(one)
        return objects

    def _shown(self, viewer: str) -> str:
        result = probe_result(self._probe, with_lesion=True)
        url = viewer.replace("{study}", str(self._probe.study.study_instance_uid)).replace(
            "{series}", str(result.assessment.sr_series_instance_uid)
        )
        browser = shutil.which("chromium") or shutil.which("google-chrome")
        if browser is None:
            raise _NotTried(f"no browser is installed here; open {url}")
        with tempfile.TemporaryDirectory() as folder:
            picture = Path(folder) / "viewer.png"
            options = ["--headless", "--no-sandbox", "--disable-quic", "--hide-scrollbars"]
            options += ["--use-gl=angle", "--use-angle=swiftshader"]
            options += ["--enable-unsafe-swiftshader", "--window-size=1600,1000"]
            options += ["--virtual-time-budget=45000", f"--user-data-dir={folder}/profile"]
            try:
                subprocess.run(
                    [browser, *options, f"--screenshot={picture}", url],
                    capture_output=True,
                    check=False,
                    timeout=120,
                )
            except subprocess.TimeoutExpired as error:
                raise Unavailable("viewer: expected a page within 120 s, got none") from error
            if not picture.is_file():
                raise Unavailable("viewer: expected a page, got none")
            self._certificate.picture = picture.read_bytes()
        return f"{url}: look at the picture, it is not judged"

    def _cleaned(self) -> str:
        study = self._probe.study.study_instance_uid
        if not self._chosen.dicomweb_url:
            raise _NotTried(f"DICOM knows no deletion: remove study {study} by hand")
        wiring_results.build_dicomweb(self._chosen).delete(f"/studies/{study}")
        return "DELETE over DICOMweb"


def _written_and_read(one: Dataset) -> Dataset:
    """As a file holds it: padded, and every value of the type that reading gives it."""
    file = BytesIO()
    one.save_as(file, enforce_file_format=True)
    file.seek(0)
    return dcmread(file)


class _NotTried(Exception):
    """Why a step was not tried."""
