"""TLS of a running service: silent sockets end in time, and a renewed certificate needs no restart."""

from __future__ import annotations

import shutil
import socket
import ssl
import subprocess
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from infra.kafka.access import Certificate
from tests.patience import PATIENCE_S, eventually, paced_s
from tests.service.running import Running

PAIR = ("--set", "tls_cert_file=tls/node.pem", "--set", "tls_key_file=tls/node.key")
ARGUMENTS = ("--log", "sqlite:///log.db", "--port", "0", *PAIR)
SILENCE_S = 10.0
"""What docs/security.md promises (`head_s`)."""


def answers(address: str, authority: Path) -> bool:
    """Whether the service proves itself by a certificate that an authority has signed."""
    with httpx.Client(verify=ssl.create_default_context(cafile=str(authority)), timeout=PATIENCE_S) as client:
        try:
            return client.get(f"{address}/livez").status_code == 200
        except httpx.ConnectError as error:
            if "certificate verify failed" not in str(error):
                raise
            return False


def test_a_renewed_certificate_serves_without_a_restart(tmp_path: Path) -> None:
    first = Certificate.make(tmp_path / "tls").authority.rename(tmp_path / "first.pem")
    with Running(tmp_path, *ARGUMENTS) as service:
        address = service.address()
        assert answers(address, first)
        second = Certificate.make(tmp_path / "renewed").authority
        assert not answers(address, second)
        # As it may be met: one file is there before the other.
        shutil.copy(tmp_path / "renewed" / "node.pem", tmp_path / "tls" / "node.pem")
        assert "cannot be used" in service.line("the renewed certificate is not used")["reason"]
        assert answers(address, first), "it goes on with what it has"
        shutil.copy(tmp_path / "renewed" / "node.key", tmp_path / "tls" / "node.key")
        service.line("certificate renewed")
        assert answers(address, second)
        assert not answers(address, first)
        # The metric is that of what is served now.
        assert expiry(address, second) == expires_s(tmp_path / "renewed" / "node.pem")


def expiry(address: str, authority: Path) -> float:
    """When the certificate of a service expires, as its metric says."""
    with httpx.Client(verify=ssl.create_default_context(cafile=str(authority)), timeout=PATIENCE_S) as client:
        text = client.get(f"{address}/metrics").text
    (line,) = [line for line in text.splitlines() if line.startswith("lastseen_certificate_not_after_seconds ")]
    return float(line.split()[1])


def expires_s(certificate: Path) -> float:
    """The same, as OpenSSL says."""
    said = subprocess.run(
        ["openssl", "x509", "-noout", "-enddate", "-in", str(certificate)], check=True, capture_output=True, text=True
    ).stdout
    return ssl.cert_time_to_seconds(said.strip().removeprefix("notAfter="))


@pytest.mark.thorough
def test_silent_sockets_end_in_the_time_that_the_page_promises(tmp_path: Path) -> None:
    authority = Certificate.make(tmp_path / "tls").authority
    with Running(tmp_path, *ARGUMENTS) as service:
        place = urlsplit(service.address())
        assert place.hostname is not None
        trusted = ssl.create_default_context(cafile=str(authority))
        with (
            socket.create_connection((place.hostname, place.port or 0)) as without_handshake,
            socket.create_connection((place.hostname, place.port or 0)) as plain,
            trusted.wrap_socket(plain, server_hostname=place.hostname) as shaken,
        ):
            began_s = paced_s()
            for each in (without_handshake, shaken):
                each.settimeout(PATIENCE_S)
                while each.recv(65_536):
                    pass  # of the second, the answer 408
            assert paced_s() - began_s < 2 * SILENCE_S + 5, "it was a minute"
            # And what the second does not close itself is not kept: its descriptor is free again.
            eventually(lambda: not connections_of(service), "the service has no connection left")


def connections_of(service: Running) -> list[str]:
    """The accepted connections of a process, by its descriptors and the kernel's list."""
    listed = {
        fields[9]: fields[3] for fields in (line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:])
    }
    held = []
    for descriptor in Path(f"/proc/{service.process.pid}/fd").iterdir():
        try:
            target = str(descriptor.readlink())
        except OSError:
            continue
        inode = target.removeprefix("socket:[").removesuffix("]")
        if inode in listed and listed[inode] != "0A":  # 0A: listens
            held.append(target)
    return held
