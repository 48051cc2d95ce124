"""A process whose wall clock can be stepped, by libfaketime; its monotonic clock and all other clocks continue as
before."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.faults.faketime import choose

PREFACE = """
import os, sys, threading, time
import lastseen
from lastseen.engine.errors import ClockSkew, LastseenError, LogError, Refused, SessionEnded, SessionNotFound

url, clock_file = sys.argv[1:3]
# libfaketime makes nonsense of a sleep until a moment of the monotonic clock, which Python's is.
def pause(seconds):
    threading.Event().wait(seconds)
time.sleep = pause

def step(by):
    '''Set the wall clock off by so much: "+2h", "-15m", "+0" for right.'''
    with open(clock_file + ".new", "w") as file:
        file.write(by)
    os.replace(clock_file + ".new", clock_file)

def eventually(what, within_s=20):
    give_up = time.monotonic() + within_s
    while not what():
        assert time.monotonic() < give_up, "it did not come about"
        pause(0.01)

def refused(call):
    '''The clock_skew that a call must be answered with.'''
    try:
        call()
    except ClockSkew as error:
        assert "set the clocks right" in str(error), error
        return error
    raise AssertionError("it was taken")

class Callers(threading.Thread):
    '''A caller that uses sessions all the time, at any clock; its outcomes are counted.'''
    def __init__(self, engine):
        super().__init__(daemon=True)  # or a script that fails would wait for him
        self.engine, self.outcomes, self.slowest_s, self.is_over = engine, {}, 0.0, False
    def run(self):
        number = 0
        while not self.is_over:
            number += 1
            began = time.monotonic()
            try:
                key = "busy:%d" % (number % 5)
                self.engine.open(key)
                self.engine.touch(key, message={"number": number})
                outcome = "done"
            except LastseenError as error:
                outcome = type(error).__name__
            except BaseException as error:
                outcome = repr(error)
            self.outcomes[outcome] = self.outcomes.get(outcome, 0) + 1
            self.slowest_s = max(self.slowest_s, time.monotonic() - began)
    def goes_on(self, outcome):
        '''Whether it gets this outcome again and again from now on.'''
        before = self.outcomes.get(outcome, 0)
        eventually(lambda: self.outcomes.get(outcome, 0) > before + 20)
    def end(self):
        self.is_over = True
        self.join()
        return self.outcomes
"""


@contextmanager
def stepped(script: str, url: str, folder: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that runs a script on a log under a clock of its own, killed at the end of the block.

    Raises `tests.programs.Missing`.
    """
    library, clock_file = choose(), folder / "clock"
    clock_file.write_text("+0", encoding="ascii")
    environment = {
        **os.environ,
        "PYTHONPATH": str(Path(__file__).parents[2]),
        "LD_PRELOAD": str(library),
        "FAKETIME_TIMESTAMP_FILE": str(clock_file),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "NO_FAKE_STAT": "1",
    }
    command = [sys.executable, "-c", PREFACE + script, url, str(clock_file)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True, env=environment) as process:
        try:
            yield process
        finally:
            process.kill()
