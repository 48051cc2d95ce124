"""A page, done by a reader who starts in an empty folder: files are saved, commands typed, programs left running."""

from __future__ import annotations

import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import tomllib
import uuid
from pathlib import Path

from lastseen.docs.cli_page import commands as known_commands
from lastseen.engine.log.kafka.new_log import create_log
from lastseen.engine.log.kafka.topic import NewTopics
from lastseen.engine.log.kafka.url import parse_kafka_url
from tests.docs.pages import ROOT, Block, commands, is_shown
from tests.patience import PATIENCE_S, eventually

KAFKA, PORT = "kafka://localhost:9092/sessions", "8321"
SERVING = re.compile(r"lastseen (serve|dev)\b")
CUT_OFF = 28
"""How curl ends when its time is over, as it must for a stream, which does not end by itself."""
MADE = {"demo"}
"""Targets of the Makefile that are made; of all others it is seen that they are there."""


class Story:
    """A reader in a folder. Leaving it ends what was started."""

    def __init__(self, folder: Path, broker: str | None = None) -> None:
        self.folder, self._broker = folder, broker
        self._port = _free_port()
        self._topic = f"docs-{uuid.uuid4().hex}"
        self._service: subprocess.Popen[bytes] | None = None
        inherited = {name: text for name, text in os.environ.items() if not name.startswith("LASTSEEN_")}
        path = f"{Path(sys.executable).parent}{os.pathsep}{inherited['PATH']}"
        self._environment = {**inherited, "PATH": path, "COLUMNS": "400"}
        self.did: list[str] = []
        """What was really executed, for a test that nothing is passed over."""

    def close(self) -> None:
        """End the service, if one runs."""
        if self._service is not None:
            self._service.send_signal(signal.SIGTERM)
            try:
                self._service.wait(PATIENCE_S)
            finally:
                self._service.kill()
                self._service.wait()
            self._service = None

    def read(self, block: Block) -> None:
        """Do what a block says."""
        text = self._here(block.text)
        if block.title is not None:
            (self.folder / block.title).write_text(text, encoding="utf-8")
        if block.language == "toml":
            tomllib.loads(text)
            self._run(["lastseen", "config", "validate", "--config", str(block.title)], block.line)
        elif block.language == "python" and block.title is None:
            self._python(text, block.line)
        elif block.language == "console":
            for command in commands(block):
                self._type(self._here(command.line), self._here(command.shown), block.line)

    def _here(self, text: str) -> str:
        """What a page says, with the port, the broker and the topic of this run."""
        if "localhost:9092" in text:
            assert self._broker is not None
            url = f"kafka://{self._broker}/{self._topic}"
            text = text.replace(KAFKA, url).replace("localhost:9092", self._broker)
        return re.sub(rf"\b{PORT}\b", str(self._port), text)

    def _python(self, text: str, line: int) -> None:
        # Not in the folder itself: what stands there is no module of the program's.
        script = self.folder / ".blocks" / f"line_{line}.py"
        script.parent.mkdir(exist_ok=True)
        script.write_text(text, encoding="utf-8")
        if self._broker is not None and self._broker in text:
            self._make_topic()
        if f"127.0.0.1:{self._port}" in text:
            self._need_service()
        self._run([sys.executable, str(script)], line)

    def _make_topic(self) -> None:
        """For a page whose Python stands before the command that makes the topic, or without it."""
        create_log(parse_kafka_url(f"kafka://{self._broker}/{self._topic}"), NewTopics(6))

    def _type(self, line: str, shown: str, number: int) -> None:
        words = shlex.split(line)
        if words[0] == "pip":
            self._check_requirement(words)
        elif words[0] == "make":
            recipe = _recipe(words[1])
            if words[1] in MADE:
                self._link_recordings()
                for each in recipe:
                    self._run(["bash", "-ec", each], number)
        elif SERVING.match(line):
            self._serve(words)
        else:
            self._execute(line, shown, number)

    def _execute(self, line: str, shown: str, number: int) -> None:
        if "lastseen/replay/data/" in line:
            self._link_recordings()
        if line.startswith("curl ") and f":{self._port}" in line:
            self._need_service()
        ends = (0,)
        if "/events/stream" in line:
            line, ends = f"{line} --max-time 5", (CUT_OFF,)
        elif line.startswith("lastseen doctor"):
            ends = (0, 1)  # what it finds depends on the machine
        output = self._run(["bash", "-ec", f"set -o pipefail; {line}"], number, ends)
        assert not shown or is_shown(output, shown), f"line {number}: {line}\nwrote:\n{output}\nthe page has:\n{shown}"

    def _run(self, words: list[str], line: int, ends: tuple[int, ...] = (0,)) -> str:
        done = subprocess.run(
            words, cwd=self.folder, env=self._environment, capture_output=True, text=True, timeout=PATIENCE_S,
            check=False,
        )  # fmt: skip
        self.did.append(words[-1])
        assert done.returncode in ends, (
            f"line {line}: {words}\nended with {done.returncode}:\n{done.stdout}{done.stderr}"
        )
        return done.stdout

    def _serve(self, words: list[str]) -> None:
        self.close()  # the reader presses Ctrl-C before starting it again
        name = words[1]
        options = {spelling for option in known_commands()[name].params for spelling in option.opts}
        assert {word for word in words if word.startswith("-")} <= options
        if "--port" not in words:
            words = [*words, "--port", str(self._port)]
        log = self.folder / f"{name}.log"
        with log.open("wb") as output:
            self._service = subprocess.Popen(
                words, cwd=self.folder, env=self._environment, stdout=output, stderr=subprocess.STDOUT
            )
        self.did.append(" ".join(words))
        service = self._service
        eventually(lambda: service.poll() is not None or _answers(self._port), f"{words} listens")
        assert service.poll() is None, log.read_text("utf-8", "replace")

    def _need_service(self) -> None:
        """The service that a page takes for granted."""
        if self._service is None:
            self._serve(["lastseen", "serve"])

    def _link_recordings(self) -> None:
        link = self.folder / "lastseen" / "replay" / "data"
        if not link.exists():
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(ROOT / "lastseen" / "replay" / "data")
            (self.folder / "var").mkdir(exist_ok=True)

    def _check_requirement(self, words: list[str]) -> None:
        """Packages are not installed here: what the page asks for is what pyproject.toml offers."""
        project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        assert words[:2] == ["pip", "install"]
        for word in words[2:]:
            if word == "--upgrade":
                continue
            name, _, extras = word.rstrip("]").partition("[")
            assert name == project["name"]
            assert set(filter(None, extras.split(","))) <= set(project["optional-dependencies"])


def _recipe(target: str) -> list[str]:
    """The commands of a target of the Makefile."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    found = re.search(rf"^{re.escape(target)}:.*\n((?:\t.*\n)+)", makefile, re.MULTILINE)
    assert found is not None, f"the Makefile has no target {target}"
    lines = [line.lstrip("\t@") for line in found[1].splitlines()]
    return [line.replace("$(BIN)/", "") for line in lines]


def _free_port() -> int:
    with socket.socket() as chosen:
        chosen.bind(("127.0.0.1", 0))
        return int(chosen.getsockname()[1])


def _answers(port: int) -> bool:
    with socket.socket() as asked:
        return asked.connect_ex(("127.0.0.1", port)) == 0
