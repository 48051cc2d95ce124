"""HTTP's phrases are those of RFC 9110 by every Python, and so is what is generated from them."""

from __future__ import annotations

import pytest

from lastseen.api.problems import Problem, document_of
from lastseen.api.status_phrases import phrase_of


@pytest.mark.parametrize(
    ("status", "phrase"),
    [
        (200, "OK"),
        (404, "Not Found"),
        (413, "Content Too Large"),
        (414, "URI Too Long"),
        (416, "Range Not Satisfiable"),
        (422, "Unprocessable Content"),
        (503, "Service Unavailable"),
    ],
)
def test_a_status_has_the_name_of_the_rfc(status: int, phrase: str) -> None:
    assert phrase_of(status) == phrase
    assert document_of(Problem(status, "slug", "detail")).title == phrase


def test_what_is_no_status_has_no_name() -> None:
    with pytest.raises(ValueError, match="799"):
        phrase_of(799)
