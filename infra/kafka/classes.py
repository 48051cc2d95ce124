"""Kafka's classes as Java has read them once, in an archive (class data sharing): brokers start in half the time.

An archive is an economy and nothing else: Java passes over one that is not of its own version or not of these jars.
"""

from __future__ import annotations

import dataclasses
import tempfile
from pathlib import Path

from infra.kafka.alone import alone_in
from infra.kafka.cluster import Cluster
from infra.kafka.jars import say
from infra.kafka.java import ARCHIVE, Java
from infra.kafka.node import BrokerFailed


def keep_classes(java: Java) -> None:
    """Make the archive, unless it is there, by starting a broker once. What goes wrong is said, and does not matter."""
    kept = java.jars / ARCHIVE
    with alone_in(java.jars.parent), tempfile.TemporaryDirectory() as folder:
        if kept.exists():
            return
        say("starting a broker once, so that Java remembers its classes")
        arriving = Path(folder) / ARCHIVE
        broker = Cluster(dataclasses.replace(java, options=(f"-XX:ArchiveClassesAtExit={arriving}",)), Path(folder), 1)
        try:
            broker.start()
            broker.stop()
            # Beside the jars first: a move between file systems is no single step.
            (kept.parent / f"{ARCHIVE}.arriving").write_bytes(arriving.read_bytes())
            (kept.parent / f"{ARCHIVE}.arriving").rename(kept)
        except (BrokerFailed, OSError) as failure:
            say(f"it does not, and every broker will take its time: {failure}")
        finally:
            broker.kill()
