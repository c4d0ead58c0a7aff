"""Real servers on loopback, started by the tests and ended by process id."""

import itertools
import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx

PARTS = Path(__file__).parent.parent / "parts"
# In front of a command: it gets SIGTERM once the tests are gone, however they went.
ENDS_WITH_US = ("setpriv", "--pdeathsig", "TERM")
PATIENCE = 4  # with slow machines, and with what else runs on them

_FIRST_PORT, _PORTS_EACH = 12000, 2000
_numbers = itertools.count(os.getpid() * 7)  # other runs on this machine begin elsewhere


def free_port() -> int:
    """A port that no other process of this run is given, nor the system gives to clients."""
    process = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    while True:
        port = _FIRST_PORT + process * _PORTS_EACH + next(_numbers) % _PORTS_EACH
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def need(program: str, *places: str) -> str:
    """The path of a real part; its absence fails the test, it never skips it."""
    found = shutil.which(program, path=os.pathsep.join([os.environ["PATH"], *places]))
    assert found, f"{program} is missing: `make test` installs it (tests/parts/install.sh)"
    return found


def wait_until(
    condition: Callable[[], object], seconds: float, what: str, patience: float = PATIENCE
) -> None:
    """`seconds`: what is ample where nothing else runs."""
    allowed = patience * seconds
    deadline = time.monotonic() + allowed
    while not condition():
        assert time.monotonic() < deadline, f"{what}: not within {allowed} s"
        time.sleep(0.05)


def answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def running(command: list[str], log: Path, **options) -> Iterator[subprocess.Popen]:
    with log.open("ab") as out:
        process = subprocess.Popen([*ENDS_WITH_US, *command], stdout=out, stderr=out, **options)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _dicomweb_plugin() -> Path:
    found = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
    assert found.exists(), "orthanc-dicomweb is missing: `make test` installs it"
    return found


class Orthanc:
    """Debian's Orthanc, with its default storage settings, and DICOMweb where it is asked for."""

    def __init__(
        self, folder: Path, *, dicomweb: bool = False, knows: tuple[str, ...] = ()
    ) -> None:
        """`knows` are AE titles that it lets retrieve, beside those that only store and find."""
        self.folder = folder
        self.plugins = [str(_dicomweb_plugin())] if dicomweb else []
        self.http, self.port = free_port(), free_port()
        self.ae_title = "ORTHANC"
        self.knows = knows

    @contextmanager
    def up(self) -> Iterator["Orthanc"]:
        self.folder.mkdir(parents=True, exist_ok=True)
        settings = {
            "Name": "TEST",
            "StorageDirectory": str(self.folder / "db"),
            "IndexDirectory": str(self.folder / "db"),
            "Plugins": self.plugins,
            "HttpPort": self.http,
            "RemoteAccessAllowed": False,
            "AuthenticationEnabled": False,
            "DicomAet": self.ae_title,
            "DicomPort": self.port,
            "DicomCheckCalledAet": False,
            "DicomAlwaysAllowStore": True,
            "DicomAlwaysAllowFind": True,
            "DicomModalities": {name: [name, "127.0.0.1", 1] for name in self.knows},
            "StableAge": 1,
            "OverwriteInstances": False,
        }
        path = self.folder / "orthanc.json"
        path.write_text(json.dumps(settings))
        # Orthanc receives through DCMTK, which waits for delayed ACKs unless it is told not to.
        environment = {**os.environ, "TCP_NODELAY": "1"}
        command = [need("Orthanc", "/usr/sbin"), str(path)]
        with running(command, self.folder / "orthanc.log", env=environment):
            wait_until(lambda: answers(self.http) and answers(self.port), 60, "Orthanc")
            yield self

    def get(self, path: str):
        return httpx.get(f"http://127.0.0.1:{self.http}{path}", timeout=30).json()

    def structured_reports(self, study_uid: str) -> list[bytes]:
        found = httpx.post(
            f"http://127.0.0.1:{self.http}/tools/find",
            json={"Level": "Instance", "Query": {"StudyInstanceUID": study_uid, "Modality": "SR"}},
            timeout=30,
        ).json()
        return [
            httpx.get(f"http://127.0.0.1:{self.http}/instances/{i}/file", timeout=30).content
            for i in found
        ]


class FhirServer:
    """@medplum/fhir-router, which validates against HL7's R4 definitions."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.base_url = f"http://127.0.0.1:{self.port}/fhir"

    @contextmanager
    def up(self) -> Iterator["FhirServer"]:
        self.folder.mkdir(parents=True, exist_ok=True)
        command = [
            need("node"),
            "--experimental-websocket",
            str(PARTS / "fhir-server.mjs"),
            str(self.port),
        ]
        with running(command, self.folder / "fhir.log"):
            wait_until(lambda: answers(self.port), 60, "FHIR server")
            yield self

    def load(self, bundle: dict) -> None:
        """Creates every resource of a collection, references rewritten to the server's ids."""
        names: dict[str, str] = {}
        for patient in (e["resource"] for e in bundle["entry"]):
            if patient["resourceType"] == "Patient":
                known = self.search("Patient", identifier=patient["identifier"][0]["value"])
                assert not known, "this patient is there already: each test has patients of its own"
        for entry in bundle["entry"]:
            resource = json.loads(_renamed(json.dumps(entry["resource"]), names))
            old = f"{resource['resourceType']}/{resource.pop('id')}"
            answer = httpx.post(
                f"{self.base_url}/{resource['resourceType']}", json=resource, timeout=30
            )
            assert answer.status_code == 201, answer.text
            names[old] = f"{resource['resourceType']}/{answer.json()['id']}"

    def search(self, kind: str, **criteria: str) -> list[dict]:
        page = httpx.get(f"{self.base_url}/{kind}", params=criteria, timeout=30).json()
        return [e["resource"] for e in page.get("entry") or []]


def _renamed(text: str, names: dict[str, str]) -> str:
    for old, new in names.items():
        text = text.replace(f'"{old}"', f'"{new}"')
    return text


@contextmanager
def redis_server(folder: Path, port: int = 0) -> Iterator[str]:
    folder.mkdir(parents=True, exist_ok=True)
    port = port or free_port()
    command = [
        need("redis-server"),
        "--port",
        str(port),
        "--bind",
        "127.0.0.1",
        "--dir",
        str(folder),
        "--appendonly",
        "yes",
    ]
    with running(command, folder / "redis.log"):
        wait_until(lambda: answers(port), 30, "Redis")
        yield f"redis://127.0.0.1:{port}/0"


@contextmanager
def rabbitmq_server(folder: Path, port: int = 0) -> Iterator[str]:
    folder.mkdir(parents=True, exist_ok=True)
    port = port or free_port()
    distribution, mapper = free_port(), free_port()
    environment = {
        **os.environ,
        "HOME": str(folder),
        "RABBITMQ_NODENAME": f"test{port}@localhost",
        "RABBITMQ_NODE_PORT": str(port),
        "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
        "RABBITMQ_DIST_PORT": str(distribution),
        "ERL_EPMD_PORT": str(mapper),
        "ERL_EPMD_ADDRESS": "127.0.0.1",
        "RABBITMQ_MNESIA_BASE": str(folder / "mnesia"),
        "RABBITMQ_LOG_BASE": str(folder / "log"),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "plugins"),
        "RABBITMQ_PID_FILE": str(folder / "pid"),
    }
    # Debian's wrapper insists on the rabbitmq user; the program behind it does not.
    command = [need("rabbitmq-server", "/usr/lib/rabbitmq/bin")]
    command[0] = "/usr/lib/rabbitmq/bin/rabbitmq-server"
    assert Path(command[0]).exists(), "rabbitmq-server is missing: `make test` installs it"
    with running(command, folder / "rabbitmq.log", env=environment, start_new_session=True):
        wait_until(lambda: answers(port), 90, "RabbitMQ")
        yield f"amqp://guest:guest@127.0.0.1:{port}//"
    subprocess.run(
        ["/usr/bin/epmd", "-port", str(mapper), "-kill"], check=False, capture_output=True
    )


@contextmanager
def postgres_server(folder: Path) -> Iterator[str]:
    """A cluster of its own; run as the postgres user where the tests run as root."""
    folder.mkdir(parents=True, exist_ok=True)
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    assert programs, "PostgreSQL is missing: `make test` installs it"
    data, port = folder / "data", free_port()
    user: dict = {}
    if os.geteuid() == 0:
        user = {"user": "postgres", "group": "postgres", "extra_groups": []}
        shutil.chown(folder, "postgres", "postgres")
        for parent in folder.parents:
            if parent == Path("/tmp") or parent == Path("/"):
                break
            parent.chmod(parent.stat().st_mode | 0o011)
    initdb = [str(programs[-1] / "initdb"), "-D", str(data), "-A", "trust", "-U", "test"]
    subprocess.run(initdb, check=True, capture_output=True, cwd="/", **user)
    command = [
        str(programs[-1] / "postgres"),
        "-D",
        str(data),
        "-p",
        str(port),
        "-k",
        str(folder),
        "-c",
        "listen_addresses=127.0.0.1",
    ]
    with running(command, folder / "postgres.log", cwd="/", **user):
        wait_until(lambda: answers(port), 60, "PostgreSQL")
        time.sleep(0.5)
        yield f"postgresql+psycopg://test@127.0.0.1:{port}/postgres"


def certificate(folder: Path, name: str) -> tuple[str, str]:
    """A certificate that signs itself, and its key: PEM files."""
    key, certificate = folder / f"{name}.key", folder / f"{name}.pem"
    subprocess.run(
        [
            need("openssl"),
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-days",
            "2",
            "-subj",
            f"/CN={name}",
            "-keyout",
            key,
            "-out",
            certificate,
        ],
        check=True,
        capture_output=True,
    )
    return str(certificate), str(key)
