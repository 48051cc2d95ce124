"""What to do about each error: the hand-written part of `docs/troubleshooting.md`, with links from that page."""

from __future__ import annotations

ADVICE = {
    "InvalidInput": (
        "Correct the value that the message quotes; nothing was written. If the value comes from a user, check it"
        " before you call."
    ),
    "InvalidKey": (
        "A key is text of 1 to 512 characters without control characters. Over HTTP it is one percent-encoded segment"
        " of the path, so a slash is `%2F`."
    ),
    "InvalidEvent": (
        "Attributes and messages are JSON: at most 16 KiB and 64 KiB, 16 levels deep. Store larger values elsewhere and"
        " keep a reference in the session."
    ),
    "InvalidPolicy": (
        "Limits are durations above zero, such as `30m`, or whole milliseconds. Use `None` to disable a limit, not 0."
    ),
    "InvalidSetting": (
        "`lastseen config validate` names every setting that is wrong and where it comes from;"
        " [Configuration](reference/configuration.md) and [Kafka addresses](reference/kafka-url.md) list what is valid."
    ),
    "SessionNotFound": (
        "No session lives under the key, or the id never existed. `open` returns the live session or begins one. If you"
        " expected a session, `lastseen history KEY` shows every record under that key."
    ),
    "SessionEnded": (
        "The session has ended and does not come back. The message says when and why as long as the history knows"
        " (`error.end`; over HTTP `ended`), and `explain` says which record ended it; `open` begins a new session under"
        " the same key. If it ended too early, see [Tune limits](how-to/limits.md)."
    ),
    "SessionExists": (
        "Use `open` to get the live session, or `rotate` to replace it in one step. If you passed a `session_id`, leave"
        " it out: an id is never used twice."
    ),
    "StaleSession": (
        "You named a session that is not the live one under this key: another caller has replaced it. Read it again"
        " with `get`, and continue with the new `session_id` or stop."
    ),
    "SessionSuspended": "Call `resume` first. A touch does not resume a suspended session.",
    "AlreadyDone": "The session is in the wanted state. It is safe to ignore this error in a retry.",
    "VersionConflict": (
        "Another caller changed the session after you read it. Read it again, decide again, and pass the new version."
    ),
    "TooManyHolders": (
        "16 leases are live. Give jobs of the same kind one holder name, or wait until a lease lapses; `show KEY` lists"
        " the holders. See [Background jobs](how-to/background-jobs.md)."
    ),
    "NotDue": "Nothing to do: the session stays live. Its deadline moved after the plan was made.",
    "SessionHeld": "A job holds the session. Wait for the job, or `close` the session, which ends it while held.",
    "ClockSkew": (
        "Synchronise the clock of the machine that sent the event, and that of the log: see"
        " [LastseenEventsVoidForSkew](runbooks/LastseenEventsVoidForSkew.md) and [Log time](concepts/log-time.md)."
    ),
    "NotOwner": (
        "The engine runs with `view=owned` and does not serve the key's partition. Call the engine at `address`, which"
        " the error and the HTTP problem carry; the HTTP clients do. Without an address, `owner` says why: no engine"
        " owns the partition at the moment, the owner is loading it, or is not known yet (ask again in a moment), or"
        " it gave no `address`. A client refuses an address that no rule of its own allows: see"
        " [Security](security.md#where-clients-send-their-tokens)."
    ),
    "LogUnavailable": (
        "Nothing was written, so try again. If the error persists, check whether the disk is full or read-only, another"
        " program locks the file, or the broker is unreachable: `lastseen doctor` checks each."
        " See [LastseenAppendsFail](runbooks/LastseenAppendsFail.md)."
    ),
    "EmitterFull": (
        "The log acknowledges more slowly than you emit. Emit less, raise `max_waiting_bytes`, or find out why the log"
        " is slow. See [Emitter](reference/emitter.md)."
    ),
    "NotDelivered": (
        "`failed` events are not in the log: emit them again if they still matter. `unknown` events may be in the log."
        " `waiting` events are still being sent: flush again."
    ),
    "LogCorrupt": (
        "Stop all writers and keep a copy of the file. Restore the log from a copy: see"
        " [Back up and restore](how-to/back-up.md). `lastseen verify` says what can be read."
    ),
    "UnsupportedLibrary": (
        "Install a version of the library that the message names; the extras of lastseen choose one. Do not pin another"
        " version."
    ),
    "LogTooNew": "Upgrade lastseen on this machine; a newer version has written the log.",
    "LogMismatch": (
        "The snapshot or history belongs to another log, or the log has lost records. If the log is the right one and"
        " the loss is accepted, delete the snapshot and the history file: both are rebuilt from the log."
    ),
    "NoGenesis": (
        "Each partition of a log begins with a genesis record, written by what makes the log. For a new topic, run"
        " `lastseen topics create`: run again, it completes a topic that was made in part or by other means. A log of"
        " format 1 has no such record: bring it into a new log with `lastseen log copy`. Where an import was"
        " interrupted, start it again. `lastseen doctor` names the partitions."
    ),
    "OutcomeUnknown": (
        "The command may have taken effect. Read the session before you repeat it. Commands that name a `session_id`"
        " are safe to repeat."
    ),
    "LogError": "See the errors below: each says whether your records were written.",
    "SnapshotError": (
        "The log and the reads are not affected. Free space or correct the permissions, and the next flush catches up."
        " A damaged snapshot can be deleted: it is rebuilt from the log."
    ),
    "ExportError": "Start the same export again: it continues where it stopped. Make a damaged export again.",
    "CannotListen": (
        "Another program uses the port, or the address is not one of this machine. Stop the other program, or choose"
        " `--port` and `--host`; `--port 0` takes a free port."
    ),
    "EngineClosed": (
        "The engine has shut down. Open another with `open_engine`; do not share one that a `with` block closes."
    ),
}
"""The name of an error → what to do about it. Classes that are only parents of other errors are left out."""
