"""Stands in for `docker` where there is no engine: its containers are processes of this machine, run by its own Java.

A container lives apart from the program that watches it, so killing the watcher leaves it running, as Docker would.
What it knows of containers and networks is files in the folder DOCKER_STAND_IN; DOCKER_STAND_IN_JARS has the jars.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

STATE = Path(os.environ.get("DOCKER_STAND_IN", "."))
REFUSED = 125


def parsed(arguments: list[str]) -> argparse.Namespace:
    """The options of `docker run`, as far as they are used."""
    options = argparse.ArgumentParser()
    options.add_argument("--rm", action="store_true", required=True)
    for name in ("--name", "--network", "--user", "--volume", "--entrypoint"):
        options.add_argument(name, required=True)
    options.add_argument("--publish", action="append", required=True)
    options.add_argument("image")
    options.add_argument("command", nargs=argparse.REMAINDER)
    return options.parse_args(arguments)


def run(arguments: list[str]) -> int:
    """Run a container and watch it."""
    wanted = parsed(arguments)
    container = STATE / "containers" / wanted.name
    if not (STATE / "networks" / wanted.network).exists() or container.exists():
        print("no such network, or such a name is taken", file=sys.stderr)  # noqa: T201
        return REFUSED
    outside, inside = wanted.volume.split(":")
    settings = Path(outside, "server.properties").read_text(encoding="utf-8")
    settings = settings.replace(f"={inside}/", f"={outside}/").replace("//0.0.0.0:", "//127.0.0.1:")
    settings = re.sub(r"lastseen-[0-9a-f]+-\d+:", "127.0.0.1:", settings)
    Path(outside, "inside.properties").write_text(settings, encoding="utf-8")
    places = {f"{inside}/server.properties": f"{outside}/inside.properties"}
    places["/opt/kafka/libs/*"] = os.environ["DOCKER_STAND_IN_JARS"] + "/*"
    places[f"-Dlog4j2.configurationFile={inside}/log4j2.properties"] = "-Dlog4j2.level=warn"
    command = [wanted.entrypoint, *(places.get(word, word) for word in wanted.command)]
    process = subprocess.Popen(command, start_new_session=True)
    container.write_text(f"{process.pid}\n{' '.join(wanted.publish)}\n", encoding="ascii")
    signal.signal(signal.SIGTERM, lambda number, frame: process.send_signal(number))
    code = process.wait()
    container.unlink(missing_ok=True)
    return code if code >= 0 else 128 - code


def main(arguments: list[str]) -> int:
    """Do what `docker` would."""
    match arguments:
        case ["version", *_] | ["image", "inspect", _]:
            return 0
        case ["network", "create", name]:
            (STATE / "networks" / name).touch()
        case ["network", "rm", name]:
            if list((STATE / "containers").glob(f"{name}-*")):
                return 1
            (STATE / "networks" / name).unlink(missing_ok=True)
        case ["rm", "--force", name]:
            container = STATE / "containers" / name
            with contextlib.suppress(FileNotFoundError):
                os.kill(int(container.read_text(encoding="ascii").split()[0]), signal.SIGKILL)
                container.unlink(missing_ok=True)
        case ["run", *rest]:
            return run(rest)
        case _:
            return REFUSED
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
