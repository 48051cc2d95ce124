"""The benchmarks' servers are real, are what a row says they are, and are gone afterwards."""

from __future__ import annotations

import os
import re
import socket
import subprocess
from pathlib import Path

import pytest
from peer_servers import have_servers

from benchmarks import server_programs, servers
from benchmarks.servers import PeerMissing, postgres_server, redis_server

pytestmark = pytest.mark.thorough


@pytest.fixture(autouse=True, scope="module")
def _servers_are_here() -> None:
    have_servers()


def ask_redis(port: int, *words: str) -> str:
    """What redis answers to a command, as it came over the wire."""
    command = f"*{len(words)}\r\n" + "".join(f"${len(word)}\r\n{word}\r\n" for word in words)
    with socket.create_connection((servers.LOOPBACK, port), 5) as line:
        line.sendall(command.encode())
        return line.recv(4096).decode()


def setting(port: int, name: str) -> str:
    """The value of one of redis's settings."""
    return ask_redis(port, "CONFIG", "GET", name).split("\r\n")[4]


def ask_postgres(dsn: str, query: str) -> str:
    """What PostgreSQL answers."""
    psql = servers._postgres_program("psql")
    return subprocess.run([psql, dsn, "-Atc", query], check=True, capture_output=True, text=True).stdout.strip()


def process_is_there(process_id: int) -> bool:
    try:
        os.kill(process_id, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize("appendonly", ["always", "everysec"])
def test_redis_flushes_its_file_as_configured(tmp_path: Path, appendonly: str) -> None:
    with redis_server(tmp_path, appendonly=appendonly) as server:
        assert (setting(server.port, "appendonly"), setting(server.port, "appendfsync")) == ("yes", appendonly)
        assert setting(server.port, "save") == ""
        assert setting(server.port, "bind") == servers.LOOPBACK
        ask_redis(server.port, "SET", "telegram:42", "seen")
        written = b"".join(file.read_bytes() for file in (tmp_path / "appendonlydir").iterdir())
        assert appendonly != "always" or b"telegram:42" in written


def test_redis_keeps_no_file_evicts_and_notifies_as_configured(tmp_path: Path) -> None:
    with redis_server(tmp_path, maxmemory="50mb", notify=True) as server:
        found = [setting(server.port, name) for name in ("appendonly", "maxmemory", "maxmemory-policy")]
        assert found == ["no", str(50 * 1024 * 1024), "allkeys-lru"]
        assert sorted(setting(server.port, "notify-keyspace-events")) == ["E", "x"]


def test_redis_answers_on_its_socket_and_is_gone_afterwards_on_an_error_too(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="in between"), redis_server(tmp_path) as server:  # noqa: PT012
        with socket.socket(socket.AF_UNIX) as line:
            line.connect(server.unix_socket)
            line.sendall(b"PING\r\n")
            assert line.recv(16) == b"+PONG\r\n"
        raise RuntimeError("in between")
    assert not process_is_there(server.process_id)
    assert not Path(server.unix_socket).exists()


def test_postgres_waits_for_the_disk_and_is_gone_afterwards(tmp_path: Path) -> None:
    with postgres_server(tmp_path / "p") as server:
        for name in ("fsync", "synchronous_commit", "full_page_writes"):
            assert ask_postgres(server.dsn, f"SHOW {name}") == "on"
        assert ask_postgres(server.dsn, "SHOW listen_addresses") == servers.LOOPBACK
        assert Path(ask_postgres(server.dsn, "SHOW data_directory")).parent == (tmp_path / "p").resolve()
        process_id = int((tmp_path / "p" / "pgdata" / "postmaster.pid").read_text("ascii").splitlines()[0])
    assert not process_is_there(process_id)


def test_a_server_that_is_not_here_is_said_to_be_missing_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(PeerMissing, match="redis-server: not on the path"), redis_server(tmp_path):
        pass
    monkeypatch.setattr(servers, "DEBIAN_POSTGRES", tmp_path)
    with pytest.raises(PeerMissing) as missing, postgres_server(tmp_path):
        pass
    assert (missing.value.name, "initdb" in missing.value.why) == ("postgresql", True)


def test_a_server_that_ends_at_once_is_missing_with_its_last_words(tmp_path: Path) -> None:
    with pytest.raises(PeerMissing, match=re.compile("ended at once.*appendfsync", re.S)):  # noqa: SIM117
        with redis_server(tmp_path, appendonly="sometimes"):
            pass


def test_peers_are_found_where_debian_puts_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert server_programs.find("redis-server") is None
    assert server_programs.find("postgresql", beside=tmp_path) is None
    program = tmp_path / "15" / "bin" / "initdb"
    program.parent.mkdir(parents=True)
    program.touch(mode=0o755)
    assert server_programs.find("postgresql", beside=tmp_path) == str(program)


def test_where_nothing_can_be_installed_it_is_said_and_that_is_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(server_programs, "find", lambda package: None)
    assert server_programs.main() == 0
    said = capfd.readouterr().err
    assert "redis-server is missing" in said
    assert "postgresql is missing" in said
