"""A database for rows that an import has to read in another order than that of its file."""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager

from lastseen.embedded.offline import temporary_folder
from lastseen.engine.errors import ExportError


@contextmanager
def temporary_database() -> Iterator[sqlite3.Connection]:
    """An empty database in the temporary folder, removed at the end.

    Raises `ExportError` where it cannot be made, or what is done with it inside the block fails, as on a full disk.
    """
    try:
        with (
            temporary_folder() as folder,
            closing(sqlite3.connect(folder / "rows.db", isolation_level=None)) as database,
        ):
            database.execute("PRAGMA synchronous = OFF")
            yield database
    except sqlite3.Error as error:
        raise ExportError(
            f"the temporary folder {tempfile.gettempdir()} cannot hold the import: {error}. Free some space there, or"
            " name another folder in TMPDIR"
        ) from error
