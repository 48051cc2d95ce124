"""`python -m tests.fuzz.codec_atheris --runs 1000000 --seed 7`: the codec under libFuzzer, led by what inputs reach.

Bytes that take a new way through the code are kept and changed further. libFuzzer ends the run where an input takes
longer than `TIMEOUT_S` or the process grows beyond `MOST_MEMORY_MB`; it leaves the input in the folder that it names.
atheris is no part of the locked environment: it has wheels for Linux on x86-64 only.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
import tempfile
import time
from pathlib import Path
from random import Random
from typing import Any

GOLDEN = Path(__file__).parents[1] / "specs" / "golden"
TIMEOUT_S = 5
MOST_MEMORY_MB = 1_024
LONGEST_INPUT = 8_192
WATCHED = [
    "lastseen.engine.codec",
    "lastseen.engine.plain_touch",
    "lastseen.engine.events",
    "lastseen.engine.clock",
    "lastseen.engine.session",
]


def main() -> int:
    """Fuzz the codec; libFuzzer ends the process, with 0 if all inputs held."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.codec_atheris", description=__doc__)
    parser.add_argument("--runs", type=int, default=1_000_000, help="how many inputs; -1 for no end")
    parser.add_argument("--seconds", type=int, default=0, help="end after so long; 0 for when the inputs are through")
    parser.add_argument("--seed", type=int, default=time.time_ns() % 2**31)
    parser.add_argument("--findings", type=Path, default=Path(), help="where an input that breaks it is left")
    chosen = parser.parse_args()
    try:
        atheris: Any = importlib.import_module("atheris")
    except ImportError:
        sys.stderr.write(
            "lastseen: atheris is missing. On Linux (x86-64): pip install --require-hashes -r tests/fuzz/atheris.txt\n"
        )
        return 1
    with atheris.instrument_imports(include=WATCHED):
        check = importlib.import_module("tests.fuzz.codec_check").check
    events = 0

    def one_input(value: bytes) -> None:
        nonlocal events
        events += check(value)

    with tempfile.TemporaryDirectory(prefix="lastseen-fuzz-") as name:
        folder = Path(name)
        words = furnish(folder, Random(chosen.seed))
        options = [
            sys.argv[0], str(folder / "examples"), f"-dict={words}", f"-runs={chosen.runs}", f"-seed={chosen.seed}",
            f"-timeout={TIMEOUT_S}", f"-rss_limit_mb={MOST_MEMORY_MB}", f"-max_len={LONGEST_INPUT}",
            f"-max_total_time={chosen.seconds}", f"-artifact_prefix={chosen.findings}/", "-print_final_stats=1",
        ]  # fmt: skip
        sys.stdout.write(f"seed {chosen.seed}\n")
        sys.stdout.flush()
        atheris.Setup(options, one_input)
        atheris.Fuzz()
    return 0


def furnish(folder: Path, chance: Random) -> Path:
    """Put sound examples into a folder, and the words that they are made of into a file of it; that file."""
    (folder / "examples").mkdir()
    words = {"lastseen.session.touched.v0"}
    for file in sorted(GOLDEN.glob("*.json")):
        example = json.loads(file.read_bytes())
        compact = json.dumps(example, separators=(",", ":")).encode()
        (folder / "examples" / file.stem).write_bytes(compact)
        words |= set(words_in(example))
    touched = json.loads((GOLDEN / "touched.json").read_bytes())
    old = touched | {"type": "lastseen.session.touched.v0", "data": {"id": "A" * 22}}
    (folder / "examples" / "old").write_bytes(json.dumps(old).encode())
    chosen = chance.sample(sorted(words), len(words))
    place = folder / "words"
    place.write_text("".join(f'"{quoted(word)}"\n' for word in chosen), encoding="ascii")
    return place


def words_in(example: object) -> list[str]:
    """Names and values that a record is made of."""
    if isinstance(example, dict):
        return [word for name, value in example.items() for word in [f'"{name}":', *words_in(value)]]
    if isinstance(example, list):
        return [word for value in example for word in words_in(value)]
    return [json.dumps(example)]


def quoted(word: str) -> str:
    """A word as libFuzzer's dictionaries spell it."""
    return "".join(c if c.isalnum() or c in "_-.:/," else f"\\x{byte:02X}" for c in word for byte in c.encode())


if __name__ == "__main__":
    sys.exit(main())
