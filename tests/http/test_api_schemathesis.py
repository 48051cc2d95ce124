"""The service against its own description: generated requests, valid and not, one by one and in chains."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test
from schemathesis import Case, Response
from schemathesis.config import SchemathesisConfig
from schemathesis.specs.openapi.checks import ignored_auth, positive_data_acceptance
from served import Served

import lastseen
from lastseen.http.application import build

EXAMPLES = 12
"""Requests for each operation."""
QUICK = settings(
    max_examples=EXAMPLES, deadline=None, derandomize=True, phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck), database=None,
)  # fmt: skip
CONFIG = {
    "checks": {
        # 503 and 504 are documented answers, with the time at which to try again; 500 is none that is ever right.
        "not_a_server_error": {"expected-statuses": ["2xx", "3xx", "4xx", "503", "504"]},
        "positive_data_acceptance": {
            "expected-statuses": ["2xx", "3xx", "401", "403", "404", "409", "410", "412", "429", "503", "504"]
        },
    }
}
BEYOND_SCHEMAS = ("/problems/idempotency-key-reused", "/problems/invalid-event")
"""Refusals of requests that fit the schema: for what came before, or for what no schema can say."""
BEYOND_EACH_FIELD = ("cursor = ", "give either sessions, or a filter", "owner and prefix are missing", "owner: it ")
"""How the details of other such refusals begin: each field fits, and not all of them together."""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """One server for all requests."""
    patch = pytest.MonkeyPatch()
    patch.setattr("lastseen.http.worker_threads.POSITION_WAIT_S", 0.01)
    patch.setattr("lastseen.http.routes.operations.MAX_RUNNING", 50)
    folder: Path = tmp_path_factory.mktemp("schemathesis")
    with lastseen.open_engine(f"sqlite:///{folder / 'log.db'}") as engine, Served(engine) as served:
        with served.client() as client:
            engine.open("first")
            client.post("/v1/sessions/first/touch")
            # Opens the connection by which the session before is read, once for all requests.
            engine.create("again")
            engine.close("again")
            engine.flush()
            assert engine.create("again").previous is not None
        yield served
    patch.undo()


def described() -> dict[str, Any]:
    """The description, without the stream, which has no end."""
    with lastseen.open_engine("memory://", background=False) as engine:
        found: dict[str, Any] = build(engine).openapi()
    del found["paths"]["/v1/events/stream"]
    return found


schema = schemathesis.openapi.from_dict(described(), config=SchemathesisConfig.from_dict(CONFIG))


def check(case: Case, answer: Response) -> None:
    """All checks there are, but for those that cannot hold."""
    # Without tokens no caller is refused; the guard's own tests cover that.
    excluded: list[Any] = [ignored_auth]
    if answer.status_code == 422:
        problem = answer.json()
        if problem["type"] in BEYOND_SCHEMAS or problem["detail"].startswith(BEYOND_EACH_FIELD):
            excluded.append(positive_data_acceptance)
    case.validate_response(answer, excluded_checks=excluded)


@schema.parametrize()
@QUICK
def test_every_answer_is_as_described(case: Case, place: Served) -> None:
    check(case, case.call(base_url=place.address))


def test_chains_of_requests_are_answered_as_described(place: Served) -> None:
    class Chains(schema.as_state_machine()):  # type: ignore[misc]
        """Follows the links: what one answer names, the next request is about. Each chain has a service of its own."""

        def setup(self) -> None:
            super().setup()
            self.engine = lastseen.open_engine("memory://", background=False)
            self.served = Served(self.engine).__enter__()

        def teardown(self) -> None:
            super().teardown()
            self.served.stop()
            self.engine.shutdown()

        def get_call_kwargs(self, case: Case) -> dict[str, Any]:  # noqa: ARG002
            return {"base_url": self.served.address}

        def validate_response(self, response: Response, case: Case, **_: Any) -> None:
            check(case, response)

    run_state_machine_as_test(
        Chains, settings=settings(QUICK, max_examples=8, stateful_step_count=5, phases=[Phase.generate])
    )
