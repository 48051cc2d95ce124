"""Session keys: every person has one of their own, and every key satisfies the rules for keys."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from lastseen.engine.codec import check_key
from lastseen.replay.recording import session_key

PART = st.one_of(
    st.text(alphabet=st.sampled_from("a%:~0|\x00\x1f\x7f\x9f \ud800\udfff😀"), min_size=1, max_size=8),
    st.text(alphabet=st.sampled_from("x%"), min_size=500, max_size=520),
    st.text(min_size=1),
)
PERSON = st.tuples(PART, PART, PART)


def test_a_plain_name_is_spelt_out() -> None:
    assert session_key("irc", "#ubuntu", "|QuaD-") == "irc:#ubuntu:|QuaD-"


@given(PERSON)
@example(("irc", "#ubuntu", "\x00" * 10_000))
def test_every_key_is_in_form(person: tuple[str, str, str]) -> None:
    check_key(session_key(*person))


@given(PERSON, PERSON)
@example(("irc", "#a", "b:c"), ("irc", "#a:b", "c"))
@example(("irc", "#a", "%3A"), ("irc", "#a", ":"))
@example(("irc", "#a", "x" * 600), ("irc", "#a", "x" * 601))
def test_two_people_never_share_a_key(one: tuple[str, str, str], other: tuple[str, str, str]) -> None:
    assert (session_key(*one) == session_key(*other)) == (one == other)


@given(PERSON, PERSON)
@example(("irc", "#a", "x" * 600), ("irc", "#a", "x" * 600))
def test_no_name_can_take_the_key_of_one_that_was_too_long(
    long: tuple[str, str, str], other: tuple[str, str, str]
) -> None:
    # A name spelt like the shortened key of another.
    forged = session_key(*long).removeprefix(":".join(long[:2]) + ":")
    assert (session_key(long[0], long[1], forged) == session_key(*long)) == (forged == long[2])
    assert "%~" not in session_key(*(part[:20] for part in other))
