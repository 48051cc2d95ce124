"""The machine: room on the disk, memory, the tokens' file, and whether a service answers here."""

from __future__ import annotations

import http.client
import shlex
import shutil
import ssl
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from lastseen.doctor.findings import Finding, LogFiles, Subject, error, note, ok, warning
from lastseen.embedded.memory_pressure import PRESSURE_THRESHOLD, MemoryPressure
from lastseen.embedded.offline import files_of
from lastseen.engine.errors import InvalidSetting
from lastseen.projections.archive import archives_of

LITTLE_BYTES, TOO_LITTLE_BYTES = 1 << 30, 64 << 20
LITTLE_SHARE = 0.05
ANSWER_TIMEOUT_S = 3


def disk(files: LogFiles) -> Iterator[Finding]:
    """How much room the disks of a log's files have."""
    looked_at = set()
    for path in files:
        folder = None if path is None else _nearest_folder(Path(path).absolute().parent)
        if folder is None or (device := folder.stat().st_dev) in looked_at:
            continue
        looked_at.add(device)
        usage = shutil.disk_usage(folder)
        says = f"{usage.free / 1e9:,.1f} GB of {usage.total / 1e9:,.1f} GB are free at {folder}"
        step = "free some space, or move the files: a log on a full disk accepts no more events"
        if usage.free < TOO_LITTLE_BYTES:
            yield error("disk", says, step)
        elif usage.free < min(LITTLE_BYTES, usage.total * LITTLE_SHARE):
            yield warning("disk", says, step)
        else:
            yield ok("disk", says)


def access(files: LogFiles) -> Iterator[Finding]:
    """Whether other accounts can read a log, its snapshot, its history or an archive."""
    if sys.platform == "win32":
        return  # access lists say it there, and mode bits nothing
    paths = [] if files.log is None else files_of(Path(files.log))
    paths += [] if files.snapshot is None else [Path(files.snapshot), *archives_of(files.snapshot)]
    modes = {path: path.stat().st_mode for path in dict.fromkeys(paths) if path.is_file()}
    readable = [path for path, mode in modes.items() if mode & stat.S_IROTH]
    if readable:
        quoted = " ".join(shlex.quote(str(path)) for path in readable)
        yield warning(
            "access",
            f"every account of this machine can read {', '.join(map(str, readable))}",
            f"sessions are personal data: chmod 600 {quoted} (or 640, for a group)",
        )
    elif modes:
        yield ok("access", "other accounts cannot read the files, or only those of their group can")


def _nearest_folder(folder: Path) -> Path | None:
    """The folder, or the nearest one above it that there is."""
    return next((each for each in (folder, *folder.parents) if each.is_dir()), None)


def memory(subject: Subject) -> Iterator[Finding]:
    """Whether what the cache may take fits the memory limit."""
    limit = MemoryPressure(subject.max_memory_bytes).limit_bytes
    if limit is None:
        yield note("memory", "this process's limit is not known", "set max_memory_bytes, so that the cache can shrink")
        return
    says = f"the limit is {limit / 1e6:,.0f} MB, of which attributes and messages may take"
    says += f" {subject.max_body_bytes / 1e6:,.0f} MB"
    if subject.max_body_bytes > limit * PRESSURE_THRESHOLD / 2:
        yield warning(
            "memory", says, "lower max_body_bytes or raise the limit: a live session takes about 600 bytes beside them"
        )
    else:
        yield ok("memory", says)


def tokens(subject: Subject) -> Iterator[Finding]:
    """Whether the file of the tokens can be used."""
    if subject.token_file is None:
        return
    from lastseen.auth.token_file import TokenFile

    try:
        count = len(TokenFile(subject.token_file).read())
    except InvalidSetting as failure:
        yield error("tokens", str(failure), "until then every request with a token is refused")
        return
    if count:
        yield ok("tokens", f"{count} in {subject.token_file}")
    else:
        yield warning("tokens", f"{subject.token_file} has none", "make one: lastseen token create NAME --scope read")


def service(subject: Subject) -> Iterator[Finding]:
    """What a service that answers at the configured address says of itself."""
    if subject.address is None:
        return
    parts = urlsplit(subject.address)
    if parts.scheme == "https":
        # Its certificate need not name the address by which this machine reaches it, and nothing secret is sent.
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        connection: http.client.HTTPConnection = http.client.HTTPSConnection(
            parts.hostname or "", parts.port, timeout=ANSWER_TIMEOUT_S, context=context
        )
    else:
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=ANSWER_TIMEOUT_S)
    try:
        connection.request("GET", "/readyz?verbose")
        answer = connection.getresponse()
        lines = answer.read(16_384).decode("utf-8", "replace").splitlines()
    except (OSError, http.client.HTTPException) as failure:
        yield note(
            "service", f"none responds at {subject.address} ({failure})", "if a service should run here, read its log"
        )
        return
    finally:
        connection.close()
    unwell = [line for line in lines if line.startswith(("[failing]", "[warning]"))]
    if answer.status == http.client.OK and not unwell:
        yield ok("service", f"the one at {subject.address} is ready")
    elif answer.status == http.client.OK:
        yield warning("service", f"the one at {subject.address}: {'; '.join(unwell)}", "follow its message")
    else:
        says = "; ".join(unwell) or f"answers {answer.status}"
        yield error(
            "service",
            f"the one at {subject.address}: {says}",
            "follow its message, or find out which program listens there",
        )
