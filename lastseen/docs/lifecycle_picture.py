"""`docs/pictures/lifecycle.svg`: the states and transitions, drawn from `engine.lifecycle.RULES`."""

from __future__ import annotations

from collections.abc import Iterator

from lastseen.docs.drawing import LINE_PX, Anchor, Drawing
from lastseen.engine import lifecycle
from lastseen.engine.lifecycle import ACTIVE, ENDED, SUSPENDED
from lastseen.engine.session import Status

Transition = tuple[Status | None, Status]
_LABELS: dict[Transition, tuple[int, int, Anchor]] = {
    (None, ACTIVE): (118, 62, "end"),
    (ACTIVE, ACTIVE): (232, 40, "start"),
    (ACTIVE, SUSPENDED): (320, 118, "middle"),
    (SUSPENDED, ACTIVE): (320, 172, "middle"),
    (ACTIVE, ENDED): (142, 212, "start"),
    (SUSPENDED, ENDED): (498, 212, "end"),
}
"""Where the labels of each transition stand. One that the table gains and this has no place for is a `KeyError`."""


def transitions() -> dict[Transition, list[str]]:
    """From one state (`None`: no session) to another → the events that do it, and what else does."""
    found: dict[Transition, list[str]] = {}
    for before, after, label in _each():
        found.setdefault((before, after), []).append(label)
    return found


def _each() -> Iterator[tuple[Status | None, Status, str]]:
    for rule in lifecycle.rows():
        for before, after in ((None, rule.absent), (ACTIVE, rule.active), (SUSPENDED, rule.suspended)):
            if isinstance(after, Status):
                yield before, after, rule.name
    for status, reasons in ((ACTIVE, "idle, max_age"), (SUSPENDED, "suspend_ttl")):
        yield status, ENDED, f"due ({reasons})"
        yield status, ENDED, "created that replaces it"


def lifecycle_picture() -> str:
    """The picture, as SVG."""
    drawing = Drawing(640, 400, "The states of a session, and what leads from one to another")
    drawing.dot(130, 24, 7)
    drawing.arrow("M130 30V110", 130, 110, "down")
    drawing.arrow("M160 110C160 20 224 20 190 104", 188, 109, "down")
    drawing.arrow("M200 126H440", 440, 126, "right")
    drawing.arrow("M440 150H200", 200, 150, "left")
    drawing.arrow("M130 166V330Q130 352 152 352H250", 250, 352, "right")
    drawing.arrow("M510 166V330Q510 352 488 352H390", 390, 352, "left")
    drawing.box(60, 110, 140, 56, ACTIVE.value)
    drawing.box(440, 110, 140, 56, SUSPENDED.value)
    drawing.box(250, 324, 140, 56, ENDED.value, "final")
    for transition, labels in transitions().items():
        x, y, anchor = _LABELS[transition]
        for number, label in enumerate(labels):
            drawing.text(x, y + number * LINE_PX, label, anchor=anchor, style="soft")
    return drawing.svg()
