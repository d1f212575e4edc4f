"""TLS by BCP 195: version 1.2 or later, OpenSSL's choice of ciphers, clients' certificates where an authority is set.

PS3.15 B.12: the profile "BCP 195 RFC 8996, RFC 9325".
"""

import ssl
from collections.abc import Callable
from pathlib import Path

from bleedmap.errors import SettingsError


def make_server_context(certificate: str, key: str, client_ca: str) -> ssl.SSLContext | None:
    """The context of a listener; None where no certificate is set.

    Raises:
        SettingsError: a file that cannot be read or is no certificate.
    """
    if not certificate:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    _load(context.load_cert_chain, certificate, key or None)
    if client_ca:
        _load(context.load_verify_locations, client_ca)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def make_client_context(authority: str, certificate: str = "", key: str = "") -> ssl.SSLContext:
    """The context for a target: its certificate is always checked.

    Args:
        authority: PEM file; '': the system's authorities.
        certificate, key: of ours, where the target asks for one.

    Raises:
        SettingsError: a file that cannot be read or is no certificate.
    """
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if authority:
        _load(context.load_verify_locations, authority)
    if certificate:
        _load(context.load_cert_chain, certificate, key or None)
    return context


def _load(load: Callable[..., None], path: str, *more: str | None) -> None:
    try:
        load(path, *more)
    except (OSError, ssl.SSLError) as error:
        raise SettingsError(
            path, found=f"cannot be used: {error}" if Path(path).exists() else "is not there",
            needed="a PEM file of a certificate, and of its key without a password",
            remedy="mend the path: --ca-file, or the settings tls_certificate, tls_key, tls_client_ca, tls_ca",
        ) from error  # fmt: skip
