"""The paths of probes."""

from __future__ import annotations

PROBES = frozenset(["/livez", "/readyz"])
"""They need no token. They are answered under load too, and for any `Host`: orchestrators and load balancers send the
address of a pod, a name of their own, or none."""
