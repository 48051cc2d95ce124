"""Runs a command for as long as the process that started it lives, and no longer.

`Guarded` is the starter's side. Between it and the command stands this file as a process of its own:

    guard.py OUTPUT COMMAND... [--orphaned COMMAND...]

Its standard input is a pipe that the starter holds open. Each line on it is the number of a signal to pass on; its end,
which comes even when the starter is killed with -9, kills the command and then runs the second one. (The kernel's own
parent-death signal will not do: it fires when the starting *thread* ends.) The guard tells the command's process id on
its standard output, leaves the command's own words in OUTPUT, and ends when the command ends, with its exit code.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

_ORPHANED = "--orphaned"


class Guarded:
    """A command that ends when this process does."""

    def __init__(self, command: list[str], output: Path, orphaned: list[str] | None = None) -> None:
        """Start `command`, its output appended to a file; `orphaned` is run should this process die before it."""
        last = [_ORPHANED, *orphaned] if orphaned else []
        self._guard = subprocess.Popen(
            [sys.executable, "-I", "-S", __file__, str(output), *command, *last],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is for the starter, who then stops the command in its own way.
        )
        assert self._guard.stdout is not None
        answer = self._guard.stdout.readline()
        if not answer:
            self.wait()
            raise OSError(f"{command[0]} could not be started")
        self.pid = int(answer)

    def is_running(self) -> bool:
        """Whether the command has not ended."""
        return self._guard.poll() is None

    def signal(self, number: signal.Signals) -> None:
        """Pass a signal on to the command; nothing happens when it has ended."""
        assert self._guard.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._guard.stdin.write(b"%d\n" % number)
            self._guard.stdin.flush()

    def wait(self, timeout_s: float | None = None) -> int:
        """Wait for the command's end; its exit code, or 128 and the signal. Raises subprocess.TimeoutExpired."""
        code = self._guard.wait(timeout_s)
        for pipe in (self._guard.stdin, self._guard.stdout):
            assert pipe is not None
            with contextlib.suppress(BrokenPipeError):
                pipe.close()
        return code


class _Orders(threading.Thread):
    """Passes on the signals that the starter asks for, until there is no starter."""

    def __init__(self, child: subprocess.Popen[bytes], orphaned: list[str]) -> None:
        super().__init__(daemon=True)
        self.child, self.orphaned = child, orphaned
        self.is_orphan = threading.Event()

    def run(self) -> None:
        with os.fdopen(0, "rb", buffering=0, closefd=False) as orders:
            for line in orders:
                self.child.send_signal(int(line))
        self.is_orphan.set()
        self.child.kill()
        if self.orphaned:
            subprocess.run(self.orphaned, stdin=subprocess.DEVNULL, capture_output=True, check=False)


def _main(arguments: list[str]) -> int:
    output, *rest = arguments
    split = rest.index(_ORPHANED) if _ORPHANED in rest else len(rest)
    with Path(output).open("ab") as sink:
        child = subprocess.Popen(rest[:split], stdin=subprocess.DEVNULL, stdout=sink, stderr=subprocess.STDOUT)
    os.write(1, b"%d\n" % child.pid)
    os.close(1)
    orders = _Orders(child, rest[split + 1 :])
    orders.start()
    code = child.wait()
    if orders.is_orphan.is_set():
        orders.join()
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    os._exit(_main(sys.argv[1:]))  # Not sys.exit(): the other thread is still reading.
