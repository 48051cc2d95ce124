"""What stands under the tables of sections whose modules say nothing themselves."""

from __future__ import annotations

NOTES = {
    "F": """
- One Kafka node on the same machine, which shares its cores with the clients. `send()` and librdkafka append the same
  bytes, header included, with acks=all and idempotence, 5 ms of linger and batches of 512 KiB; each acknowledgement is
  looked at.
""",
    "G": """
- The service's own application on uvicorn in a process of its own, with guard and limits, no tokens. The empty handler
  is one more route of it. Callers are 32 connections of another process (one connection for batches), which shares the
  cores.
""",
}
