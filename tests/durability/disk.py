"""A disk that fails on request: it fails, fills up, turns read-only, and writes down all that is done to it.

It stands between SQLite and the operating system, in this process alone: the methods of SQLite's own file layer (its
VFS) are replaced by ours, which call them. So the files, the locks and the code of SQLite are the real ones, and no
compiler, no tracer and no rights are needed; root, whom permission bits do not stop, is stopped as well.
"""

from __future__ import annotations

import _sqlite3
import ctypes
import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

_file, _text, _int, _long = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int, ctypes.c_int64
_OPEN = ctypes.CFUNCTYPE(_int, ctypes.c_void_p, ctypes.c_void_p, _file, _int, ctypes.POINTER(_int))
_DELETE = ctypes.CFUNCTYPE(_int, ctypes.c_void_p, _text, _int)
_CLOSE = ctypes.CFUNCTYPE(_int, _file)
_WRITE = ctypes.CFUNCTYPE(_int, _file, ctypes.c_void_p, _int, _long)
_TRUNCATE = ctypes.CFUNCTYPE(_int, _file, _long)
_SYNC = ctypes.CFUNCTYPE(_int, _file, _int)
_READONLY, _READWRITE, _CREATE = 1, 2, 4
"""Flags of SQLite's `xOpen`."""
IO_WRITE = sqlite3.SQLITE_IOERR_WRITE
"""What SQLite makes of an EIO from a write; of an EIO from fsync it makes IO_SYNC."""
IO_SYNC = sqlite3.SQLITE_IOERR_FSYNC
FULL = sqlite3.SQLITE_FULL


class _Vfs(ctypes.Structure):
    _fields_ = (
        ("version", _int),
        ("file_bytes", _int),
        ("longest_path", _int),
        ("next", ctypes.c_void_p),
        ("name", _text),
        ("own", ctypes.c_void_p),
        ("open", ctypes.c_void_p),
        ("delete", ctypes.c_void_p),
    )


class _Methods(ctypes.Structure):
    _fields_ = (
        ("version", _int),
        ("close", ctypes.c_void_p),
        ("read", ctypes.c_void_p),
        ("write", ctypes.c_void_p),
        ("truncate", ctypes.c_void_p),
        ("sync", ctypes.c_void_p),
        ("others", ctypes.c_void_p * 13),
    )


class Op(NamedTuple):
    """One thing that was done: `write`, `truncate`, `sync`, `delete`; or `said`, what a caller had received by then."""

    what: str
    path: str
    offset: int = 0
    """For `truncate`, the new size."""
    content: bytes = b""


Fault = Callable[[str, str], int]
"""Given what is to be done (`open`, `write`, `truncate`, `sync`, `delete`) and the path: SQLite's error code, or 0."""


class Disk:
    """What the disk does. Several threads may use it."""

    def __init__(self) -> None:
        self.fault: Fault | None = None
        """Asked before each operation; `None` for a disk that works."""
        self.ops: list[Op] | None = None
        """Where all that succeeds is written down; `None` for nowhere."""
        self.is_read_only = False
        """Whether files can be opened for reading only from now on."""
        self.calls = 0
        """Writes and syncs that came by here."""

    def _refuses(self, what: str, path: str) -> int:
        self.calls += 1
        return self.fault(what, path) if self.fault is not None else 0

    def _note(self, op: Op) -> None:
        if self.ops is not None:
            self.ops.append(op)

    def said(self, line: str) -> None:
        """Record, in its place among the operations, what a caller received."""
        self._note(Op("said", line))


class _Layer:
    """SQLite's file layer with a disk of ours in it. What was replaced stays alive: open files point to it."""

    def __init__(self) -> None:
        self.disk: Disk | None = None
        self._paths: dict[int, str] = {}
        self._replaced: dict[int, tuple[_Methods, dict[str, Any]]] = {}
        self._real_of: dict[int, dict[str, Any]] = {}
        library = ctypes.CDLL(_sqlite3.__file__)
        find = library.sqlite3_vfs_find
        find.argtypes, find.restype = (_text,), ctypes.POINTER(_Vfs)
        self._vfs = find(None).contents
        self._real_open, self._real_delete = _OPEN(self._vfs.open), _DELETE(self._vfs.delete)
        self._ours = (
            _OPEN(self._open), _DELETE(self._delete), _CLOSE(self._close), _WRITE(self._write),
            _TRUNCATE(self._truncate), _SYNC(self._sync),
        )  # fmt: skip
        self._vfs.open = ctypes.cast(self._ours[0], ctypes.c_void_p).value
        self._vfs.delete = ctypes.cast(self._ours[1], ctypes.c_void_p).value

    def _open(self, vfs: int, name: int | None, file: int, flags: int, out: Any) -> int:
        disk = self.disk
        if disk is None or name is None:
            return int(self._real_open(vfs, name, file, flags, out))
        # The place itself goes on to SQLite, not a copy: it reads on behind the name, and keeps it.
        path = os.fsdecode(ctypes.string_at(name))
        if disk.is_read_only:
            flags = flags & ~(_READWRITE | _CREATE) | _READONLY
        code = disk._refuses("open", path)
        if code:
            ctypes.c_void_p.from_address(file).value = None  # so SQLite knows that there is nothing to close
            return code
        code = int(self._real_open(vfs, name, file, flags, out))
        methods = ctypes.c_void_p.from_address(file)
        if not code and methods.value:
            if methods.value not in self._replaced:
                self._replace(methods.value)
            replaced, self._real_of[file] = self._replaced[methods.value]
            self._paths[file] = path
            methods.value = ctypes.addressof(replaced)
        return code

    def _replace(self, real: int) -> None:
        methods = _Methods.from_buffer_copy(ctypes.string_at(real, ctypes.sizeof(_Methods)))
        calls = {
            "close": _CLOSE(methods.close),
            "write": _WRITE(methods.write),
            "truncate": _TRUNCATE(methods.truncate),
            "sync": _SYNC(methods.sync),
        }
        for name, ours in zip(calls, self._ours[2:], strict=True):
            setattr(methods, name, ctypes.cast(ours, ctypes.c_void_p).value)
        self._replaced[real] = methods, calls

    def _close(self, file: int) -> int:
        self._paths.pop(file, None)
        return int(self._real_of.pop(file)["close"](file))

    def _write(self, file: int, content: int, count: int, offset: int) -> int:
        op = Op("write", self._paths[file], offset, ctypes.string_at(content, count))
        return self._do(op, lambda: self._real_of[file]["write"](file, content, count, offset))

    def _truncate(self, file: int, size: int) -> int:
        op = Op("truncate", self._paths[file], size)
        return self._do(op, lambda: self._real_of[file]["truncate"](file, size))

    def _sync(self, file: int, flags: int) -> int:
        return self._do(Op("sync", self._paths[file]), lambda: self._real_of[file]["sync"](file, flags))

    def _delete(self, vfs: int, name: bytes, sync_folder: int) -> int:
        return self._do(Op("delete", os.fsdecode(name)), lambda: self._real_delete(vfs, name, sync_folder))

    def _do(self, op: Op, do: Callable[[], int]) -> int:
        disk = self.disk
        if disk is None:
            return int(do())
        code = disk._refuses(op.what, op.path)
        if not code and op.what == "sync":
            # What it covers is what was written before it began; it holds only once it is over.
            disk._note(Op("syncing", op.path))
        code = code or int(do())
        if not code:
            disk._note(op)
        return code


_layers: list[_Layer] = []
"""One for the process: files that are still open call it after the disk is gone."""


@contextmanager
def a_disk() -> Iterator[Disk]:
    """A disk under all that SQLite opens in the block. Close it in the block too."""
    if not _layers:
        _layers.append(_Layer())
    (layer,) = _layers
    assert layer.disk is None, "there is a disk already"
    layer.disk = disk = Disk()
    try:
        yield disk
    finally:
        layer.disk = None
