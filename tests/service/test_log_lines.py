"""What log lines look like, and what never stands in them."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from lastseen.monitoring.log_format import set_up

SECRET = "ls_" + "Ab3-_" * 8


@pytest.fixture
def written() -> Iterator[Callable[[str, str], io.StringIO]]:
    """Sets up log lines that go to a text; afterwards all is as it was."""
    root = logging.getLogger()
    before, level = root.handlers[:], root.level

    def start(form: str, least: str) -> io.StringIO:
        stream = io.StringIO()
        set_up(least, form, stream)
        return stream

    yield start
    root.handlers[:] = before
    root.setLevel(level)


def json_of(stream: io.StringIO) -> list[dict[str, Any]]:
    """The lines, each one JSON object."""
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_line_is_one_json_object(written: Callable[[str, str], io.StringIO]) -> None:
    stream = written("json", "info")
    logging.getLogger("lastseen.service").info("listening", extra={"address": "http://127.0.0.1:1", "roles": ("api",)})
    (line,) = json_of(stream)
    assert line.pop("time").endswith("Z")
    assert line == {
        "level": "info", "event": "listening", "logger": "lastseen.service", "address": "http://127.0.0.1:1",
        "roles": ["api"],
    }  # fmt: skip


def test_a_level_keeps_the_rest_out(written: Callable[[str, str], io.StringIO]) -> None:
    stream = written("json", "warning")
    logging.getLogger("lastseen").info("not this")
    logging.getLogger("lastseen").warning("%s failed", "flush")
    assert [line["event"] for line in json_of(stream)] == ["flush failed"]
    stream = written("json", "debug")
    logging.getLogger("lastseen").debug("this")
    logging.getLogger("kafka.client").debug("what a library sends")
    assert [line["event"] for line in json_of(stream)] == ["this"]


@pytest.mark.parametrize("form", ["json", "lines"])
def test_no_caller_can_forge_a_line(written: Callable[[str, str], io.StringIO], form: str) -> None:
    stream = written(form, "info")
    forged = 'x\n{"level":"error","event":"stopped"}\r\x1b[2J\u2028\x85y'
    try:
        raise ValueError(forged)
    except ValueError:
        logging.getLogger("lastseen").exception(forged, extra={"route": forged})
    lines = stream.getvalue().split("\n")
    assert lines.pop() == ""
    assert all(character.isprintable() for line in lines for character in line)
    if form == "json":
        assert [line["route"] for line in json_of(stream)] == [forged]
    else:
        # What an exception says goes on for several lines, and none of them begins like one of ours.
        assert [line[0] for line in lines[1:]] == [" "] * (len(lines) - 1)


@pytest.mark.parametrize("form", ["json", "lines"])
def test_no_secret_and_no_whole_key_is_written(written: Callable[[str, str], io.StringIO], form: str) -> None:
    stream = written(form, "info")
    log = logging.getLogger("lastseen")
    log.info("refused %s", SECRET, extra={"why": f"Authorization: Bearer {SECRET}x", "at": "amqp://ana:hunter2@host/"})
    log.info("connected", extra={"password": "hunter2", "kafka_password_file": "hunter2", "api_token": "hunter2"})
    log.info("touched", extra={"key": "discord:guild:ana", "session_id": "h3Zq0mJ5Tn2b8c1xYw9KfA", "count": 3})
    log.info("Bearer hunter2", extra={"address": "http://127.0.0.1:8321", "source": "lastseen@host"})
    text = stream.getvalue()
    if form == "json":
        assert json_of(stream)[-1]["source"] == "lastseen@host"
    for hidden in ("hunter2", SECRET[3:], "discord:guild", "ana", "h3Zq0mJ5Tn2"):
        assert hidden not in text, text
    assert "count" in text


def test_the_same_key_reads_the_same_in_all_lines(written: Callable[[str, str], io.StringIO]) -> None:
    stream = written("json", "info")
    for key in ("discord:guild:ana", "discord:guild:ana", "discord:guild:bo"):
        logging.getLogger("lastseen").info("touched", extra={"key": key})
    first, second, third = (line["key"] for line in json_of(stream))
    assert first == second != third


def test_a_line_for_people(written: Callable[[str, str], io.StringIO]) -> None:
    stream = written("lines", "info")
    logging.getLogger("lastseen").warning("flush failed", extra={"sessions": 3, "failing": ["flush"]})
    text = stream.getvalue()
    assert text[12:] == ' warning flush failed sessions=3 failing=["flush"]\n'
