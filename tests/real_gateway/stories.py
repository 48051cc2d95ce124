"""Stories of a gateway with the drop-in; each runs in a process of its own: `python stories.py NAME`."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import io
import json
import sys

from tests.real_gateway.stage import HOME, SESSIONS, Gateway, until

KEY = "agent:main:telegram:dm:42"


async def restart_after_an_interrupted_turn() -> None:
    async with Gateway() as first:
        assert await first.says("one") == "echo: one"
        first.holds = asyncio.Event()
        await first.begins("two")
        await until(lambda: len(first.turns) == 2)
        conversation = first.turns[0][0]
    async with Gateway() as second:
        assert second.runner.session_store is not first.runner.session_store
        await until(lambda: any(second.answers()))
        assert [turn[0] for turn in second.turns] == [conversation]
        assert [each["content"] for each in second.turns[0][2] if each["role"] == "user"] == ["one"]
        await until(lambda: not second.store._entries[KEY].resume_pending)


async def messages_of_one_conversation_stand_in_both_transcripts() -> None:
    async with Gateway() as gateway:
        for text in ("one", "two"):
            assert await gateway.says(text) == f"echo: {text}"
        (session_id,) = {turn[0] for turn in gateway.turns}
        assert gateway.spoken(session_id) == ["one", "echo: one", "two", "echo: two"]
        assert in_state_db(gateway, session_id) == gateway.spoken(session_id)
        assert in_file(session_id) == gateway.spoken(session_id)
        assert gateway.store._entries[KEY].last_prompt_tokens == 200


async def new_begins_a_conversation_and_ends_the_last_one_in_state_db() -> None:
    async with Gateway() as gateway:
        await gateway.says("one")
        before = gateway.store._entries[KEY].session_id
        await gateway.says("/new")
        await gateway.says("two")
        after = gateway.store._entries[KEY].session_id
        assert [turn[0] for turn in gateway.turns] == [before, after]
        assert before != after
        assert gateway.turns[1][2] == []
        assert gateway.runner._session_db.get_session(before)["end_reason"] == "session_reset"
        assert gateway.runner._session_db.get_session(after)["ended_at"] is None
        assert gateway.spoken(before) == ["one", "echo: one"]  # it stays readable


async def undo_takes_the_last_exchange_out_of_both_transcripts_and_its_tokens() -> None:
    async with Gateway() as gateway:
        await gateway.says("one")
        await gateway.says("two")
        session_id = gateway.turns[0][0]
        await gateway.says("/undo")
        assert gateway.spoken(session_id) == ["one", "echo: one"]
        assert in_state_db(gateway, session_id) == in_file(session_id) == ["one", "echo: one"]
        assert gateway.store._entries[KEY].last_prompt_tokens == 0
        await gateway.says("three")
        assert [each["content"] for each in gateway.turns[-1][2] if each["role"] == "user"] == ["one"]


async def retry_asks_the_last_question_again() -> None:
    async with Gateway() as gateway:
        await gateway.says("one")
        await gateway.says("two")
        session_id = gateway.turns[0][0]
        assert await gateway.says("/retry") == "echo: two"
        assert [turn[1] for turn in gateway.turns] == ["one", "two", "two"]
        expected = ["one", "echo: one", "two", "echo: two"]
        assert gateway.spoken(session_id) == in_state_db(gateway, session_id) == in_file(session_id) == expected


async def resume_goes_on_with_a_titled_conversation() -> None:
    async with Gateway() as gateway:
        await gateway.says("one")
        await gateway.says("/title First")
        first = gateway.store._entries[KEY].session_id
        await gateway.says("/new")
        await gateway.says("two")
        second = gateway.store._entries[KEY].session_id
        await gateway.says("/resume First")
        entry = gateway.store._entries[KEY]
        assert (entry.session_id, entry.life == first) == (first, False)
        db = gateway.runner._session_db
        assert db.get_session(first)["ended_at"] is None
        assert db.get_session(second)["end_reason"] == "session_switch"
        await gateway.says("three")
        assert gateway.turns[-1][0] == first
        assert gateway.spoken(first) == ["one", "echo: one", "three", "echo: three"]


async def stop_ends_a_turn_and_keeps_the_conversation() -> None:
    async with Gateway() as gateway:
        await gateway.says("one")
        session_id = gateway.store._entries[KEY].session_id
        gateway.holds = asyncio.Event()
        await gateway.begins("two")
        await until(lambda: len(gateway.turns) == 2)
        await gateway.says("/stop")
        gateway.holds.set()
        gateway.holds = None
        assert await gateway.says("three") == "echo: three"
        assert gateway.turns[-1][0] == session_id


async def three_interrupted_restarts_suspend_every_stuck_session() -> None:
    chats = ("42", "43", "44")
    async with Gateway() as first:
        for chat in chats:
            await first.says("one", chat)
        keys = list(first.store._entries)
        before = {entry.session_id for entry in first.store._entries.values()}
    (HOME / first.runner._STUCK_LOOP_FILE).write_text(json.dumps(dict.fromkeys(keys, 3)), "utf-8")
    async with Gateway() as second:
        assert [entry.suspended for entry in second.store._entries.values()] == [True] * len(chats)
        for chat in chats:
            await second.says("two", chat)
        assert not before & {entry.session_id for entry in second.store._entries.values()}


async def a_mirrored_message_goes_into_the_conversation_that_lives() -> None:
    from gateway.mirror import mirror_to_session

    async with Gateway() as gateway:
        await gateway.says("one")
        before = gateway.store._entries[KEY].session_id
        await until(lambda: before in names_in_file())
        assert mirror_to_session("telegram", "42", "from cron", user_id="user-42")
        await gateway.says("/new")
        await gateway.says("two")
        after = gateway.store._entries[KEY].session_id
        await until(lambda: after in names_in_file())
        assert mirror_to_session("telegram", "42", "from cron again", user_id="user-42")
        assert gateway.spoken(before) == ["one", "echo: one", "from cron"]
        assert gateway.spoken(after) == ["two", "echo: two", "from cron again"]


async def the_channel_directory_and_the_status_know_who_lives() -> None:
    from gateway.channel_directory import _build_from_sessions
    from hermes_cli import status

    async with Gateway() as gateway:
        for chat in ("42", "43"):
            await gateway.says("one", chat)
        await until(lambda: len(names_in_file()) == 2)
        assert {channel["id"] for channel in _build_from_sessions("telegram")} == {"42", "43"}
        said = io.StringIO()
        with contextlib.redirect_stdout(said):
            status.show_status(argparse.Namespace(all=False, deep=False))
        assert "2 session(s)" in said.getvalue()


async def the_old_store_reads_what_this_one_has_written() -> None:
    from gateway.session import SessionStore as OldStore

    async with Gateway() as gateway:
        await gateway.says("one")
        await gateway.says("one", "43")
        gateway.store.suspend_session(KEY)
        before = {entry.session_key: entry for entry in gateway.store.list_sessions()}
        config = gateway.runner.config
    old = OldStore(SESSIONS, config)
    after = {entry.session_key: entry for entry in old.list_sessions()}
    assert set(after) == set(before)
    for key, entry in after.items():
        assert entry.updated_at == before[key].updated_at
        assert (entry.session_id, entry.suspended) == (before[key].session_id, before[key].suspended)
        assert entry.last_prompt_tokens == before[key].last_prompt_tokens
    assert old.load_transcript(before[KEY].session_id)


def in_state_db(gateway: Gateway, session_id: str) -> list[str]:
    """What the gateway's own database has of a conversation."""
    messages = gateway.runner._session_db.get_messages_as_conversation(session_id)
    return [each["content"] for each in messages if each["role"] in ("user", "assistant")]


def in_file(session_id: str) -> list[str]:
    """What a transcript's file has."""
    messages = map(json.loads, (SESSIONS / f"{session_id}.jsonl").read_text("utf-8").splitlines())
    return [each["content"] for each in messages if each["role"] in ("user", "assistant")]


def names_in_file() -> set[str]:
    """The conversations that sessions.json has."""
    file = SESSIONS / "sessions.json"
    return {entry["session_id"] for entry in json.loads(file.read_text("utf-8")).values()} if file.exists() else set()


if __name__ == "__main__":
    asyncio.run(globals()[sys.argv[1]]())
