"""A switch between namespaces, as a process of its own: packets go from wire to wire as the rules of their way say.

    switch.py SEED DESCRIPTOR=ADDRESS ...

Each line on standard input is a rule as JSON, `{"sender", "receiver", "delay_ms", "jitter_ms", "loss"}`, and is
answered with a line when it is in force; `{"count": true}` is answered with how many packets each way has passed and
lost. The end of the input ends the switch. It does by itself what the kernel's netem and packet filter do elsewhere, so
that it takes neither of them: many kernels lack the one, and many machines the programs for the other.
"""

from __future__ import annotations

import heapq
import itertools
import json
import os
import random
import select
import socket
import sys
import time
from collections import Counter
from typing import NamedTuple

_LONGEST_PACKET = 65_536
_AT_A_TIME = 64
"""Packets from one wire, before the others have their turn."""
_IPV4 = 4


class Rule(NamedTuple):
    """What becomes of the packets of one way."""

    delay_ms: float = 0.0
    jitter_ms: float = 0.0
    loss: float = 0.0
    """The share that is lost; 1 cuts the way."""


class Switch:
    """The wires, by the addresses at their ends, and the rules between them."""

    def __init__(self, wires: dict[str, int], seed: int) -> None:
        self.wires = {socket.inet_aton(address): wire for address, wire in wires.items()}
        self.rules: dict[tuple[bytes, bytes], Rule] = {}
        self.passed: Counter[tuple[bytes, bytes]] = Counter()
        self.lost: Counter[tuple[bytes, bytes]] = Counter()
        self._chance = random.Random(seed)
        self._waiting: list[tuple[float, int, bytes]] = []
        self._number = itertools.count()
        self._free_at: dict[tuple[bytes, bytes], float] = {}

    def take_from(self, wire: int) -> None:
        """Read what has been sent on a wire."""
        for _ in range(_AT_A_TIME):
            try:
                packet = os.read(wire, _LONGEST_PACKET)
            except OSError:  # nothing more; or the machine at its end is gone
                return
            if len(packet) >= 20 and packet[0] >> 4 == _IPV4:
                self._forward(packet)

    def _forward(self, packet: bytes) -> None:
        way = packet[12:16], packet[16:20]
        rule = self.rules.get(way)
        if rule is None:
            self.passed[way] += 1
            self._deliver(packet)
        elif self._chance.random() < rule.loss:
            self.lost[way] += 1
        else:
            self.passed[way] += 1
            # Slowly, but in their order: what comes out of order looks like loss to TCP, and there is a rule for that.
            at = time.monotonic() + (rule.delay_ms + self._chance.uniform(0, rule.jitter_ms)) / 1000
            at = self._free_at[way] = max(at, self._free_at.get(way, 0.0))
            heapq.heappush(self._waiting, (at, next(self._number), packet))

    def _deliver(self, packet: bytes) -> None:
        wire = self.wires.get(packet[16:20])
        if wire is not None:
            try:
                os.write(wire, packet)
            except OSError:  # its queue is full, or the machine is gone: lost, as on any wire
                self.lost[packet[12:16], packet[16:20]] += 1

    def deliver_due(self) -> float | None:
        """Deliver what has waited long enough; in how many milliseconds the next is due."""
        while self._waiting:
            left_s = self._waiting[0][0] - time.monotonic()
            if left_s > 0:
                return left_s * 1000
            self._deliver(heapq.heappop(self._waiting)[2])
        return None

    def obey(self, line: bytes) -> str:
        """Put a rule in force, or count; the answer."""
        said = json.loads(line)
        if said.get("count"):
            ways = {*self.passed, *self.lost}
            return json.dumps([[*map(socket.inet_ntoa, way), self.passed[way], self.lost[way]] for way in sorted(ways)])
        way = socket.inet_aton(said.pop("sender")), socket.inet_aton(said.pop("receiver"))
        rule = Rule(**said)
        if rule == Rule():
            self.rules.pop(way, None)
        else:
            self.rules[way] = rule
        return "{}"


def main(arguments: list[str]) -> int:
    """Forward packets until the process that gives the rules is gone."""
    seed, *named = arguments
    wires = {address: int(wire) for wire, _, address in (each.partition("=") for each in named)}
    switch, unread = Switch(wires, int(seed)), b""
    poll = select.poll()
    for wire in (0, *wires.values()):
        poll.register(wire, select.POLLIN)
    while True:
        for ready, _ in poll.poll(switch.deliver_due()):
            if ready:
                switch.take_from(ready)
                continue
            piece = os.read(0, _LONGEST_PACKET)
            if not piece:
                return 0
            *lines, unread = (unread + piece).split(b"\n")
            for line in lines:
                os.write(1, switch.obey(line).encode() + b"\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
