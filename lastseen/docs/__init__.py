"""The pages and schemas that are generated from the code: `python -m lastseen.docs` writes them, a test compares.

Nothing here decides anything: the rules are `engine.lifecycle.RULES`, the format is `engine.events`, the errors are
`engine.errors`.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

from lastseen.docs.cli_page import cli_page
from lastseen.docs.concept_pictures import concept_pictures
from lastseen.docs.configuration_page import configuration_page
from lastseen.docs.errors_page import errors_page
from lastseen.docs.event_schemas import event_schemas
from lastseen.docs.events_page import events_page
from lastseen.docs.http_api import openapi
from lastseen.docs.http_page import http_page
from lastseen.docs.lifecycle_page import lifecycle_page
from lastseen.docs.lifecycle_picture import lifecycle_picture
from lastseen.docs.operations_page import operations_page
from lastseen.docs.topics_api import asyncapi
from lastseen.docs.troubleshooting_page import troubleshooting_page

COMMAND = "python -m lastseen.docs"


@cache
def generated() -> dict[str, str]:
    """Every generated file: its path from the root of the repository, and its text. Made once a process."""
    schemas = {f"engine/schemas/{name}.json": text for name, text in event_schemas().items()}
    pictures = {"lifecycle": lifecycle_picture(), **concept_pictures()}
    return {
        "docs/reference/lifecycle.md": lifecycle_page(),
        "docs/reference/errors.md": errors_page(),
        "docs/reference/cli.md": cli_page(),
        "docs/reference/configuration.md": configuration_page(),
        "docs/reference/operations.md": operations_page(),
        "docs/reference/http.md": http_page(),
        "docs/reference/events.md": events_page(),
        "docs/troubleshooting.md": troubleshooting_page(),
        "docs/openapi.json": openapi(),
        "docs/asyncapi.json": asyncapi(),
        **schemas,
        **{f"docs/pictures/{name}.svg": text for name, text in pictures.items()},
    }


def stale(root: Path) -> list[str]:
    """The paths below `root` that are missing, differ from what the code says, or are no longer generated."""
    texts = generated()
    wrong = [path for path, text in texts.items() if not _holds(root / path, text)]
    left_over = [f"engine/schemas/{path.name}" for path in (root / "engine/schemas").glob("*.json")]
    return sorted(wrong + [path for path in left_over if path not in texts])


def write(root: Path) -> list[str]:
    """Bring all of them up to date; returns the paths that changed."""
    texts = generated()
    changed = stale(root)
    for path in changed:
        file = root / path
        if path in texts:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(texts[path], encoding="utf-8", newline="\n")
        else:
            file.unlink()
    return changed


def _holds(file: Path, text: str) -> bool:
    return file.is_file() and file.read_bytes() == text.encode()
