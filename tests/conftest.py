"""Settings that every test shares."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

pytest_plugins = ["kafka_fixtures"]

settings.register_profile(
    "lastseen",
    deadline=None,  # Colleagues' machines differ; what is too slow is a benchmark's business.
    database=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
settings.load_profile("lastseen")
