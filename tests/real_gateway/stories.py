"""Stories of a gateway with the drop-in; each runs in a process of its own: `python stories.py NAME`."""

from __future__ import annotations

import asyncio
import sys

from tests.real_gateway.stage import Gateway, until

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


if __name__ == "__main__":
    asyncio.run(globals()[sys.argv[1]]())
