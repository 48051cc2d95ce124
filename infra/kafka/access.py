"""Who may connect to a broker's second listener, and how they prove it: TLS, SCRAM, or tokens."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

_LISTENER = "listener.name.secured"
_JAAS = "org.apache.kafka.common.security"


@dataclass(frozen=True)
class Access:
    """The rules of a node's second listener. With a `certificate` it speaks TLS; `mechanism` says how clients log in.

    Mechanisms: `SCRAM-SHA-256`, `SCRAM-SHA-512` and `PLAIN` for `users` (name → password); `OAUTHBEARER` for any client
    with an unsigned token, which is for tests only; None for TLS alone.
    """

    mechanism: str | None = "SCRAM-SHA-512"
    users: Mapping[str, str] = field(default_factory=dict)
    certificate: Certificate | None = None

    def protocol(self) -> str:
        """Kafka's name for the combination."""
        if self.mechanism is None and self.certificate is None:
            raise ValueError("access needs a mechanism, a certificate, or both")
        encryption = "SSL" if self.certificate else "PLAINTEXT"
        return f"SASL_{encryption}" if self.mechanism else encryption

    def settings(self, folder: str) -> dict[str, str]:
        """The listener's part of `server.properties`, for a node whose folder is `folder`."""
        settings = {}
        if self.certificate:
            settings[f"{_LISTENER}.ssl.keystore.type"] = "PEM"
            settings[f"{_LISTENER}.ssl.keystore.location"] = f"{folder}/{Certificate.KEYSTORE}"
        if self.mechanism:
            settings["sasl.enabled.mechanisms"] = self.mechanism
            settings[f"{_LISTENER}.{self.mechanism.lower()}.sasl.jaas.config"] = self._login_module()
        return settings

    def _login_module(self) -> str:
        if self.mechanism == "OAUTHBEARER":
            return f'{_JAAS}.oauthbearer.OAuthBearerLoginModule required unsecuredLoginStringClaim_sub="broker";'
        if self.mechanism == "PLAIN":
            users = "".join(f' user_{name}="{password}"' for name, password in self.users.items())
            return f"{_JAAS}.plain.PlainLoginModule required{users};"
        return f"{_JAAS}.scram.ScramLoginModule required;"

    def format_arguments(self) -> list[str]:
        """Arguments of formatting the storage: SCRAM's users are kept there."""
        if not (self.mechanism or "").startswith("SCRAM-"):
            return []
        users = [f"{self.mechanism}=[name={name},password={password}]" for name, password in self.users.items()]
        return [part for user in users for part in ("--add-scram", user)]


@dataclass(frozen=True)
class Certificate:
    """A certificate for loopback and its key. `authority` is the file that clients are to trust."""

    KEYSTORE = "keystore.pem"

    authority: Path
    keystore: Path

    @classmethod
    def make(cls, folder: Path) -> Certificate:
        """Make one with openssl, signed by an authority of its own, good for a week."""
        openssl = shutil.which("openssl")
        if not openssl:
            raise FileNotFoundError("openssl makes the broker's certificate; apt-get install openssl")
        folder.mkdir(parents=True, exist_ok=True)

        def run(*arguments: str) -> None:
            done = subprocess.run([openssl, *arguments], cwd=folder, capture_output=True, text=True, check=False)
            if done.returncode:
                raise OSError(f"openssl {arguments[0]} failed:\n{done.stderr}")

        key = ("-newkey", "rsa:2048", "-nodes")
        (folder / "node.ext").write_text(
            "basicConstraints = critical, CA:FALSE\n"
            "keyUsage = critical, digitalSignature, keyEncipherment\n"
            "extendedKeyUsage = serverAuth\n"
            "subjectKeyIdentifier = hash\n"
            "authorityKeyIdentifier = keyid\n"
            "subjectAltName = DNS:localhost, IP:127.0.0.1\n",
            encoding="utf-8",
        )
        run("req", "-x509", *key, "-keyout", "ca.key", "-out", "ca.pem", "-days", "7", "-subj", "/CN=lastseen tests",
            "-addext", "keyUsage = critical, keyCertSign, cRLSign")  # fmt: skip
        run("req", *key, "-keyout", "node.key", "-out", "node.csr", "-subj", "/CN=localhost")
        run("x509", "-req", "-in", "node.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "7",
            "-extfile", "node.ext", "-out", "node.pem")  # fmt: skip
        parts = [(folder / name).read_text(encoding="ascii") for name in ("node.key", "node.pem", "ca.pem")]
        keystore = folder / cls.KEYSTORE
        keystore.write_text("".join(parts), encoding="ascii")
        return cls(authority=folder / "ca.pem", keystore=keystore)
