"""TLS by BCP 195: version 1.2 or later, OpenSSL's choice of ciphers, clients' certificates where an authority is set.

PS3.15 B.12: the profile "BCP 195 RFC 8996, RFC 9325".
"""

import ssl
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
    _load(context, certificate, key)
    if client_ca:
        _load_authority(context, client_ca)
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
        _load_authority(context, authority)
    if certificate:
        _load(context, certificate, key)
    return context


def _load(context: ssl.SSLContext, certificate: str, key: str) -> None:
    try:
        context.load_cert_chain(certificate, key or None)
    except (OSError, ssl.SSLError) as error:
        raise _refuse(certificate, error) from error


def _load_authority(context: ssl.SSLContext, authority: str) -> None:
    try:
        context.load_verify_locations(authority)
    except (OSError, ssl.SSLError) as error:
        raise _refuse(authority, error) from error


def _refuse(path: str, error: Exception) -> SettingsError:
    missing = not Path(path).exists()
    return SettingsError(
        path, found="is not there" if missing else f"cannot be used: {error}",
        needed="a PEM file of a certificate, and of its key without a password",
        remedy="mend the path: --ca-file, or the settings tls_certificate, tls_key, tls_client_ca, tls_ca",
    )  # fmt: skip
