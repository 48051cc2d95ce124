"""The codec holds for spoilt records of every kind; `tests.fuzz.codec_atheris` looks for more, led by coverage."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from lastseen.engine import plain_touch
from lastseen.engine.clock import ms_from_iso
from tests.fuzz import codec_atheris
from tests.fuzz.codec_check import check
from tests.fuzz.mutation import spoil

SEED, INPUTS = 20_261_121, 4_000


def examples(folder: Path) -> list[bytes]:
    """What the fuzzer begins with."""
    codec_atheris.furnish(folder, Random(SEED))
    return [file.read_bytes() for file in sorted((folder / "examples").iterdir())]


def test_shortcut_and_models_agree_on_spoilt_records(tmp_path: Path) -> None:
    sound, chance = examples(tmp_path), Random(SEED)
    assert all(map(check, sound)), "every example is an event"
    events = sum(check(spoil(chance, chance.choice(sound))) for _ in range(INPUTS))
    assert INPUTS / 20 < events < INPUTS * 19 / 20, "most are neither all sound nor all rubbish"


def test_a_shortcut_that_reads_more_than_the_models_is_caught(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plain_touch, "_is_session_id", lambda text: text)
    (touch,) = (each for each in examples(tmp_path) if plain_touch.read(each))
    with pytest.raises(AssertionError, match="disagree"):
        check(with_foreign_id(touch))


def with_foreign_id(touch: bytes) -> bytes:
    """The same with a session id of 22 characters that are none of ours."""
    at = touch.index(b'"session_id":"') + len(b'"session_id":"')
    return touch[:at] + b"!" * 22 + touch[at + 22 :]


def test_a_time_that_is_read_wrongly_is_caught(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (touch,) = (each for each in examples(tmp_path) if plain_touch.read(each))
    monkeypatch.setattr(plain_touch, "_second_ms", {})
    monkeypatch.setattr(plain_touch, "ms_from_iso", lambda text: ms_from_iso(text) + 1)
    with pytest.raises(AssertionError, match="disagree"):
        check(touch)
