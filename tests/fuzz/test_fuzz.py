"""A few thousand bad inputs for every interface; `make fuzz` tries a hundred thousand."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lastseen.engine.codec import decode
from lastseen.engine.log.kafka.decompression import Unreadable
from lastseen.engine.verdicts import Verdict
from tests.fuzz import fuzzing, interfaces
from tests.fuzz.fuzzing import Broken, fuzz
from tests.fuzz.interfaces import INTERFACES

SEED, FEW_INPUTS, INPUTS = 20_261_121, 1_000, 5_000


@pytest.mark.parametrize("name", INTERFACES)
@pytest.mark.parametrize(
    ("seed", "inputs"), [(SEED, FEW_INPUTS), pytest.param(SEED + 1, INPUTS, marks=pytest.mark.thorough)]
)
def test_an_interface_holds(name: str, tmp_path: Path, seed: int, inputs: int) -> None:
    fuzz(name, tmp_path, seed, max(round(inputs * INTERFACES[name][1]), 25))


def test_an_interface_that_does_not_hold_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interfaces, "records_in", lambda body, *_: body[5])
    with pytest.raises(Broken, match=f"kafka batches: seed {SEED}, input"):
        fuzz("kafka batches", tmp_path, SEED, 500)


def test_an_interface_that_hangs_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def hang(*_: object) -> None:
        while True:
            pass

    monkeypatch.setattr(interfaces, "records_in", hang)
    monkeypatch.setattr(fuzzing, "LONGEST_S", 0.2)
    with pytest.raises(Broken, match="TimeoutError: no response within"):
        fuzz("kafka batches", tmp_path, SEED, 500)


def test_an_interface_that_keeps_what_it_gets_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[bytes] = []

    def keep(body: bytes, *_: object) -> list[object]:
        kept.append(body * 100)
        raise Unreadable("and kept")

    monkeypatch.setattr(interfaces, "records_in", keep)
    monkeypatch.setattr(fuzzing, "MOST_BYTES", 1_000_000)
    with pytest.raises(Broken, match="bytes of memory at a time"):
        fuzz("kafka batches", tmp_path, SEED, 500)


@settings(max_examples=300)
@given(key=st.text(max_size=20), value=st.binary(max_size=200))
def test_any_bytes_have_a_verdict_or_an_event(key: str, value: bytes) -> None:
    decoded = decode(key, value)
    assert isinstance(decoded, Verdict) or decoded[0].subject == key
