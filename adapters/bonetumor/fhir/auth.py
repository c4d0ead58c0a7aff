"""Credentials for a FHIR server: none, a bearer token, or SMART Backend Services.

SMART App Launch 2.1, Backend Services: a JWT signed with our private key (RS384 or ES384) is
exchanged for a short-lived access token (RFC 7523). A token that is refused can be put right by
people, so it makes the server unavailable and fails no study. The first key signs; the public
halves of all keys stand in our JWKS, so that a key is replaced by adding the new one first, letting
the authorisation server see it, and then taking the old one out.
"""

import json
import math
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Protocol

import httpx
import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

from bonetumor.domain.errors import FhirUnavailable, Misconfigured

_ASSERTION = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
_UNSAID_LIFETIME_S = 300.0
_ASSERTION_S = 240  # SMART: at most five minutes
_EARLY_S = 30.0  # a token is renewed so long before it ends
_LEAST_RSA_BITS = 2048


class Authorization(Protocol):
    """What goes into the headers of every request to the FHIR origin."""

    def headers(self) -> dict[str, str]:
        """The headers of a request that is about to be sent."""
        ...

    def renew(self) -> bool:
        """Called after a 401: whether another try makes sense."""
        ...


class Anonymous:
    """No credentials: for servers that know us by our certificate, or do not ask."""

    def headers(self) -> dict[str, str]:
        """None."""
        return {}

    def renew(self) -> bool:
        """There is nothing to renew."""
        return False


@dataclass(frozen=True, slots=True)
class BearerToken:
    """A token that someone gave us."""

    token: str

    def headers(self) -> dict[str, str]:
        """The token as a bearer (RFC 6750)."""
        return {"Authorization": f"Bearer {self.token}"}

    def renew(self) -> bool:
        """It cannot be renewed by us."""
        return False


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A private key with the name (`kid`) under which our JWKS shows its public half."""

    private: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey
    key_id: str

    @property
    def algorithm(self) -> str:
        """RS384 or ES384."""
        return "RS384" if isinstance(self.private, rsa.RSAPrivateKey) else "ES384"

    def public_jwk(self) -> dict[str, Any]:
        """The public half (RFC 7517)."""
        return {
            **_public_jwk(self.private),
            "kid": self.key_id,
            "alg": self.algorithm,
            "use": "sig",
            "key_ops": ["verify"],
        }


def read_signing_key(file: Path) -> SigningKey:
    """A PEM file with an RSA key of at least 2048 bits or a P-384 key.

    Raises:
        Misconfigured: no such file, or another kind of key.
    """
    try:
        private = serialization.load_pem_private_key(file.read_bytes(), password=None)
    except (OSError, ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise Misconfigured(
            f"ehr.smart.keys: expected a private key in PEM without password in {file}, "
            f"got {type(error).__name__}"
        ) from error
    fits = (isinstance(private, rsa.RSAPrivateKey) and private.key_size >= _LEAST_RSA_BITS) or (
        isinstance(private, ec.EllipticCurvePrivateKey) and private.curve.name == "secp384r1"
    )
    if not fits or not isinstance(private, (rsa.RSAPrivateKey, ec.EllipticCurvePrivateKey)):
        raise Misconfigured(
            f"ehr.smart.keys: expected RSA of {_LEAST_RSA_BITS} bits or more, or P-384, "
            f"got another key in {file}"
        )
    return SigningKey(private, _thumbprint(_public_jwk(private)))


def jwks(keys: Sequence[SigningKey]) -> dict[str, Any]:
    """The JSON Web Key Set that the authorisation server is given."""
    return {"keys": [key.public_jwk() for key in keys]}


class BackendServices:
    """Access tokens by client assertion, cached until shortly before they end.

    `token_url` may be empty: then `.well-known/smart-configuration` of the FHIR server names it.
    """

    def __init__(
        self,
        http: httpx.Client,
        *,
        fhir_base_url: str,
        client_id: str,
        keys: Sequence[SigningKey],
        scope: str,
        token_url: str = "",
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._http = http
        self._base = fhir_base_url.rstrip("/")
        self._client_id = client_id
        self._key = keys[0]
        self._scope = scope
        self._token_url = token_url
        self._clock = clock
        self._lock = threading.Lock()
        self._token = ""
        self._ends = 0.0

    def headers(self) -> dict[str, str]:
        """The access token; fetched first where there is none that lasts."""
        with self._lock:
            if self._clock() >= self._ends - _EARLY_S:
                self._fetch()
            return {"Authorization": f"Bearer {self._token}"}

    def renew(self) -> bool:
        """Forgets the token: the next request fetches another."""
        with self._lock:
            self._ends = 0.0
        return True

    def _fetch(self) -> None:
        url = self._token_url or self._discover()
        now = int(self._clock())
        claims = {
            "iss": self._client_id,
            "sub": self._client_id,
            "aud": url,
            "jti": str(uuid.uuid4()),
            "iat": now,
            "exp": now + _ASSERTION_S,
        }
        assertion = jwt.encode(
            claims,
            self._key.private,
            algorithm=self._key.algorithm,
            headers={"kid": self._key.key_id},
        )
        answer = self._ask(
            "POST",
            url,
            data={
                "grant_type": "client_credentials",
                "scope": self._scope,
                "client_assertion_type": _ASSERTION,
                "client_assertion": assertion,
            },
        )
        token = answer.get("access_token")
        if not isinstance(token, str) or str(answer.get("token_type", "")).lower() != "bearer":
            raise FhirUnavailable("token endpoint: expected a bearer access_token, got none")
        self._token = token
        self._ends = self._clock() + _lifetime_s(answer.get("expires_in"))

    def _discover(self) -> str:
        found = self._ask("GET", f"{self._base}/.well-known/smart-configuration")
        url = found.get("token_endpoint")
        if not isinstance(url, str):
            raise FhirUnavailable("smart-configuration: expected a token_endpoint, got none")
        self._token_url = url
        return url

    def _ask(self, method: str, url: str, **content: Any) -> dict[str, Any]:
        try:
            response = self._http.request(
                method, url, headers={"Accept": "application/json"}, **content
            )
        except httpx.HTTPError as error:
            raise FhirUnavailable(
                f"token endpoint: expected an answer, got {type(error).__name__}"
            ) from error
        if response.status_code in {408, 425, 429} or response.status_code >= 500:
            raise FhirUnavailable(f"token endpoint: expected 2xx, got {response.status_code}")
        try:
            body = response.json()
        except ValueError:
            body = {}
        if not response.is_success or not isinstance(body, dict):
            code = body.get("error", "no reason given") if isinstance(body, dict) else "no reason"
            raise FhirUnavailable(
                f"token endpoint: expected 2xx, got {response.status_code}: {code}"
            )
        return body


def _lifetime_s(said: object) -> float:
    """How long a token may be used; five minutes where the answer holds no such number."""
    try:
        seconds = float(str(said))
    except ValueError:
        return _UNSAID_LIFETIME_S
    return seconds if 0 < seconds < math.inf else _UNSAID_LIFETIME_S


def _public_jwk(private: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> dict[str, Any]:
    if isinstance(private, rsa.RSAPrivateKey):
        return dict(RSAAlgorithm.to_jwk(private.public_key(), as_dict=True))
    return dict(ECAlgorithm.to_jwk(private.public_key(), as_dict=True))


def _thumbprint(jwk: dict[str, Any]) -> str:
    """RFC 7638, shortened: the same key has the same name everywhere."""
    kept = {k: jwk[k] for k in sorted(jwk) if k in {"kty", "n", "e", "crv", "x", "y"}}
    return sha256(json.dumps(kept, separators=(",", ":")).encode()).hexdigest()[:32]
