"""A peer in a process of its own, asked by lines and answering by lines of JSON."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.servers import PeerMissing

ENDS_WITHIN_S = 60


class Probe:
    """The process. `peer` is what is missing if it ends; what it says on its other output goes to the file `said`.

    It is ready when it has answered the first time, unasked. Raises `PeerMissing`, with its last words.
    """

    def __init__(
        self, peer: str, command: Sequence[str | Path], said: Path, env: Mapping[str, str] | None = None
    ) -> None:
        self._peer, self._said = peer, said
        with said.open("wb") as words:
            self._child = subprocess.Popen(
                [str(word) for word in command],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=words,
                text=True,
                env=None if env is None else dict(env),
            )
        try:
            self.ready: Any = self._answer()
            """What it said when it was ready."""
        except BaseException:
            self.close()
            raise

    def ask(self, *words: object) -> Any:
        """What it answers to a line of words. Raises `PeerMissing` if it has ended."""
        assert self._child.stdin is not None
        self._child.stdin.write(" ".join(map(str, words)) + "\n")
        self._child.stdin.flush()
        return self._answer()

    def _answer(self) -> Any:
        assert self._child.stdout is not None
        line = self._child.stdout.readline()
        if not line:
            last = self._said.read_text("utf-8", "replace").strip().splitlines()
            raise PeerMissing(self._peer, f"its process ended: {last[-1][:300] if last else 'it said nothing'}")
        return json.loads(line)

    def close(self) -> None:
        """End the process: its input ends, and it is waited for."""
        try:
            self._child.communicate(timeout=ENDS_WITHIN_S)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.communicate()
