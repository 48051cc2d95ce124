"""The old gateway's store is the real one, unchanged, and does what its row says; the stand-in writes the same file."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from benchmarks import gateway_store, old_gateway
from benchmarks.gateway_store import GatewayStore, RealStore, StandIn, key_of
from benchmarks.measure import Size
from benchmarks.servers import PeerMissing

pytestmark = pytest.mark.thorough

SESSIONS = 20


@pytest.fixture(params=[RealStore, StandIn])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[GatewayStore]:
    with closing(request.param(tmp_path, SESSIONS)) as opened:
        yield opened


def test_it_is_the_class_of_the_package(tmp_path: Path) -> None:
    with closing(RealStore(tmp_path, 1)) as store:
        assert store.probe.ready == "gateway.session"
    assert (tmp_path / "home" / "state.db").exists(), "its own database is where the probe says, not in a home folder"


def test_a_message_rewrites_the_whole_file_and_keeps_the_session(store: GatewayStore) -> None:
    before = json.loads(store.path.read_text("utf-8"))
    inode = store.path.stat().st_ino
    assert store.touch(4) > 0
    after = json.loads(store.path.read_text("utf-8"))
    assert store.path.stat().st_ino != inode
    assert set(after) == set(before) == {key_of(number) for number in range(SESSIONS)}
    changed = [key for key in after if after[key] != before[key]]
    assert changed == [key_of(4)]
    assert after[key_of(4)]["session_id"] == before[key_of(4)]["session_id"]
    assert after[key_of(4)]["updated_at"] > before[key_of(4)]["updated_at"]


def test_a_prune_drops_the_old_half_and_a_restart_knows_the_rest(store: GatewayStore) -> None:
    assert store.restart(2) > 0
    removed, spent = store.prune(90)
    assert (removed, spent > 0) == (SESSIONS // 2, True)
    assert set(json.loads(store.path.read_text("utf-8"))) == {key_of(number) for number in range(0, SESSIONS, 2)}


def test_the_stand_in_writes_what_the_real_one_writes(tmp_path: Path) -> None:
    files = []
    for kind in (RealStore, StandIn):
        (tmp_path / kind.__name__).mkdir()
        with closing(kind(tmp_path / kind.__name__, 3)) as opened:
            files.append(json.loads(opened.path.read_text("utf-8")))
    real, stand_in = files
    assert set(real) == set(stand_in)
    for key, entry in real.items():
        assert set(stand_in[key]) == set(entry)
        varying = {"created_at", "updated_at"}
        assert {name: value for name, value in entry.items() if name not in varying} == {
            name: value for name, value in stand_in[key].items() if name not in varying
        }


def test_both_ways_are_compared_on_the_same_sessions(tmp_path: Path) -> None:
    rows = old_gateway.run(tmp_path, Size("full", 1, 10, SESSIONS, 40))
    message = rows[0]
    assert message.name == "gateway: a durable message / hermes-agent 0.13.0"
    assert message.target == "≥ 1,000"
    assert message.value == pytest.approx(message.samples["old"][0] / message.samples["new"][0])
    assert not [row for row in rows if row.missing]


def test_without_the_package_the_row_says_that_it_is_a_stand_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none_here() -> Path:
        raise PeerMissing("hermes-agent", "no network")

    monkeypatch.setattr(gateway_store, "unpacked", none_here)
    rows = old_gateway.run(tmp_path, Size("full", 1, 10, SESSIONS, 40))
    assert rows[0].name == "gateway: a durable message / a stand-in for it"
    assert [(row.subject, row.missing) for row in rows if row.missing] == [("hermes-agent", "no network")]
