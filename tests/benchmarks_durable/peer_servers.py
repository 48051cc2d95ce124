"""The servers under test, installed where that may be done without asking; what to do is said where it may not."""

from __future__ import annotations

from benchmarks.server_programs import SERVERS, find, install


def have_servers() -> None:
    """See that redis-server and PostgreSQL are here. Fails the test that asks, with what is missing."""
    missing = [package for package in SERVERS if find(package) is None]
    if missing:
        install(missing)
    still = [package for package in SERVERS if find(package) is None]
    assert not still, f"the benchmarks' peers are tested on real servers; install {', '.join(still)}"
