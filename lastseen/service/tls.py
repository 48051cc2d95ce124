"""TLS of the service's own, where nothing before it does that: certificate and key, checked before anything runs."""

from __future__ import annotations

import logging
import ssl
from pathlib import Path

from lastseen.configuration.service_settings import ServiceSettings
from lastseen.engine.errors import InvalidSetting, shown

LOOK_INTERVAL_S = 5.0
"""How often a service looks whether its certificate was renewed."""
_logger = logging.getLogger("lastseen.service")


class RenewableCertificate:
    """The certificate of a running service: a renewed one serves the connections that come after, without a restart."""

    def __init__(self, settings: ServiceSettings, context: ssl.SSLContext) -> None:
        """`context` is what new connections are made with; it has the certificate of `settings`."""
        self._settings, self._context = settings, context
        self._seen = self._stamps()

    def look(self) -> None:
        """Take the certificate from its files if they have changed and are a pair.

        Files that cannot be used leave the service with the certificate that it has, and a warning in its log.
        """
        stamps = self._stamps()
        if stamps == self._seen:
            return
        self._seen = stamps
        settings = self._settings
        assert settings.tls_cert_file is not None
        try:
            check_tls(settings)
            self._context.load_cert_chain(settings.tls_cert_file, settings.tls_key_file, password=lambda: "")
        except (InvalidSetting, OSError, ValueError) as error:
            # Often only one of two files is written yet; the next look sees the other.
            _logger.warning("the renewed certificate is not used", extra={"reason": str(error)})
            return
        _logger.info("certificate renewed", extra={"file": settings.tls_cert_file})

    def _stamps(self) -> list[tuple[int, int, int] | None]:
        """What tells whether the files are others: where they are, how long, and when they were written."""
        found: list[tuple[int, int, int] | None] = []
        for file in (self._settings.tls_cert_file, self._settings.tls_key_file):
            try:
                status = Path(file or "").stat()
            except OSError:
                found.append(None)
            else:
                found.append((status.st_ino, status.st_size, status.st_mtime_ns))
        return found


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
