"""A stream whose caller does not read keeps no service from its end."""

from __future__ import annotations

import socket
from pathlib import Path
from urllib.parse import urlsplit

import httpx

import lastseen
from tests.patience import PATIENCE_S, eventually
from tests.service.running import Running

KEYS, ROUNDS = 500, 12
"""6,000 events that name a long key twice: some megabytes, more than the buffers of two sockets take."""


def unsent_bytes(socket_of_caller: socket.socket) -> int:
    """What the kernel has of the other side's, and cannot send."""
    here, there = (place[1] for place in (socket_of_caller.getsockname(), socket_of_caller.getpeername()))
    for line in Path("/proc/net/tcp").read_text(encoding="ascii").splitlines()[1:]:
        fields = line.split()
        if [int(place.split(":")[1], 16) for place in fields[1:3]] == [there, here]:
            return int(fields[4].split(":")[0], 16)
    return 0


def test_a_stream_that_is_not_read_is_cut_off_when_the_service_stops(tmp_path: Path) -> None:
    with lastseen.open_engine(f"sqlite:///{tmp_path}/log.db") as engine:
        keys = [f"{number:0>500}" for number in range(KEYS)]
        for key in keys:
            engine.create(key)
        for _ in range(ROUNDS):
            engine.touch_many(keys)
    arguments = ("--log", "sqlite:///log.db", "--port", "0", "--set", "shutdown_timeout=30m")
    with Running(tmp_path, *arguments) as service:
        address = service.address()
        with httpx.stream("GET", f"{address}/v1/events/stream", timeout=PATIENCE_S) as stream:
            newest = next(line for line in stream.iter_lines() if line.startswith("id: "))
        log_id = newest.removeprefix("id: ").partition(":")[0]
        place = urlsplit(address)
        with socket.socket() as unread:
            unread.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
            unread.settimeout(PATIENCE_S)
            unread.connect((place.hostname, place.port))
            unread.sendall(
                f"GET /v1/events/stream HTTP/1.1\r\nHost: {place.netloc}\r\nLast-Event-ID: {log_id}:1\r\n\r\n".encode()
            )
            assert unread.recv(12, socket.MSG_WAITALL) == b"HTTP/1.1 200"
            filled = [0]

            def is_full() -> bool:
                filled.append(unsent_bytes(unread))
                return filled[-1] == filled[-2] > 100_000

            eventually(is_full, "the buffers of both sockets are full", every_s=0.2)
            service.tell()
            assert service.exit_code() == 0
        service.line("closed a stream whose caller does not read")
        assert "closed callers' connections" not in {line["event"] for line in service.lines()}
