"""Who may read: SMART bearer tokens (JWT), or one token that the site gave out. Nobody else."""

import hmac
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import jwt
from jwt import PyJWKClient

_ALGORITHMS = ["RS256", "RS384", "ES256", "ES384"]
_SCOPE = re.compile(r"^(system|user)/(\*|[A-Za-z]+)\.(read|\*|c?r?u?d?s?)$")


class Denied(Exception):
    """401 where nobody is known, 403 where the one who is known may not."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class Access(Protocol):
    """Decides who may read what."""

    def check(self, header: str | None, resource_type: str) -> None:
        """Raises Denied unless the Authorization header allows reading the type."""
        ...


@dataclass(frozen=True, slots=True)
class SiteToken:
    """One token for all who read, compared in constant time."""

    token: str

    def check(self, header: str | None, resource_type: str) -> None:  # noqa: ARG002 - all types
        """Raises Denied for any other token."""
        if not hmac.compare_digest(_bearer(header).encode(), self.token.encode()):
            raise Denied(401, "expected a valid bearer token, got another")


class SmartTokens:
    """JWTs of one issuer, for us, with a scope that covers the type (SMART 2.1, and 1.0)."""

    def __init__(self, *, issuer: str, audience: str, key_of: Callable[[str], Any]) -> None:
        self._issuer = issuer
        self._audience = audience
        self._key_of = key_of

    def check(self, header: str | None, resource_type: str) -> None:
        """Raises Denied for a token that is not whole, current, for us, and sufficient."""
        token = _bearer(header)
        try:
            claims = jwt.decode(
                token,
                self._key_of(token),
                algorithms=_ALGORITHMS,
                issuer=self._issuer,
                audience=self._audience,
                options={"require": ["exp", "iss", "aud"]},
            )
        except jwt.PyJWTError as error:
            raise Denied(401, f"expected a valid token, got {type(error).__name__}") from error
        scopes = str(claims.get("scope", "")).split()
        if not any(_covers(scope, resource_type) for scope in scopes):
            raise Denied(403, f"expected a scope to read {resource_type}, got none")


def keys_at(jwks_url: str) -> Callable[[str], Any]:
    """The issuer's keys, fetched when an unknown one appears."""
    client = PyJWKClient(jwks_url, cache_keys=True, timeout=10)
    return lambda token: client.get_signing_key_from_jwt(token).key


def _bearer(header: str | None) -> str:
    kind, _, token = (header or "").partition(" ")
    if kind.lower() != "bearer" or not token.strip():
        raise Denied(401, "expected a bearer token, got none")
    return token.strip()


def _covers(scope: str, resource_type: str) -> bool:
    found = _SCOPE.match(scope)
    if found is None or found.group(2) not in {"*", resource_type}:
        return False
    return found.group(3) in {"read", "*"} or "r" in found.group(3)
