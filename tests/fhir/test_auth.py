"""SMART Backend Services against an authorisation server that checks everything; TLS with TLS."""

import http.server
import json
import ssl
import subprocess
import threading
import time
from types import SimpleNamespace
from urllib.parse import parse_qs

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from bonetumor.domain.errors import FhirUnavailable, Misconfigured
from bonetumor.fhir.auth import BackendServices, jwks, read_signing_key
from bonetumor.fhir.client import FhirClient
from bonetumor.worker import wiring_ehr
from bonetumor.worker.settings import Settings

BASE = "http://ehr.test/fhir"
TOKEN_URL = "http://auth.test/token"


def write_key(file, key=None):
    made = key or rsa.generate_private_key(65537, 2048)
    form = serialization.PrivateFormat.PKCS8
    file.write_bytes(
        made.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())
    )
    return file


class AuthorizationServer:
    """Checks assertions against a JWKS and gives out tokens; also the FHIR server behind it."""

    def __init__(self, key_set):
        self.key_set = key_set
        self.used = set()
        self.given = []
        self.good = None
        self.calls = []

    def answer(self, request):
        self.calls.append(str(request.url))
        if request.url.path.endswith("smart-configuration"):
            return httpx.Response(200, json={"token_endpoint": TOKEN_URL})
        if str(request.url) == TOKEN_URL:
            return self._token(parse_qs(request.content.decode()))
        if request.headers.get("Authorization") != f"Bearer {self.good}":
            return httpx.Response(401)
        return httpx.Response(200, json={"resourceType": "CapabilityStatement"})

    def _token(self, form):
        assertion = form["client_assertion"][0]
        header = jwt.get_unverified_header(assertion)
        known = {k["kid"]: k for k in self.key_set["keys"]}
        if header["kid"] not in known or header["alg"] not in {"RS384", "ES384"}:
            return httpx.Response(400, json={"error": "invalid_client"})
        claims = jwt.decode(
            assertion,
            jwt.PyJWK(known[header["kid"]]).key,
            [header["alg"]],
            audience=TOKEN_URL,
            options={"verify_iat": False},
        )
        assert claims["iss"] == claims["sub"] == "us"
        assert claims["exp"] - claims["iat"] <= 300
        assert claims["jti"] not in self.used
        assert form["grant_type"] == ["client_credentials"]
        assert form["scope"] == ["system/Patient.rs"]
        self.used.add(claims["jti"])
        self.good = f"token-{len(self.used)}"
        return httpx.Response(
            200, json={"access_token": self.good, "token_type": "bearer", "expires_in": 300}
        )


def services(server, keys, **more):
    http = httpx.Client(transport=httpx.MockTransport(server.answer))
    auth = BackendServices(
        http, fhir_base_url=BASE, client_id="us", keys=keys, scope="system/Patient.rs", **more
    )
    return auth, FhirClient(BASE, http=http, authorization=auth, sleep=lambda _: None)


@pytest.mark.parametrize(
    "key", [None, ec.generate_private_key(ec.SECP384R1())], ids=["RS384", "ES384"]
)
def test_a_signed_assertion_is_exchanged_for_a_token_that_is_kept(tmp_path, key):
    ours = read_signing_key(write_key(tmp_path / "k.pem", key))
    server = AuthorizationServer(jwks([ours]))
    _, client = services(server, [ours])
    client.metadata()
    client.metadata()
    assert len(server.used) == 1


def test_a_token_is_renewed_before_it_ends_and_once_after_a_401(tmp_path):
    ours = read_signing_key(write_key(tmp_path / "k.pem"))
    server = AuthorizationServer(jwks([ours]))
    later = [0.0]
    _, client = services(server, [ours], clock=lambda: time.time() + later[0])
    client.metadata()
    server.good = "another"
    client.metadata()
    assert len(server.used) == 2
    later[0] = 280.0
    client.metadata()
    assert len(server.used) == 3


@pytest.mark.parametrize("lifetime", [None, "soon", -1, "inf", [300]])
def test_a_token_without_a_lifetime_is_kept_for_a_while(lifetime, tmp_path):
    asked = []

    def answer(request):
        asked.append(str(request.url))
        token = {"access_token": "t", "token_type": "bearer", "expires_in": lifetime}
        return httpx.Response(200, json=token if asked[-1] == TOKEN_URL else {})

    ours = read_signing_key(write_key(tmp_path / "k.pem"))
    _, client = services(SimpleNamespace(answer=answer), [ours], token_url=TOKEN_URL)
    client.metadata()
    client.metadata()
    assert asked.count(TOKEN_URL) == 1


def test_keys_are_replaced_through_the_jwks_without_a_gap(tmp_path):
    old, new = (read_signing_key(write_key(tmp_path / name)) for name in ("old.pem", "new.pem"))
    server = AuthorizationServer(jwks([old]))
    with pytest.raises(FhirUnavailable, match="invalid_client"):
        services(server, [new, old])[1].metadata()
    server.key_set = jwks([old, new])  # the server has seen both; either may sign
    services(server, [old, new])[1].metadata()
    services(server, [new, old])[1].metadata()
    server.key_set = jwks([new])
    services(server, [new])[1].metadata()
    assert all("d" not in key for key in jwks([old, new])["keys"])


def test_threads_share_one_token(tmp_path):
    ours = read_signing_key(write_key(tmp_path / "k.pem"))
    server = AuthorizationServer(jwks([ours]))
    auth, _ = services(server, [ours])
    threads = [threading.Thread(target=auth.headers) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(server.used) == 1


@pytest.mark.parametrize(
    "answer",
    [
        httpx.Response(503),
        httpx.Response(200, json={"access_token": 5}),
        httpx.Response(200, text="<html>"),
        httpx.Response(401, json={"error": "invalid_client"}),
    ],
)
def test_a_token_that_cannot_be_had_makes_the_ehr_unavailable(tmp_path, answer):
    ours = read_signing_key(write_key(tmp_path / "k.pem"))
    http = httpx.Client(transport=httpx.MockTransport(lambda _: answer))
    auth = BackendServices(
        http, fhir_base_url=BASE, client_id="us", keys=[ours], scope="x", token_url=TOKEN_URL
    )
    with pytest.raises(FhirUnavailable, match="token endpoint"):
        auth.headers()


@pytest.mark.parametrize(
    "key", [ec.generate_private_key(ec.SECP256R1()), rsa.generate_private_key(65537, 1024)]
)
def test_weak_or_wrong_keys_are_refused_at_start(tmp_path, key):
    with pytest.raises(Misconfigured, match=r"ehr\.smart\.keys"):
        read_signing_key(write_key(tmp_path / "k.pem", key))
    (tmp_path / "x.pem").write_text("no key")
    with pytest.raises(Misconfigured, match=r"ehr\.smart\.keys"):
        read_signing_key(tmp_path / "x.pem")


def _openssl(*arguments):
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)


@pytest.fixture(scope="module")
def tls(tmp_path_factory):
    """An authority, a server with a certificate of it, and one for us."""
    folder = tmp_path_factory.mktemp("tls")
    for name in ("authority", "stranger"):
        _openssl(
            "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", 2, "-subj", f"/CN={name}",
            "-keyout", folder / f"{name}.key", "-out", folder / f"{name}.pem",
        )  # fmt: skip
    (folder / "names").write_text("subjectAltName=IP:127.0.0.1")
    for name in ("server", "client"):
        _openssl(
            "req", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={name}",
            "-keyout", folder / f"{name}.key", "-out", folder / f"{name}.csr",
        )  # fmt: skip
        _openssl(
            "x509", "-req", "-in", folder / f"{name}.csr", "-CA", folder / "authority.pem",
            "-CAkey", folder / "authority.key", "-days", 2, "-extfile", folder / "names",
            "-out", folder / f"{name}.pem",
        )  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.pem", folder / "server.key")
    context.load_verify_locations(folder / "authority.pem")
    context.verify_mode = ssl.CERT_REQUIRED

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            body = json.dumps({"resourceType": "CapabilityStatement"}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    class Server(http.server.ThreadingHTTPServer):
        def handle_error(self, *_):
            pass

    server = Server(("127.0.0.1", 0), Handler)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield folder, server.server_address[1]
    server.shutdown()
    server.server_close()


def _reaches(tls, **ehr) -> bool:
    _, port = tls
    made = {"base_url": f"https://127.0.0.1:{port}/fhir", "identifier_systems": {}}
    client = wiring_ehr.build_fhir_client(Settings(ehr=made | ehr))
    try:
        client.metadata()
    except FhirUnavailable:
        return False
    finally:
        client.close()
    return True


def test_mutual_tls_with_the_sites_own_authority(tls):
    folder, _ = tls
    ours = {"certificate": folder / "client.pem", "key": folder / "client.key"}
    assert _reaches(tls, authority=folder / "authority.pem", **ours)
    assert not _reaches(tls, authority=folder / "authority.pem")
    assert not _reaches(tls, authority=folder / "stranger.pem", **ours)
    assert not _reaches(tls, **ours)


def test_half_a_configuration_is_refused(tls, tmp_path):
    with pytest.raises(Misconfigured, match="PEM"):
        _reaches(tls, authority=tmp_path / "none.pem")
    key = write_key(tmp_path / "k.pem")
    with pytest.raises(Misconfigured, match="token or smart"):
        _reaches(tls, token="t", smart={"client_id": "us", "keys": [key]})
