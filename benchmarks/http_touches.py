"""What HTTP costs: touches one by one beside a handler that does nothing, touches in batches, reads at a steady rate.

The caller is another process, which sends requests that were written beforehand over connections that stay open, and
looks at no more of an answer than its status and its length.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import cycle
from pathlib import Path
from urllib.parse import quote

import uvloop

from benchmarks.http_server import EMPTY, SESSIONS
from benchmarks.measure import Row, Size, at_most, interleaved, rate, ratio
from benchmarks.workload import key_of

CONNECTIONS = 32
REQUESTS = 6_000
BATCH = 1_000
READS_PER_S = 200
READ_SECONDS = 10
NOTES = """
- The service's own application on uvicorn in a process of its own, with guard and limits, no tokens. The empty handler
  is one more route of it. Callers are 32 connections of another process (one connection for batches), which shares the
  cores.
"""


@contextmanager
def server(folder: Path) -> Iterator[int]:
    """The port of a server of its own."""
    child = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.http_server", str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdin is not None
    assert child.stdout is not None
    try:
        yield int(child.stdout.readline())
    finally:
        child.stdin.close()
        child.wait(30)


def request(method: str, path: str, body: bytes = b"") -> bytes:
    """A request, ready to be sent."""
    head = f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n"
    if body:
        head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    elif method == "POST":
        head += "Content-Length: 0\r\n"
    return head.encode() + b"\r\n" + body


async def exchange(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, sent: bytes) -> None:
    """One request and its whole answer."""
    writer.write(sent)
    head = await reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 2"), head
    length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
    await reader.readexactly(length)


async def _all(port: int, requests: Sequence[bytes], connections: int, count: int) -> float:
    """Requests a second over so many connections, each of which waits for its answer."""
    left = iter(range(count))
    supply = cycle(requests)

    async def call() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for _ in left:
            await exchange(reader, writer, next(supply))
        writer.close()
        await writer.wait_closed()

    started = time.perf_counter()
    await asyncio.gather(*(call() for _ in range(connections)))
    return count / (time.perf_counter() - started)


async def _steadily(port: int, requests: Sequence[bytes]) -> list[float]:
    """Milliseconds from the moment at which each request was due to its answer, at a steady rate."""
    latencies: list[float] = []
    began = time.perf_counter() + 0.1
    due = iter(range(READS_PER_S * READ_SECONDS))
    supply = cycle(requests)

    async def call() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for number in due:
            due_at = began + number / READS_PER_S
            await asyncio.sleep(max(due_at - time.perf_counter(), 0))
            await exchange(reader, writer, next(supply))
            latencies.append((time.perf_counter() - max(due_at, began)) * 1000)
        writer.close()
        await writer.wait_closed()

    await asyncio.gather(*(call() for _ in range(CONNECTIONS)))
    return latencies


def run(folder: Path, size: Size) -> list[Row]:
    """All figures of this file."""
    keys = [quote(key_of(number), safe="") for number in range(SESSIONS)]
    touches = [request("POST", f"/v1/sessions/{key}/touch") for key in keys]
    reads = [request("GET", f"/v1/sessions/{key}") for key in keys]
    nothing = [request("POST", EMPTY)]
    batches = [
        request("POST", "/v1/touches", json.dumps({"keys": [key_of(n) for n in range(start, start + BATCH)]}).encode())
        for start in range(0, SESSIONS, BATCH)
    ]
    singly, by_batch = (1_000, 10) if size.is_quick else (REQUESTS, 50)
    with server(folder) as port, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        samples = interleaved(
            size.repetitions,
            touches=lambda: runner.run(_all(port, touches, CONNECTIONS, singly)),
            nothing=lambda: runner.run(_all(port, nothing, CONNECTIONS, singly)),
            batches=lambda: BATCH * runner.run(_all(port, batches, 1, by_batch)),
        )
        latencies = [] if size.is_quick else runner.run(_steadily(port, reads))
    rows = [
        ratio("HTTP: single touches / the same application's empty handler", samples, "touches", "nothing", 0.8),
        rate(f"HTTP: touches in batches of {BATCH:,} from one client", samples["batches"], 50_000),
    ]
    if not latencies:
        return rows
    p50, p99 = statistics.quantiles(latencies, n=100)[49], statistics.quantiles(latencies, n=100)[98]
    return [
        *rows,
        at_most(f"HTTP: a read at {READS_PER_S}/s, p50", [p50], "ms", 5.0),
        at_most(f"HTTP: a read at {READS_PER_S}/s, p99", [p99], "ms", 5.0),
    ]
