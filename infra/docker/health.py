"""Whether the service in this container is ready: at the port, with the TLS and for the roles that it is set up with.

It reads the settings where the service does, the environment before the file, but loads nothing of it: it runs every
few seconds. Flags of the container's command are not seen here: set what they would say in the environment.
"""

from __future__ import annotations

import os
import ssl
import sys
import tomllib
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path

TIMEOUT_S = 4
ANY_HOST = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "[::1]"}


def address(environment: Mapping[str, str]) -> str | None:
    """Where to ask; `None` where the service does not listen, as it lacks the role `api`."""
    named = environment.get("LASTSEEN_CONFIG")
    file = Path(named or "lastseen.toml")
    settings = tomllib.loads(file.read_text("utf-8")) if named or file.exists() else {}
    # Beside a Kubernetes service called `lastseen`, LASTSEEN_PORT is a link to that.
    own = {name: text for name, text in environment.items() if "://" not in text}
    host, port, certificate, roles = (
        own.get(f"LASTSEEN_{name.upper()}", settings.get(name, default))
        for name, default in (("host", "127.0.0.1"), ("port", 8321), ("tls_cert_file", "none"), ("roles", "api"))
    )
    names = [role.strip() for role in (roles.split(",") if isinstance(roles, str) else roles)]
    if "api" not in names:
        return None
    scheme = "http" if str(certificate).lower() in ("none", "") else "https"
    return f"{scheme}://{ANY_HOST.get(str(host), str(host))}:{port}/readyz"


def main() -> int:
    """0 if the service is ready, or has no role that listens."""
    url = address(os.environ)
    if url is None:
        return 0
    # It asks itself, under a name that is in no certificate.
    trusting = ssl.create_default_context()
    trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT_S, context=trusting):
            return 0
    except (OSError, urllib.error.URLError) as error:
        sys.stderr.write(f"{url}: {error}\n")
        return 1


if __name__ == "__main__":
    sys.exit(main())
