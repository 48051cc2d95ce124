"""The servers that some peers are: started on loopback for one measurement, waited for, and stopped again.

Each keeps its files in a folder that it is given and listens on a port that was free a moment ago. Nothing of the
machine's own settings is read: a server's settings are here, so that a row can name it.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

READY_WITHIN_S = 30.0
STOPPED_WITHIN_S = 30.0
LOOPBACK = "127.0.0.1"
DEBIAN_POSTGRES = Path("/usr/lib/postgresql")
"""Debian keeps PostgreSQL's programs off the path, in a folder for each version."""


class PeerMissing(Exception):
    """A peer cannot be had on this machine: its name, and why."""

    def __init__(self, name: str, why: str) -> None:
        super().__init__(f"{name}: {why}")
        self.name = name
        self.why = why


@dataclass(frozen=True, slots=True)
class RedisServer:
    """A running redis-server: reached by TCP on loopback, or by its socket."""

    port: int
    unix_socket: str
    process_id: int


@dataclass(frozen=True, slots=True)
class PostgresServer:
    """A running PostgreSQL: what libpq connects by (a Unix socket, no password; it listens on loopback too)."""

    dsn: str
    port: int


@contextmanager
def redis_server(
    folder: Path, *, appendonly: str | None = None, maxmemory: str | None = None, notify: bool = False
) -> Iterator[RedisServer]:
    """A redis-server for the time of a measurement.

    `appendonly` is `always`, `everysec` or `no`: an append-only file that is flushed so; `None` means no such file.
    `maxmemory` (as `100mb`) evicts by `allkeys-lru`. `notify` publishes expiry events. Snapshots by time are off.
    Raises `PeerMissing`.
    """
    program = shutil.which("redis-server")
    if program is None:
        raise PeerMissing(
            "redis-server", "not on the path; on Debian, python -m benchmarks.server_programs installs it"
        )
    folder = _made(folder)
    # A socket's path has room for 107 bytes, which a folder of a test can be longer than.
    with tempfile.TemporaryDirectory(prefix="redis-") as sockets:
        port, path = _free_port(), f"{sockets}/redis.sock"
        command = [program, "--bind", LOOPBACK, "--port", str(port), "--unixsocket", path, "--dir", str(folder)]
        command += ["--save", "", "--daemonize", "no", "--appendonly", "no" if appendonly is None else "yes"]
        if appendonly is not None:
            command += ["--appendfsync", appendonly]
        if maxmemory is not None:
            command += ["--maxmemory", maxmemory, "--maxmemory-policy", "allkeys-lru"]
        if notify:
            command += ["--notify-keyspace-events", "Ex"]
        with _running(command, folder / "redis.log") as process:
            _wait(process, "redis-server", folder / "redis.log", lambda: _answers_ping(path))
            yield RedisServer(port, path, process.pid)


@contextmanager
def postgres_server(folder: Path) -> Iterator[PostgresServer]:
    """A PostgreSQL of its own for the time of a measurement, with a database `bench` of the user `bench`.

    Every commit waits for the disk (`fsync` and `synchronous_commit` are on). It refuses to run as root, so root runs
    it as another user, with the folder made that user's. Raises `PeerMissing`.
    """
    initdb, postgres = (_postgres_program(name) for name in ("initdb", "postgres"))
    folder = _made(folder)
    data = folder / "pgdata"
    data.mkdir(mode=0o700)
    with tempfile.TemporaryDirectory(prefix="postgres-") as sockets:
        as_other = _as_other_user(data, Path(sockets))
        quiet = {**os.environ, "LC_ALL": "C", "TZ": "UTC"}
        made = subprocess.run(
            [*as_other, initdb, "-D", str(data), "-U", "bench", "-A", "trust", "-E", "UTF8", "--no-sync"],
            cwd="/", env=quiet, capture_output=True, text=True, check=False,
        )  # fmt: skip
        if made.returncode:
            raise PeerMissing("postgresql", f"initdb failed: {made.stderr.strip()[-300:]}")
        port = _free_port()
        settings = {
            "listen_addresses": LOOPBACK, "port": str(port), "unix_socket_directories": sockets, "fsync": "on",
            "synchronous_commit": "on", "shared_buffers": "256MB", "max_connections": "100", "max_wal_size": "2GB",
        }  # fmt: skip
        command = [*as_other, postgres, "-D", str(data)]
        command += [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        dsn = f"host={sockets} port={port} user=bench dbname=postgres"
        with _running(command, folder / "postgres.log", stop_by=signal.SIGINT) as process:
            ready = [_postgres_program("pg_isready"), "-h", sockets, "-p", str(port), "-U", "bench", "-q"]
            _wait(
                process, "postgresql", folder / "postgres.log",
                lambda: subprocess.run(ready, check=False, capture_output=True).returncode == 0,
            )  # fmt: skip
            yield PostgresServer(dsn, port)


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder.resolve()


def _free_port() -> int:
    with socket.socket() as asking:
        asking.bind((LOOPBACK, 0))
        return int(asking.getsockname()[1])


def _answers_ping(path: str) -> bool:
    with socket.socket(socket.AF_UNIX) as line:
        line.settimeout(1)
        line.connect(path)
        line.sendall(b"PING\r\n")
        return line.recv(64).startswith(b"+PONG")


def _postgres_program(name: str) -> str:
    beside = sorted(DEBIAN_POSTGRES.glob(f"*/bin/{name}"), key=_version, reverse=True)
    found = str(beside[0]) if beside else shutil.which(name)
    if found is None:
        raise PeerMissing("postgresql", f"no {name}; on Debian, python -m benchmarks.server_programs installs it")
    return found


def _version(program: Path) -> float:
    try:
        return float(program.parts[-3])
    except ValueError:
        return 0.0


def _as_other_user(*folders: Path) -> list[str]:
    """What stands before a command that must not run as root; nothing for other users. Hands the folders over."""
    if os.geteuid() != 0:
        return []
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        raise PeerMissing("postgresql", "it does not run as root, and there is no setpriv to run it as another user")
    user = next(filter(None, map(_user, ("postgres", "nobody"))), None)
    if user is None:
        raise PeerMissing("postgresql", "it does not run as root, and there is no user postgres or nobody")
    for folder in folders:
        os.chown(folder, user.pw_uid, user.pw_gid)
    # It may pass through folders above its own that are root's only, and is root in no other way.
    through = ["--inh-caps=-all,+dac_override", "--ambient-caps=-all,+dac_override"]
    return [setpriv, f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups", *through]


def _user(name: str) -> pwd.struct_passwd | None:
    try:
        return pwd.getpwnam(name)
    except KeyError:
        return None


@contextmanager
def _running(command: list[str], log: Path, stop_by: int = signal.SIGTERM) -> Iterator[subprocess.Popen[bytes]]:
    """A server in the foreground, stopped at the end whatever happens in between; what it says goes to `log`."""
    with log.open("wb") as said:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=said, stderr=subprocess.STDOUT, cwd="/",
        )  # fmt: skip
        try:
            yield process
        finally:
            with suppress(ProcessLookupError):
                process.send_signal(stop_by)
            try:
                process.wait(STOPPED_WITHIN_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait(process: subprocess.Popen[bytes], name: str, log: Path, ready: Callable[[], bool]) -> None:
    """Wait until the server answers. One that ends or does not answer in time is missing; its last words say why."""
    give_up = time.monotonic() + READY_WITHIN_S
    while time.monotonic() < give_up:
        if process.poll() is not None:
            raise PeerMissing(name, f"it ended at once: {_last_words(log)}")
        with suppress(OSError):
            if ready():
                return
        time.sleep(0.02)
    raise PeerMissing(name, f"it did not answer within {READY_WITHIN_S:g} s: {_last_words(log)}")


def _last_words(log: Path) -> str:
    return log.read_text("utf-8", "replace").strip()[-300:] or "it said nothing"
