"""Machines in namespaces, and a switch between them: ways can be cut, one or both, slowed down, and made to lose."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.network.namespace import Namespace

_SWITCH = Path(__file__).with_name("switch.py")
_NETWORK = "192.0.2."
"""Addresses for documentation only (RFC 5737)."""


class Network:
    """Machines by name, every one of which reaches every other until a way is cut. Close it after use."""

    def __init__(self, names: Sequence[str], seed: int = 0) -> None:
        """Make the machines. The seed says which packets are lost. Raises NoNamespaces."""
        self.machines: dict[str, Namespace] = {}
        try:
            for number, name in enumerate(names, start=1):
                self.machines[name] = Namespace(f"{_NETWORK}{number}")
            wires = [(machine.wire, machine.address) for machine in self.machines.values()]
            self._switch = subprocess.Popen(
                [sys.executable, "-I", "-S", str(_SWITCH), str(seed), *(f"{wire}={at}" for wire, at in wires)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                pass_fds=[wire for wire, _ in wires],
                start_new_session=True,
            )
        except BaseException:
            self._let_go()
            raise

    def __getitem__(self, name: str) -> Namespace:
        return self.machines[name]

    def change(self, sender: str, receiver: str, *, delay_ms: float = 0, jitter_ms: float = 0, loss: float = 0) -> None:
        """From now on packets from `sender` to `receiver` take so long, and this share of them is lost."""
        places = {"sender": self[sender].address, "receiver": self[receiver].address}
        self._tell(places | {"delay_ms": delay_ms, "jitter_ms": jitter_ms, "loss": loss})

    def cut(self, sender: str, receiver: str) -> None:
        """From now on nothing arrives that `sender` sends to `receiver`; the other way is as it was."""
        self.change(sender, receiver, loss=1)

    def separate(self, some: Sequence[str], others: Sequence[str]) -> None:
        """Cut both ways between some machines and others."""
        for one, other in itertools.product(some, others):
            self.cut(one, other)
            self.cut(other, one)

    def restore(self) -> None:
        """Every way is whole and fast again."""
        for one, other in itertools.permutations(self.machines, 2):
            self.change(one, other)

    def lost(self, sender: str, receiver: str) -> int:
        """How many packets from `sender` to `receiver` have not arrived so far."""
        way = [self[sender].address, self[receiver].address]
        return sum(lost for one, other, _, lost in self._tell({"count": True}) if [one, other] == way)

    def _tell(self, said: dict[str, object]) -> list[tuple[str, str, int, int]]:
        assert self._switch.stdin is not None
        assert self._switch.stdout is not None
        self._switch.stdin.write(json.dumps(said).encode() + b"\n")
        self._switch.stdin.flush()
        answer = self._switch.stdout.readline()
        if not answer:
            raise ConnectionError(f"the switch has ended, exit code {self._switch.wait()}")
        return [(one, other, passed, lost) for one, other, passed, lost in json.loads(answer) or ()]

    def close(self) -> None:
        """End the switch, and release the machines."""
        self._switch.communicate()
        self._let_go()

    def _let_go(self) -> None:
        for machine in self.machines.values():
            machine.close()
        self.machines.clear()
