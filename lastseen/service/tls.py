"""TLS of the service's own, where nothing before it does that: certificate and key, checked before anything runs."""

from __future__ import annotations

import logging
import re
import ssl
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from lastseen.configuration.service_settings import ServiceSettings
from lastseen.engine.errors import InvalidSetting, shown
from lastseen.monitoring.metrics import gauge

LOOK_INTERVAL_S = 5.0
"""How often a service looks whether its certificate was renewed."""
_logger = logging.getLogger("lastseen.service")


class CertificateExpiry(Collector):
    """When the certificate that is served now expires, as a metric; nothing without TLS."""

    def __init__(self) -> None:
        self.not_after_s: float | None = None
        """Seconds since 1970; of a chain, those of the certificate that expires first."""

    def collect(self) -> Iterator[Metric]:
        """The figure as it is now."""
        if self.not_after_s is not None:
            says = "When the certificate that is served expires, in seconds since 1970"
            yield gauge("certificate_not_after_seconds", says, self.not_after_s)


class RenewableCertificate:
    """The certificate of a running service: a renewed one serves the connections that come after, without a restart."""

    def __init__(self, settings: ServiceSettings, context: ssl.SSLContext, expiry: CertificateExpiry) -> None:
        """`context` is what new connections are made with; it has the certificate of `settings`."""
        self._settings, self._context, self._expiry = settings, context, expiry
        self._seen = self._stamps()
        self._note_expiry()

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
        self._note_expiry()
        _logger.info("certificate renewed", extra={"file": settings.tls_cert_file})

    def _note_expiry(self) -> None:
        try:
            self._expiry.not_after_s = not_after_s(
                Path(self._settings.tls_cert_file or "").read_text("ascii", "replace")
            )
        except (OSError, ValueError, IndexError) as error:
            # Exchanged this very moment: the next look takes it from there. A wrong time would be worse than none.
            self._expiry.not_after_s = None
            _logger.warning("the certificate's expiry is unknown", extra={"reason": str(error)})

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


_PEM = re.compile("-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)
_VERSION, _UTC_TIME = 0xA0, 0x17


def not_after_s(pem: str) -> float:
    """When the first of the certificates in a PEM text expires, in seconds since 1970. Raises `ValueError`."""
    expiries = [_expiry_of(ssl.PEM_cert_to_DER_cert(found)) for found in _PEM.findall(pem)]
    if not expiries:
        raise ValueError("it holds no certificate")
    return min(expiries)


def _expiry_of(certificate: bytes) -> float:
    """`notAfter` of a certificate in DER (RFC 5280, 4.1). The standard library tells it of peers' only."""
    fields = _content(_content(certificate))  # tbsCertificate
    skipped = 4 if fields[0] == _VERSION else 3  # version, if given; serialNumber, signature, issuer
    for _ in range(skipped):
        fields = fields[_size(fields) :]
    validity = _content(fields)
    not_after = validity[_size(validity) :]
    text = _content(not_after).decode("ascii")
    if not_after[0] == _UTC_TIME:  # two digits of a year from 1950 on
        text = ("19" if text >= "50" else "20") + text
    return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC).timestamp()


def _header(der: bytes) -> tuple[int, int]:
    """The lengths of the header and of the content of the element that stands first."""
    length = der[1]
    if length < 0x80:
        return 2, length
    of_length = length & 0x7F
    return 2 + of_length, int.from_bytes(der[2 : 2 + of_length], "big")


def _size(der: bytes) -> int:
    return sum(_header(der))


def _content(der: bytes) -> bytes:
    header, length = _header(der)
    return der[header : header + length]
