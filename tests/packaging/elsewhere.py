"""A program that uses lastseen in a process which lacks what macOS or Windows lack: `elsewhere.py PLATFORM FOLDER`.

lastseen is loaded once as it is, so that other people's packages are there, and then anew without `fcntl`, `uvloop`,
`SIGHUP`, `register_at_fork`, `sysconf`, `/proc`, cgroups, glibc, and on what Windows refuses: to open a folder, and to
rename or remove a file that this process has open. What SQLite and the kernel do there, it cannot show.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import importlib
import io
import os
import pkgutil
import shutil
import signal
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

LINUX_ONLY = ("/proc/", "/sys/")
MISSING_ON_WINDOWS = {
    os: ("O_CLOEXEC", "O_DIRECTORY", "fork", "register_at_fork", "sysconf"),
    signal: ("SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2"),
}
NOT_ON_WINDOWS = ("fcntl", "grp", "pwd", "resource", "termios", "uvloop")
locked: list[int] = []


def every_module() -> list[str]:
    """The names of all modules of lastseen, without those that run at their import."""
    import lastseen

    found = [each.name for each in pkgutil.walk_packages(lastseen.__path__, "lastseen.")]
    return [name for name in found if not name.endswith("__main__")]


def load_everything() -> None:
    """Import every module of lastseen."""
    for name in every_module():
        importlib.import_module(name)


def forget_lastseen() -> None:
    """Have every module of lastseen loaded anew by its next import."""
    for name in [each for each in sys.modules if each.partition(".")[0] == "lastseen"]:
        del sys.modules[name]


def take_away(platform: str) -> None:
    """Let this process seem to run on `darwin` or `win32`."""
    sys.platform = platform
    io_open = io.open

    def open_file(file: Any, *arguments: Any, **options: Any) -> Any:
        if isinstance(file, str | os.PathLike) and os.fspath(file).startswith(LINUX_ONLY):
            raise FileNotFoundError(2, "No such file or directory", os.fspath(file))
        return io_open(file, *arguments, **options)

    io.open = open_file
    if platform == "darwin":
        ctypes.CDLL = _library_of(AttributeError)  # type: ignore[assignment,misc]
        return
    ctypes.CDLL = _library_of(TypeError)  # type: ignore[assignment,misc]
    for module, names in MISSING_ON_WINDOWS.items():
        for name in names:
            delattr(module, name)
    for name in NOT_ON_WINDOWS:
        sys.modules[name] = None  # type: ignore[assignment]
    shutil._use_fd_functions = False  # type: ignore[attr-defined]
    msvcrt: Any = types.ModuleType("msvcrt")
    msvcrt.LK_LOCK = 1
    msvcrt.locking = lambda handle, mode, size: locked.append(handle)
    sys.modules["msvcrt"] = msvcrt
    for name, checked in (("open", (0,)), ("rename", (0, 1)), ("replace", (0, 1)), ("unlink", (0,)), ("remove", (0,))):
        setattr(os, name, _refusing(getattr(os, name), checked, name == "open"))


def _library_of(failure: type[Exception]) -> Callable[[Any], Any]:
    class _Library:
        def __init__(self, _: str | None) -> None:
            if failure is TypeError:
                raise TypeError("bad argument type for built-in operation")

        def __getattr__(self, name: str) -> Any:
            raise failure(name)

    return _Library


def _refusing(call: Callable[..., Any], checked: tuple[int, ...], opens: bool) -> Callable[..., Any]:
    """The call as Windows has it: no handle of a folder, and no change of the name of a file that is open."""

    def called(*arguments: Any, **options: Any) -> Any:
        for place in (os.fspath(arguments[number]) for number in checked):
            if os.path.isdir(place) if opens else _is_open(place):  # noqa: PTH112 - in the place of `os.open` itself
                raise PermissionError(13, "Permission denied", place)
        return call(*arguments, **options)

    return called


def _is_open(place: str) -> bool:
    whole = os.path.realpath(place)
    for handle in os.listdir("/proc/self/fd"):  # noqa: PTH208 - `Path` opens files by what is replaced here
        with contextlib.suppress(OSError):
            if os.readlink(f"/proc/self/fd/{handle}") == whole:  # noqa: PTH115
                return True
    return False


def assert_refuses(folder: Path) -> None:
    """What stands in for Windows does refuse what Windows refuses."""
    with (folder / "open").open("wb") as file:
        for attempt in (lambda: Path(file.name).unlink(), lambda: Path(file.name).rename(folder / "other")):
            with contextlib.suppress(PermissionError):
                attempt()
                raise AssertionError("a file that is open has lost its name")
    with contextlib.suppress(PermissionError):
        os.open(folder, os.O_RDONLY)
        raise AssertionError("a folder was opened")


# ── using it ──


def embedded(folder: Path) -> None:
    """An engine in a file: used, closed, opened again, pruned, archived and rebuilt."""
    import lastseen

    clock = lastseen.ManualClock(1_700_000_000_000)
    url, snapshot = f"sqlite:///{folder / 'sessions.db'}", str(folder / "sessions.snapshot")
    for round_number in range(3):
        with lastseen.open_engine(url, clock=clock, snapshot=snapshot, idle_ttl="30m", max_sessions=10) as engine:
            engine.open("a", attributes={"owner": "ana"})
            engine.touch("a", message={"text": "hello"})
            with engine.hold("a", holder="job"):
                engine.flush()
            assert engine.explain("a").sentence
            engine.open("b")
            clock.advance(31 * 60_000)
            assert engine.get("a") is None
            assert len(engine.prune().due) == 2, round_number
    for damage in (b"x" * 100, None):  # a damaged snapshot is moved out of the way, a missing one made again
        file = Path(snapshot)
        file.unlink() if damage is None else file.write_bytes(damage)
        with lastseen.open_engine(url, clock=clock, snapshot=snapshot) as engine:
            assert engine.history("a")


async def asynchronous(folder: Path) -> None:
    """The engine for asyncio, and the emitter."""
    import lastseen

    url = f"sqlite:///{folder / 'async.db'}"
    with lastseen.Emitter(url, source="/elsewhere") as emitter:
        emitter.open("a")
        emitter.flush()
    async with await lastseen.open_async(url) as engine:
        assert (await engine.touch("a")).version == 2


def clients() -> None:
    """The HTTP client, which finds no service."""
    import lastseen

    with lastseen.Client("http://127.0.0.1:9") as client:
        try:
            client.touch("a")
        except lastseen.LastseenError:
            return
    raise AssertionError("a service answered")


def command_line(folder: Path) -> Iterator[str]:
    """The commands that need no service. Yields what each printed."""
    log = f"sqlite:///{folder / 'sessions.db'}"
    tokens, copy, table = folder / "tokens.json", folder / "copy.db", folder / "history.jsonl"
    for arguments in (
        ["ls", "--log", log],
        ["stats", "--log", log],
        ["explain", "a", "--log", log],
        ["history", "a", "--log", log],
        ["verify", "--log", log],
        ["rebuild", "--log", log],
        ["doctor", "--log", log],
        ["log", "copy", log, f"sqlite:///{copy}"],
        ["export", "history", str(table), "--log", log],
        ["export", "lives", str(folder / "lives.csv"), "--log", log],
        ["token", "create", "gateway", "--scope", "read", "--token-file", str(tokens)],
        ["token", "list", "--token-file", str(tokens)],
        ["token", "revoke", "gateway", "--token-file", str(tokens)],
        ["config", "validate"],
    ):
        yield run(arguments)


def run(arguments: list[str]) -> str:
    """What a command prints. It must succeed."""
    from lastseen.cli import main

    reported = io.StringIO()
    sys.argv = ["lastseen", *arguments]
    code: Any = 0
    with contextlib.redirect_stdout(reported), contextlib.redirect_stderr(reported):
        try:
            main()
        except SystemExit as end:
            code = end.code
    assert not code, f"{arguments}: {reported.getvalue()}"
    return reported.getvalue()


def service() -> None:
    """What the service asks of the system before it serves."""
    from lastseen.service import server
    from lastseen.service.signals import StopSignals

    signals = StopSignals()
    with signals.watched():
        signal.raise_signal(signal.SIGTERM)
    assert signals.count == 1
    if sys.platform == "win32":
        assert server._loop_factory() is asyncio.new_event_loop


def main(platform: str, folder: Path) -> None:
    """Load lastseen on a seeming other system, and use it."""
    load_everything()
    forget_lastseen()
    take_away(platform)
    if platform == "win32":
        assert_refuses(folder)
    load_everything()
    embedded(folder)
    asyncio.run(asynchronous(folder))
    clients()
    for reported in command_line(folder):
        assert reported
    service()
    assert bool(locked) is (platform == "win32"), "the file of the tokens is locked"
    sys.stdout.write("all of it works\n")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
