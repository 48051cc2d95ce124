"""`lastseen token`: made once and printed once, kept as a digest, revoked by name; and a file that fails closed."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import re
import stat
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from lastseen import ANY
from lastseen.auth.caller import Scope
from lastseen.auth.token_file import TokenFile
from lastseen.auth.tokens import MAX_TOKENS, Keyring, new_token
from lastseen.cli.program import app
from lastseen.engine.errors import InvalidSetting
from tests.patience import PATIENCE_S

NOW_MS = 1_700_000_000_000


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "tokens.json"


def run(*arguments: str, path: Path) -> Result:
    return CliRunner().invoke(app, ["token", *arguments, "--token-file", str(path)])


def test_a_token_is_printed_once_and_kept_as_a_digest(path: Path) -> None:
    made = run(
        "create", "gateway", "--scope", "read", "--scope", "touch", "--prefix", "tenantA:", "--expires", "90d",
        path=path,
    )  # fmt: skip
    secret = made.stdout.strip()
    assert made.exit_code == 0
    assert re.fullmatch(r"ls_[A-Za-z0-9_-]{43}", secret)
    assert secret not in made.stderr
    kept = path.read_text("utf-8")
    assert secret[3:] not in kept
    (row,) = json.loads(kept)["tokens"]
    assert row["sha256"] == hashlib.sha256(secret.encode()).hexdigest()
    assert (row["scopes"], row["prefix"]) == (["read", "touch"], "tenantA:")
    assert row["expires_at_ms"] - row["created_at_ms"] == 90 * 86_400_000
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_the_list_shows_everything_but_the_tokens(path: Path) -> None:
    made = run("create", "operator", "--scope", "admin", "-o", "json", path=path)
    secret = json.loads(made.stdout)["token"]
    run("create", "reader", "--scope", "read", "--expires", "1ms", path=path)
    listed = run("list", "-o", "json", path=path)
    page = json.loads(listed.stdout)
    assert page["cursor"] is None
    first, second = page["tokens"]
    assert (first["name"], first["scopes"], first["expired"]) == ("operator", ["admin"], False)
    assert (second["name"], second["expired"]) == ("reader", True)
    table = run("list", path=path).stdout
    assert "operator" in table
    assert "expired" in table
    digest = hashlib.sha256(secret.encode()).hexdigest()
    assert not any(part in listed.stdout + table for part in (secret, secret[3:20], digest, digest[:12]))


def test_what_is_revoked_is_gone_and_its_name_is_free(path: Path) -> None:
    run("create", "gateway", "--scope", "read", path=path)
    assert run("create", "gateway", "--scope", "read", path=path).exit_code == 2
    assert run("revoke", "gateway", path=path).exit_code == 0
    assert TokenFile(path).read() == []
    again = run("revoke", "gateway", path=path)
    assert again.exit_code == 2
    assert "token list" in again.stderr
    assert run("create", "gateway", "--scope", "read", path=path).exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["a b", "--scope", "read"], "token name"),
        (["gateway", "--scope", "write"], "read, touch, manage, admin"),
        (["gateway", "--scope", "read", "--prefix", "a\nb"], "prefix"),
        (["gateway", "--scope", "read", "--prefix", "a" * 513], "prefix"),
        (["gateway", "--scope", "admin", "--prefix", "tenantA:"], "leave one of the two out"),
        (["gateway", "--scope", "read", "--expires", "soon"], "expires"),
        (["gateway"], "--scope"),
    ],
)
def test_what_cannot_be_a_token_is_refused_and_nothing_written(path: Path, arguments: list[str], says: str) -> None:
    result = run("create", *arguments, path=path)
    assert result.exit_code == 2
    assert says in result.stderr
    assert not path.exists()


def test_a_prefix_without_an_end_is_pointed_out(path: Path) -> None:
    assert "end it with a separator" in run("create", "one", "--scope", "read", "--prefix", "ab", path=path).stderr
    assert "end it with" not in run("create", "two", "--scope", "read", "--prefix", "ab:", path=path).stderr


DAMAGES = {
    "empty": b"",
    "cut": b'{"lastseen_tokens": 1, "tokens": [',
    "no tokens": b'{"lastseen_tokens": 1}',
    "unknown field": b'{"lastseen_tokens": 1, "tokens": [], "more": 1}',
    "newer": b'{"lastseen_tokens": 2, "tokens": []}',
    "not text": b"\xff\xfe\x00",
    "digest": json.dumps({"lastseen_tokens": 1, "tokens": [{
        "name": "a", "sha256": "00", "scopes": ["read"], "prefix": "", "created_at_ms": 0, "expires_at_ms": None,
    }]}).encode(),
    "hex": json.dumps({"lastseen_tokens": 1, "tokens": [{
        "name": "a", "sha256": "x" * 64, "scopes": ["read"], "prefix": "", "created_at_ms": 0, "expires_at_ms": None,
    }]}).encode(),
    "twice": json.dumps({"lastseen_tokens": 1, "tokens": 2 * [{
        "name": "a", "sha256": "0" * 64, "scopes": ["read"], "prefix": "", "created_at_ms": 0, "expires_at_ms": None,
    }]}).encode(),
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_named_and_never_written_over(path: Path, damage: str) -> None:
    path.write_bytes(DAMAGES[damage])
    path.chmod(0o600)
    for arguments in (["list"], ["revoke", "a"], ["create", "b", "--scope", "read"]):
        result = run(*arguments, path=path)
        assert result.exit_code == 2, arguments
        assert "damaged" in result.stderr
        assert "token create" in result.stderr
    assert path.read_bytes() == DAMAGES[damage]


def test_a_missing_file_and_one_that_others_may_write_are_refused(path: Path) -> None:
    assert "cannot be read" in run("list", path=path).stderr
    run("create", "a", "--scope", "read", path=path)
    path.chmod(0o620)
    result = run("list", path=path)
    assert result.exit_code == 2
    assert "chmod 600" in result.stderr
    path.chmod(0o440)
    assert run("list", path=path).exit_code == 0, "a mounted secret may be read by a group"
    folder = path.with_name("folder")
    folder.mkdir()
    assert run("list", path=folder).exit_code == 2


def test_a_folder_that_is_not_there_is_named(path: Path) -> None:
    result = run("create", "a", "--scope", "read", path=path.parent / "missing" / "tokens.json")
    assert result.exit_code == 2
    assert "cannot be written" in result.stderr


def test_a_link_to_the_file_stays_a_link(path: Path) -> None:
    link = path.with_name("link.json")
    link.symlink_to(path)
    run("create", "a", "--scope", "read", path=path)
    run("create", "b", "--scope", "read", path=link)
    assert link.is_symlink()
    assert [token.name for token in TokenFile(path).read()] == ["a", "b"]


def test_what_a_killed_writer_left_does_not_stop_the_next(path: Path) -> None:
    path.with_name("tokens.json.new").write_bytes(b"half of i")
    assert run("create", "a", "--scope", "read", path=path).exit_code == 0
    assert [token.name for token in TokenFile(path).read()] == ["a"]


def _make_some(path: str, number: int) -> None:
    for each in range(10):
        TokenFile(path).create(f"p{number}-{each}", ["read"], ANY, NOW_MS)


def test_processes_take_turns_and_no_token_is_lost(path: Path) -> None:
    spawn = multiprocessing.get_context("spawn")
    writers = [spawn.Process(target=_make_some, args=(str(path), number)) for number in range(3)]
    for each in writers:
        each.start()
    for each in writers:
        each.join(PATIENCE_S)
    assert [each.exitcode for each in writers] == [0, 0, 0]
    assert len({token.name for token in TokenFile(path).read()}) == 30


def test_a_keyring_knows_its_tokens_until_they_expire() -> None:
    secret, token = new_token("a", ["read"], "tenantA:", NOW_MS, 1000)
    other, _ = new_token("b", ["read"], ANY, NOW_MS, None)
    keyring = Keyring([token])
    caller = keyring.find(secret.encode(), NOW_MS + 999)
    assert caller is not None
    assert (caller.name, caller.scopes, caller.prefix) == ("a", frozenset([Scope.READ]), "tenantA:")
    assert keyring.find(secret.encode(), NOW_MS + 1000) is None
    for wrong in (other, secret[:-1], secret + "A", secret.swapcase(), "", "unknown"):
        assert keyring.find(wrong.encode(), NOW_MS) is None, wrong


def test_every_token_costs_the_same_comparisons(monkeypatch: pytest.MonkeyPatch) -> None:
    made = [new_token(f"t{number}", ["read"], ANY, NOW_MS, None) for number in range(50)]
    keyring = Keyring([token for _, token in made])
    compared: list[tuple[int, int]] = []

    def compare(one: bytes, other: bytes) -> bool:
        compared.append((len(one), len(other)))
        return one == other

    monkeypatch.setattr("lastseen.auth.tokens.hmac.compare_digest", compare)
    for secret in (made[0][0], made[49][0], new_token("x", ["read"], ANY, NOW_MS, None)[0], "ls_"):
        compared.clear()
        keyring.find(secret.encode(), NOW_MS)
        assert compared == [(32, 32)], "one comparison of whole digests, for every caller"


def test_a_file_holds_no_more_than_it_may(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert MAX_TOKENS >= 1000
    monkeypatch.setattr("lastseen.auth.token_file.MAX_TOKENS", 1)
    TokenFile(path).create("a", ["read"], ANY, NOW_MS)
    with pytest.raises(InvalidSetting, match="revoke some"):
        TokenFile(path).create("b", ["read"], ANY, NOW_MS)


def test_an_empty_prefix_does_not_make_a_token_for_all_keys(path: Path) -> None:
    refused = run("create", "a", "--scope", "read", "--prefix", "", path=path)
    assert refused.exit_code == 2
    assert "leave prefix out" in refused.output
    assert not path.exists()
    for computed in ("", None):
        with pytest.raises(InvalidSetting, match="prefix = "):
            TokenFile(path).create("a", ["read"], computed, NOW_MS)  # type: ignore[arg-type]
