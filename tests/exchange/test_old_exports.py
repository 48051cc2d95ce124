"""Exports of an earlier version: header and count among the rows, and in Parquet integers for times. They are read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from pyarrow import parquet as pyarrow_parquet

import lastseen
from lastseen.engine.errors import ExportError
from lastseen.exchange import history, sessions
from lastseen.exchange.files import reader
from lastseen.exchange.sidecar import sidecar_of

T0 = 1_700_000_000_000
EXPORTS = {"history": history.export_history, "sessions": sessions.export_sessions}
IMPORTS: dict[str, Any] = {"history": history.import_history, "sessions": sessions.import_sessions}
LATER = ("ended_session_id", "ended_at_ms", "ended_reason", "ended_owner")


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> str:
    url = f"sqlite:///{tmp_path_factory.mktemp('old') / 'log.db'}"
    with lastseen.open_engine(url, background=False) as engine:
        for number in range(5):
            engine.open(f"key-{number}", attributes={"n": number})
        engine.touch("key-1", message="hello")
        engine.close("key-2")
    return url


def in_the_old_form(new: Path, old: Path) -> None:
    """The same export as version 0.1 wrote it."""
    says = json.loads(sidecar_of(new).read_text("utf-8"))
    header = {name: says[name] for name in ("lastseen_export", "log", "ends")} | {"format": 1}
    rows = [json.loads(line) for line in new.read_text("utf-8").splitlines()]
    if says["lastseen_export"] == "history":
        rows = [{name: value for name, value in row.items() if name not in LATER} for row in rows]
    if old.suffix == ".jsonl":
        lines = (header, *rows, {"rows": len(rows)})
        old.write_text("".join(json.dumps(each) + "\n" for each in lines), encoding="utf-8")
        return
    old.mkdir()
    types = {
        "int": pyarrow.int64(), "time": pyarrow.int64(), "bytes": pyarrow.binary(),
        "text": pyarrow.string(), "name": pyarrow.string(), "json": pyarrow.string(),
    }  # fmt: skip
    columns = {name: kind for name, kind in says["columns"].items() if name in rows[0]}
    for row in rows:
        for name, kind in columns.items():
            if kind == "json":
                row[name] = json.dumps(row[name])
            elif kind == "bytes":
                row[name] = row[name].encode()
    metadata = {b"lastseen": json.dumps(header).encode(), b"lastseen.rows": b"%d" % len(rows)}
    schema = pyarrow.schema([(name, types[kind]) for name, kind in columns.items()], metadata=metadata)
    pyarrow_parquet.write_table(pyarrow.Table.from_pylist(rows, schema=schema), old / "part-000000.parquet")


@pytest.mark.parametrize("ending", ["jsonl", "parquet"])
@pytest.mark.parametrize("kind", EXPORTS)
def test_an_export_of_an_earlier_version_is_imported(url: str, tmp_path: Path, kind: str, ending: str) -> None:
    new, old = tmp_path / "new.jsonl", tmp_path / f"old.{ending}"
    EXPORTS[kind](url, new)
    in_the_old_form(new, old)

    IMPORTS[kind](old, f"sqlite:///{tmp_path / 'back.db'}")

    with lastseen.open_engine(f"sqlite:///{tmp_path / 'back.db'}", background=False) as engine:
        assert {view.key for view in engine.list().sessions} == {f"key-{number}" for number in (0, 1, 3, 4)}
        assert [each.value for each in engine.messages("key-1")] == ["hello"]


@pytest.mark.parametrize("ending", ["jsonl", "parquet"])
@pytest.mark.parametrize("kind", EXPORTS)
def test_an_export_of_an_earlier_version_is_not_written_over(url: str, tmp_path: Path, kind: str, ending: str) -> None:
    new, old = tmp_path / "new.jsonl", tmp_path / f"old.{ending}"
    EXPORTS[kind](url, new)
    in_the_old_form(new, old)
    count = reader(old).count
    with pytest.raises(ExportError, match="of an earlier version"):
        EXPORTS[kind](url, old)
    assert reader(old).count == count


def test_an_old_export_that_was_cut_off_is_incomplete(url: str, tmp_path: Path) -> None:
    new, old = tmp_path / "new.jsonl", tmp_path / "old.jsonl"
    history.export_history(url, new)
    in_the_old_form(new, old)
    content = old.read_bytes()
    for cut in (1, 20, 400):
        old.write_bytes(content[:-cut])
        with pytest.raises(ExportError, match="incomplete"):
            reader(old)
