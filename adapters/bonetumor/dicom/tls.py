"""TLS in both directions, after the BCP 195 profile of PS3.15 B.12: TLS 1.2 at least."""

import ssl
from collections.abc import Iterator
from contextlib import contextmanager

from bonetumor.domain.errors import Misconfigured


def server_context(certificate: str, key: str, client_authority: str | None) -> ssl.SSLContext:
    """For the listener. Senders must show a certificate of `client_authority` where one is given.

    Raises:
        Misconfigured: a file cannot be read.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    with _readable(certificate, key, client_authority):
        context.load_cert_chain(certificate, key)
        if client_authority is not None:
            context.load_verify_locations(client_authority)
            context.verify_mode = ssl.CERT_REQUIRED
    return context


def client_context(
    authority: str | None, certificate: str | None = None, key: str | None = None
) -> ssl.SSLContext:
    """For associations that we open: the peer must show a certificate of `authority`, or of an
    authority that this machine trusts, for its host name. We show `certificate` where it asks.

    Raises:
        Misconfigured: a file cannot be read.
    """
    with _readable(authority, certificate, key):
        context = ssl.create_default_context(cafile=authority)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if certificate is not None:
            context.load_cert_chain(certificate, key)
    return context


@contextmanager
def _readable(*files: str | None) -> Iterator[None]:
    """Names the files where one cannot be read: OpenSSL does not say which."""
    try:
        yield
    except OSError as error:
        named = ", ".join(file for file in files if file)
        raise Misconfigured(
            f"TLS: expected readable PEM files, got {error} among {named}"
        ) from error
