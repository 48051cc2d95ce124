r"""Text that the log cannot hold: half an emoji, an unpaired surrogate, which Python's text can have and UTF-8 cannot.

Platforms cut names in the middle of an emoji, and file systems and IRC give bytes that are no UTF-8. Each surrogate is
written as the six characters `\ud83d`. Backslashes before such characters, or before a surrogate, are doubled: so no
two texts are written as one, and a name that looks like an escape does not lead to another user's session.
"""

from __future__ import annotations

import re
from typing import Any

_to_escape = re.compile(r"(\\+)(?=ud[89a-f][0-9a-f]{2})|(\\*)([\ud800-\udfff])")
_escaped = re.compile(r"(\\+)(ud[89a-f][0-9a-f]{2})")


def storable(value: Any) -> Any:
    """`value`, plain JSON, with its unpaired surrogates escaped, in names too."""
    if isinstance(value, str):
        return _to_escape.sub(_escape, value)
    if isinstance(value, dict):
        return {storable(name): storable(each) for name, each in value.items()}
    return [storable(each) for each in value] if isinstance(value, list) else value


def restored(value: Any) -> Any:
    """What `storable` was given."""
    if isinstance(value, str):
        return _escaped.sub(_unescape, value) if "\\ud" in value else value
    if isinstance(value, dict):
        return {restored(name): restored(each) for name, each in value.items()}
    return [restored(each) for each in value] if isinstance(value, list) else value


def _escape(found: re.Match[str]) -> str:
    before = (found[1] or found[2] or "") * 2
    return before if found[3] is None else f"{before}\\u{ord(found[3]):04x}"


def _unescape(found: re.Match[str]) -> str:
    backslashes, code = found[1], found[2]
    before = backslashes[: len(backslashes) // 2]
    return before + (chr(int(code[1:], 16)) if len(backslashes) % 2 else code)
