"""`docs/pictures/*.svg` of the concept pages. What they say in figures and names comes from the rules themselves."""

from __future__ import annotations

from lastseen.docs.drawing import Drawing
from lastseen.engine import lifecycle
from lastseen.engine.verdicts import Verdict


def concept_pictures() -> dict[str, str]:
    """The name of each picture → the picture, as SVG."""
    return {
        "three-ways": _three_ways(),
        "log": _log(),
        "log-time": _log_time(),
        "deadlines": _deadlines(),
        "holds": _holds(),
        "verdicts": _verdicts(),
        "projections": _projections(),
    }


def _three_ways() -> str:
    drawing = Drawing(640, 300, "Embedded in one process, as a service, and on Kafka")
    for x, title in ((10, "embedded"), (225, "as a service"), (440, "on Kafka")):
        drawing.text(x + 95, 24, title, anchor="middle", style="strong")
    drawing.box(20, 44, 170, 130, style="dashed")
    drawing.text(105, 66, "your bot", anchor="middle", style="soft")
    drawing.box(45, 84, 120, 60, "engine", "a library")
    drawing.arrow("M105 144V220", 105, 220, "down")
    drawing.box(35, 220, 140, 56, "SQLite file", "the log")

    for x, label in ((232, "bot"), (328, "web")):
        drawing.box(x, 44, 76, 36, label)
        drawing.arrow(f"M{x + 38} 80V112", x + 38, 112, "down")
    drawing.text(320, 100, "HTTP", anchor="middle", style="soft")
    drawing.box(245, 112, 150, 60, "lastseen serve", "engine + API")
    drawing.arrow("M320 172V220", 320, 220, "down")
    drawing.box(250, 220, 140, 56, "SQLite file", "the log")

    for x, label in ((440, "service"), (550, "bot")):
        drawing.box(x, 44, 84, 36, label)
        drawing.arrow(f"M{x + 42} 80V112", x + 42, 112, "down")
        drawing.box(x, 112, 84, 60, "engine", "all sessions")
        drawing.arrow(f"M{x + 42} 172V220", x + 42, 220, "down")
    drawing.box(440, 220, 194, 56, "Kafka topic", "the log")
    return drawing.svg()


def _log() -> str:
    drawing = Drawing(640, 330, "Services append events to the log; every engine folds it and comes to the same state")
    for x, name in ((20, "gateway"), (170, "web site"), (320, "job runner")):
        drawing.box(x, 10, 130, 40, name)
        drawing.arrow(f"M{x + 65} 50V104", x + 65, 104, "down")
    drawing.text(470, 36, "append events: created,", style="soft")
    drawing.text(470, 54, "touched, closed, …", style="soft")
    drawing.text(624, 94, "the log", anchor="end", style="strong")
    for number in range(9):
        drawing.box(20 + number * 66, 104, 60, 46, str(number), "void" if number == 4 else "applied")
    drawing.text(20, 172, "one record at each offset, in one order, never changed", style="soft")
    for x, name in ((60, "engine A"), (370, "engine B")):
        drawing.arrow(f"M{x + 95} 182V222", x + 95, 222, "down")
        drawing.box(x, 222, 190, 60, name, "folds record by record")
    drawing.text(310, 306, "the same records: the same sessions, deadlines and endings", anchor="middle", style="soft")
    drawing.text(310, 257, "=", anchor="middle", style="strong")
    return drawing.svg()


def _log_time() -> str:
    behind, ahead = lifecycle.MAX_BEHIND_MS // 60_000, lifecycle.MAX_AHEAD_MS // 1000
    drawing = Drawing(640, 230, "Which events the log takes: those whose own time is close to the log's")
    drawing.area(150, 70, 330, 60)
    drawing.arrow("M20 130H620", 620, 130, "right")
    drawing.text(616, 152, "the producer's clock", anchor="end", style="soft")
    drawing.line("M150 64V140", style="dashed")
    drawing.line("M480 64V140", style="dashed")
    drawing.arrow("M420 40V128", 420, 128, "down", style="accent")
    drawing.text(420, 30, "log time: when the log took the record", anchor="middle", style="strong")
    drawing.text(150, 172, f"{behind} min behind", anchor="middle", style="soft")
    drawing.text(480, 172, f"{ahead} s ahead", anchor="middle", style="soft")
    drawing.text(285, 106, "judged by log time", anchor="middle", style="good")
    drawing.text(75, 106, "void", anchor="middle", style="bad")
    drawing.text(560, 106, "void", anchor="middle", style="bad")
    drawing.text(
        320,
        214,
        f"{Verdict.CLOCK_SKEW.label}: a wrong clock ends no session, it voids its own events",
        anchor="middle",
        style="soft",
    )
    return drawing.svg()


def _deadlines() -> str:
    drawing = Drawing(640, 250, "Each touch moves the idle deadline; max_age stands still")
    drawing.arrow("M20 120H620", 620, 120, "right")
    drawing.text(620, 110, "log time", anchor="end", style="soft")
    for x, name in ((50, "created"), (150, "touched"), (270, "touched")):
        drawing.dot(x, 120)
        drawing.text(x, 146, name, anchor="middle", style="code")
    drawing.arrow("M50 112C80 60 170 60 200 110", 202, 114, "down", style="dashed")
    drawing.arrow("M150 112C180 60 290 60 320 110", 322, 114, "down", style="dashed")
    drawing.arrow("M270 112C300 60 410 60 440 110", 442, 114, "down", style="accent")
    drawing.text(126, 62, "idle_ttl", anchor="middle", style="soft")
    drawing.text(236, 62, "idle_ttl", anchor="middle", style="soft")
    drawing.text(356, 62, "idle_ttl", anchor="middle", style="soft")
    drawing.line("M442 100V170", style="accent")
    drawing.text(442, 190, "deadline", anchor="middle", style="strong")
    drawing.text(442, 208, "ended: idle", anchor="middle", style="bad")
    drawing.line("M50 154V226H560V100", style="dashed")
    drawing.text(300, 220, "max_age, whatever happens", anchor="middle", style="soft")
    drawing.text(552, 98, "max_age", anchor="end", style="soft")
    return drawing.svg()


def _holds() -> str:
    drawing = Drawing(640, 230, "A held session does not idle out while its lease is renewed")
    drawing.arrow("M20 130H620", 620, 130, "right")
    drawing.text(620, 120, "log time", anchor="end", style="soft")
    drawing.dot(50, 130)
    drawing.text(50, 156, "touched", anchor="middle", style="code")
    drawing.arrow("M50 122C80 84 180 84 210 120", 212, 124, "down", style="dashed")
    drawing.text(131, 116, "idle_ttl", anchor="middle", style="soft")
    for number in range(3):
        drawing.box(110 + number * 90, 8 + number * 26, 180, 22)
        drawing.text(200 + number * 90, 24 + number * 26, "lease", anchor="middle", style="soft")
    drawing.text(400, 24, "renewed while the job runs", style="soft")
    drawing.line("M470 82V124", style="accent")
    drawing.dot(470, 130)
    drawing.text(400, 156, "the last lease lapses", anchor="middle", style="soft")
    drawing.text(320, 196, "active: deadline = the later of idle limit and last lease", anchor="middle", style="good")
    drawing.text(
        320, 216, "a job that dies renews nothing, so its session ends soon after", anchor="middle", style="soft"
    )
    return drawing.svg()


def _verdicts() -> str:
    order = list(Verdict)
    groups: tuple[tuple[str, list[Verdict]], ...] = (
        ("a valid event, a sound clock?", order[order.index(Verdict.CONTROL) : order.index(Verdict.NO_SESSION)]),
        ("session due? it ends first", []),
        ("names the live session?", order[order.index(Verdict.NO_SESSION) : order.index(Verdict.EXISTS)]),
        ("does its state allow it?", order[order.index(Verdict.EXISTS) :]),
    )  # fmt: skip
    drawing = Drawing(640, 420, "The checks that a record passes, in their order")
    drawing.box(20, 10, 300, 40, "a record at its offset")
    y = 50
    for question, verdicts in groups:
        drawing.arrow(f"M170 {y - (0 if y == 50 else 8)}V{y + 26}", 170, y + 26, "down")
        drawing.box(20, y + 26, 300, 42, question)
        if verdicts:
            drawing.arrow(f"M320 {y + 47}H368", 368, y + 47, "right")
            names = [verdict.label for verdict in verdicts]
            lines = [", ".join(names[start : start + 2]) for start in range(0, len(names), 2)]
            drawing.texts(378, y + 52 - (len(lines) - 1) * 9, lines, style="code bad")
        else:
            drawing.text(378, y + 52, "settle first: idle, max_age, suspend_ttl", style="soft")
        y += 76
    drawing.arrow(f"M170 {y - 8}V{y + 22}", 170, y + 22, "down")
    drawing.text(170, y + 42, Verdict.APPLIED.label, anchor="middle", style="good")
    return drawing.svg()


def _projections() -> str:
    drawing = Drawing(640, 380, "What is folded from the log, and what each part answers")
    drawing.box(20, 150, 110, 60, "the log", "the truth")
    drawing.arrow("M130 180H180", 180, 180, "right")
    drawing.box(180, 150, 130, 60, "follower", "one fold, in order")
    for number, (name, says) in enumerate(
        (
            ("live view", "who is live, until when"),
            ("snapshot", "the live view on disk: a start reads it"),
            ("history", "each record, its verdict; each ending"),
            ("statistics", "what is counted"),
            ("facts", "what took effect, for other services"),
            ("pruner", "announces what is due"),
        )
    ):
        y = 14 + number * 60
        drawing.arrow(f"M310 180H340V{y + 21}H362", 362, y + 21, "right")
        drawing.box(362, y, 262, 42, name, says)
    drawing.line("M493 356V370H75V220", style="dashed")
    drawing.arrow("M75 240V210", 75, 210, "up", style="dashed")
    drawing.text(200, 364, "expired", style="code")
    return drawing.svg()
