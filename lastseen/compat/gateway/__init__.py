"""The gateway's session store, on the engine: change the import, keep the calls.

::

    from lastseen.compat.gateway import ExpiryWatcher, GatewayConfig, SessionSource, SessionStore

    store = SessionStore(sessions_dir, config, has_active_processes_fn=processes.has_active_for_session)
    entry = store.get_or_create_session(source)

docs/how-to/compat-gateway.md says what is as ever, and what is different, by name.
"""

from lastseen.compat.gateway.config import GatewayConfig, SessionResetPolicy
from lastseen.compat.gateway.entry import SessionEntry
from lastseen.compat.gateway.importing import Imported, import_sessions
from lastseen.compat.gateway.platform import Platform
from lastseen.compat.gateway.source import SessionSource, build_session_key, is_shared_multi_user_session
from lastseen.compat.gateway.store import SessionStore
from lastseen.compat.gateway.watcher import ExpiryWatcher

__all__ = [
    "ExpiryWatcher",
    "GatewayConfig",
    "Imported",
    "Platform",
    "SessionEntry",
    "SessionResetPolicy",
    "SessionSource",
    "SessionStore",
    "build_session_key",
    "import_sessions",
    "is_shared_multi_user_session",
]
