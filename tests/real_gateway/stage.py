"""A real GatewayRunner with the drop-in in its store's place: one platform, and an agent that echoes.

Runs in the gateway's environment only. What is replaced: the store, by the import that a user changes; the platform's
network, by a list of what was sent; and the model, by an echo, which keeps its messages in state.db as the agent does.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gateway.run as program
from gateway.config import GatewayConfig, Platform, PlatformConfig
from gateway.platforms.base import BasePlatformAdapter, MessageEvent, MessageType, SendResult
from gateway.session import SessionSource

from lastseen.compat.gateway import SessionStore

program.SessionStore = SessionStore
HOME = Path(os.environ["HERMES_HOME"])
SESSIONS = HOME / "sessions"
WITHIN_S = 20.0


class Chat(BasePlatformAdapter):
    """A platform that keeps what is sent."""

    def __init__(self, platform: Platform) -> None:
        super().__init__(PlatformConfig(enabled=True, token="x"), platform)
        self.sent: list[str] = []

    async def connect(self) -> bool:
        """Nothing to connect to."""
        return True

    async def disconnect(self) -> None:
        """Nothing to leave."""

    async def send(self, chat_id: str, content: str, reply_to: Any = None, metadata: Any = None) -> SendResult:
        """Keep it."""
        del chat_id, reply_to, metadata
        self.sent.append(content)
        return SendResult(success=True, message_id=str(len(self.sent)))

    async def get_chat_info(self, chat_id: str) -> dict[str, Any]:
        """A direct chat."""
        return {"name": chat_id, "type": "dm"}


def source(chat_id: str = "42", **other: Any) -> SessionSource:
    """A direct message, as the gateway's own adapter makes it."""
    given = {"chat_type": "dm", "user_id": f"user-{chat_id}", "user_name": f"User {chat_id}", "chat_name": "Ana"}
    return SessionSource(platform=Platform.TELEGRAM, chat_id=chat_id, **{**given, **other})


class Gateway:
    """A gateway between its start and its stop."""

    def __init__(self) -> None:
        config = GatewayConfig(
            platforms={Platform.TELEGRAM: PlatformConfig(enabled=True, token="x")}, sessions_dir=SESSIONS
        )
        self.runner: Any = program.GatewayRunner(config)
        self.chat = Chat(Platform.TELEGRAM)
        self.turns: list[tuple[str, str, list[dict[str, Any]]]] = []
        """Of each turn the agent's conversation, the message, and the history that it was given."""
        self.holds: asyncio.Event | None = None
        """While it is there and not set, a turn does not end."""
        self.runner._create_adapter = lambda platform, config: self.chat
        self.runner._run_agent = self._echo
        self.runner._format_session_info = str  # it asks a server for the model's figures
        self.runner._restart_drain_timeout = 0.2  # a stop waits no longer for a turn

    @property
    def store(self) -> SessionStore:
        """The drop-in."""
        store = self.runner.session_store
        assert isinstance(store, SessionStore)
        return store

    async def _echo(self, message: str, history: list[dict[str, Any]], session_id: str, **_: Any) -> dict[str, Any]:
        self.turns.append((session_id, message, history))
        if self.holds is not None:
            await self.holds.wait()
        spoken = [{"role": "user", "content": message}, {"role": "assistant", "content": f"echo: {message}"}]
        db = self.runner._session_db
        if db.get_session(session_id) is None:
            db.create_session(session_id, "telegram")
        for each in spoken:
            db.append_message(session_id, each["role"], each["content"])
        return {
            "final_response": spoken[1]["content"], "messages": [*history, *spoken], "history_offset": len(history),
            "last_prompt_tokens": 100 * len(self.turns), "api_calls": 1, "completed": True, "tools": [],
        }  # fmt: skip

    async def __aenter__(self) -> Gateway:
        assert await self.runner.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.runner.stop()
        self.store.close()

    async def says(self, text: str, chat_id: str = "42", **other: Any) -> str:
        """A user's message; returns what he is answered, once he has confirmed what the gateway asks him to."""
        before = len(self.chat.sent)
        await self.begins(text, chat_id, **other)
        await until(lambda: any(self.answers(before)) and not self.chat._active_sessions)
        answer = self.answers(before)[-1]
        return await self.says("/approve", chat_id, **other) if "**Confirm /" in answer else answer

    async def begins(self, text: str, chat_id: str = "42", **other: Any) -> None:
        """A user's message, without waiting for its answer."""
        await self.chat.handle_message(
            MessageEvent(text=text, message_type=MessageType.TEXT, source=source(chat_id, **other))
        )

    def answers(self, since: int = 0) -> list[str]:
        """What was sent, but for notices to people."""
        return [each for each in self.chat.sent[since:] if "home channel" not in each.lower()]

    def spoken(self, session_id: str) -> list[str]:
        """What a conversation's transcript has of user and agent."""
        messages = self.store.load_transcript(session_id)
        return [each["content"] for each in messages if each["role"] in ("user", "assistant")]


async def until(holds: Callable[[], bool]) -> None:
    """Wait until something holds."""
    async with asyncio.timeout(WITHIN_S):
        while not holds():
            await asyncio.sleep(0.01)  # waits: for the gateway's own tasks
