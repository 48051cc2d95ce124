"""`docs/reference/cli.md` is what the commands say of themselves, and every option is explained and exercised."""

from __future__ import annotations

import re
from pathlib import Path

from lastseen.cli.exit_codes import EXIT_CODES
from lastseen.docs.cli_page import cli_page, commands

ROOT = Path(__file__).resolve().parents[2]


def test_the_page_is_not_stale() -> None:
    assert (ROOT / "docs" / "reference" / "cli.md").read_text("utf-8") == cli_page(), "run `make docs`"


def test_every_option_is_explained() -> None:
    for name, command in commands().items():
        assert command.help, name
        for option in command.params:
            assert option.help, f"{name} {option.name}"


def test_lists_of_commands_have_a_whole_sentence_for_each() -> None:
    room = 80 - 6 - max(len(name.split()[-1]) for name in commands())
    for name, command in commands().items():
        assert re.search(r"[^.]\.$", command.get_short_help_str(room)), f"{name} is cut off on 80 columns"


def test_every_command_option_and_exit_code_is_exercised() -> None:
    tests = "".join(
        path.read_text("utf-8") for path in Path(__file__).parent.glob("test_*.py") if path != Path(__file__)
    )
    for name, command in commands().items():
        assert all(f'"{word}"' in tests for word in name.split()), name
        for option in command.params:
            spellings = [spelling for spelling in option.opts if spelling.startswith("--")]
            assert all(f'"{spelling}"' in tests for spelling in spellings), f"{name} {spellings}"
    for code in set(EXIT_CODES) - {0}:
        assert re.search(rf"(exit_code|returncode)(=| == |.* in \().*\b{code}\b", tests), code
