"""The file in which tokens are kept, as digests: replaced whole, written by one process at a time, read by many."""

from __future__ import annotations

import contextlib
import os
import stat
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

from lastseen.auth.file_lock import lock
from lastseen.auth.tokens import MAX_TOKENS, Token, checked_token, new_token
from lastseen.engine.arguments import Anything
from lastseen.engine.errors import InvalidInput, InvalidSetting, shown

FORMAT = 1
MAX_FILE_BYTES = 16 << 20


class _Row(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    sha256: str
    scopes: list[str]
    prefix: str
    created_at_ms: int
    expires_at_ms: int | None


class _Content(msgspec.Struct, forbid_unknown_fields=True):
    lastseen_tokens: int
    tokens: list[_Row]


_decoder = msgspec.json.Decoder(_Content)


class TokenFile:
    """Tokens in a file. Every method raises `InvalidSetting` if the file cannot be read, trusted or understood."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    def read(self) -> list[Token]:
        """All tokens, in the order in which they were made."""
        try:
            with self.path.open("rb") as file:
                self._check_trusted(os.fstat(file.fileno()))
                content = file.read(MAX_FILE_BYTES + 1)
        except OSError as error:
            raise InvalidSetting(
                f"the token file {shown(str(self.path), 200)} cannot be read ({error.strerror}): name another file,"
                " correct its permissions, or make one with `lastseen token create`"
            ) from None
        return self._parsed(content)

    def create(
        self, name: str, scopes: Iterable[str], prefix: str | Anything, now_ms: int, expires_in_ms: int | None = None
    ) -> tuple[str, Token]:
        """Create a token, and the file if there is none. Returns the secret, stored nowhere, and its record."""
        with self._locked():
            tokens = self._read_if_there()
            if any(token.name == name for token in tokens):
                raise InvalidSetting(
                    f"a token has the name {name} already: choose another name, or revoke that token first with"
                    f" `lastseen token revoke {name}`"
                )
            if len(tokens) >= MAX_TOKENS:
                raise InvalidSetting(f"the token file holds {MAX_TOKENS} tokens, which is the limit: revoke some")
            secret, token = new_token(name, scopes, prefix, now_ms, expires_in_ms)
            self._write([*tokens, token])
        return secret, token

    def revoke(self, name: str) -> Token:
        """Delete a token: requests with it are refused from then on. Raises `InvalidSetting` for an unknown name."""
        with self._locked():
            tokens = self.read()
            found = next((token for token in tokens if token.name == name), None)
            if found is None:
                raise InvalidSetting(f"no token has the name {shown(name)}: `lastseen token list` lists the names")
            self._write([token for token in tokens if token is not found])
        return found

    def version(self) -> tuple[int, ...] | None:
        """Changes whenever the file does; `None` if there is none, or it cannot be looked at."""
        try:
            found = self.path.stat()
        except OSError:
            return None
        return (found.st_ino, found.st_dev, found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_mode)

    def _check_trusted(self, found: os.stat_result) -> None:
        if not stat.S_ISREG(found.st_mode):
            raise InvalidSetting(f"the token file {shown(str(self.path), 200)} is not a file")
        # On Windows the bits say nothing of others: who may write there is up to the folder.
        if sys.platform != "win32" and found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise InvalidSetting(
                f"the token file {shown(str(self.path), 200)} can be written by other users, who could add tokens:"
                f" remove that permission with chmod 600, and check every token in `lastseen token list`"
            )

    def _parsed(self, content: bytes) -> list[Token]:
        try:
            if len(content) > MAX_FILE_BYTES:
                raise InvalidSetting(f"it is larger than {MAX_FILE_BYTES} bytes")
            return _tokens(_decoder.decode(content))
        except (msgspec.DecodeError, InvalidInput, ValueError) as error:
            raise InvalidSetting(
                f"the token file {shown(str(self.path), 200)} is damaged ({error}): restore it from a copy, or remove"
                " it and make new tokens with `lastseen token create`; until then every request is refused"
            ) from None

    def _read_if_there(self) -> list[Token]:
        return self.read() if self.path.exists() else []

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """One writer at a time, on this machine. The lock ends with its holder, however that ends."""
        lock_path = self._target().with_name(f"{self._target().name}.lock")
        try:
            handle = os.open(lock_path, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise self._unwritable(error) from None
        try:
            try:
                lock(handle)
            except OSError as error:
                raise self._unwritable(error) from None
            yield
        finally:
            os.close(handle)

    def _write(self, tokens: list[Token]) -> None:
        rows = [
            _Row(each.name, each.sha256.hex(), sorted(each.scopes), each.prefix, each.created_at_ms, each.expires_at_ms)
            for each in tokens
        ]
        content = msgspec.json.format(msgspec.json.encode(_Content(FORMAT, rows)), indent=2) + b"\n"
        target = self._target()
        new_file = target.with_name(f"{target.name}.new")
        try:
            new_file.unlink(missing_ok=True)  # of a writer that was killed: we hold the lock
            file = os.open(new_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(file, "wb") as out:
                out.write(content)
                out.flush()
                os.fsync(file)
            new_file.replace(target)
            _sync_folder(target.parent)
        except OSError as error:
            raise self._unwritable(error) from None

    def _target(self) -> Path:
        """Where the file really is: a link to it stays one."""
        return self.path.resolve()

    def _unwritable(self, error: OSError) -> InvalidSetting:
        return InvalidSetting(
            f"the token file {shown(str(self.path), 200)} cannot be written ({error.strerror}): nothing has changed;"
            " its folder must exist, have free space and be writable by this user"
        )


def _tokens(content: _Content) -> list[Token]:
    if content.lastseen_tokens != FORMAT:
        raise InvalidSetting(f"its format is {content.lastseen_tokens}, and this lastseen reads {FORMAT}")
    tokens = [
        checked_token(row.name, bytes.fromhex(row.sha256), row.scopes, row.prefix, row.created_at_ms, row.expires_at_ms)
        for row in content.tokens
    ]
    for part in ("name", "sha256"):
        if len({getattr(token, part) for token in tokens}) != len(tokens):
            raise InvalidSetting(f"two tokens have the same {part}")
    return tokens


def _sync_folder(folder: Path) -> None:
    """A rename is kept through a power cut once its folder is. Windows opens no folder, and keeps renames itself."""
    if sys.platform == "win32":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
