"""One name for a WhatsApp user: the bridge shows the same person now by phone number, now by an id of its own.

`60123456789@s.whatsapp.net`, `+60123456789` and `999999@lid` may be one person. The bridge writes down which, in files
`lid-mapping-<id>.json` (id → other id) and `lid-mapping-<id>_reverse.json`; a user's keys must not depend on which
form came with a message.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

from lastseen.compat.gateway.config import hermes_home

_safe = re.compile(r"[A-Za-z0-9@.+-]+")
"""What may stand in the name of a mapping file: an id from outside must not lead to another folder."""


def bare_identifier(identifier: object) -> str:
    """The number in any form of a WhatsApp id: without plus sign, device and server."""
    return str(identifier or "").strip().replace("+", "", 1).partition(":")[0].partition("@")[0]


def canonical_identifier(identifier: object, mappings: Path | None = None) -> str:
    """The shortest of all names that the bridge knows for this user; of equally short ones the first in order.

    `mappings` is the folder of the bridge's files, by default the gateway's own. Files that cannot be read say nothing.
    """
    bare = bare_identifier(identifier)
    folder = hermes_home() / "whatsapp" / "session" if mappings is None else mappings
    known: set[str] = set()
    waiting = [bare]
    while waiting:
        name = waiting.pop()
        if name in known or not _safe.fullmatch(name):
            continue
        known.add(name)
        for suffix in ("", "_reverse"):
            try:
                text = (folder / f"lid-mapping-{name}{suffix}.json").read_text("utf-8")
                waiting.append(bare_identifier(json.loads(text)))
            except (OSError, ValueError):
                continue
    return min(known, key=lambda each: (len(each), each), default=bare)
