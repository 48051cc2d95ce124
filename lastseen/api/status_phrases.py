"""What HTTP calls each status: the names of RFC 9110, whichever Python runs.

`http.HTTPStatus` has the names of RFC 7231 before Python 3.13 and those of RFC 9110 since. Titles of problems and
the generated description of the API would change with the interpreter.
"""

from __future__ import annotations

from http import HTTPStatus

_RENAMED = {
    413: "Content Too Large",
    414: "URI Too Long",
    416: "Range Not Satisfiable",
    422: "Unprocessable Content",
}


def phrase_of(status: int) -> str:
    """The reason phrase of a status (RFC 9110, section 15). Raises `ValueError` for one that HTTP does not have."""
    return _RENAMED.get(status) or HTTPStatus(status).phrase
