"""TLS of the service's own, where nothing before it does that: certificate and key, checked before anything runs."""

from __future__ import annotations

import ssl

from lastseen.configuration.service_settings import ServiceSettings
from lastseen.engine.errors import InvalidSetting, shown


def check_tls(settings: ServiceSettings) -> bool:
    """Whether the service speaks TLS. Raises `InvalidSetting` where certificate and key are no good, or not a pair."""
    certificate, key = settings.tls_cert_file, settings.tls_key_file
    if certificate is None:
        if key is not None:
            raise InvalidSetting(f"tls_key_file = {shown(key)}: a key needs its certificate: give tls_cert_file too")
        return False
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        # A locked key would be asked for on the terminal, where there is none.
        context.load_cert_chain(certificate, key, password=lambda: "")
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or error
        raise InvalidSetting(
            f"tls_cert_file = {shown(certificate)}, tls_key_file = {shown(key)}: cannot be used ({reason}): give PEM"
            " files of a certificate and of its own key, without a password; the key may be in the first file"
        ) from None
    return True
