"""Web sessions as Flask's own, by way of its test client."""

from __future__ import annotations

from typing import Any

import flask
import pytest

import lastseen
from lastseen.adapters.flask import FlaskSessions
from lastseen.adapters.web_sessions import WebSessions

SITE = "https://shop.test"
NAME = "__Host-session"


@pytest.fixture
def app(sessions: WebSessions) -> flask.Flask:
    app = flask.Flask(__name__)
    app.session_interface = FlaskSessions(sessions)

    @app.get("/")
    def show() -> dict[str, Any]:
        return {"user": flask.session.user, **flask.session}  # type: ignore[attr-defined]

    @app.post("/cart/<item>")
    def put(item: str) -> dict[str, Any]:
        flask.session.setdefault("cart", []).append(item)
        flask.flash("put")
        return {"is_new": flask.session.new}

    @app.post("/login/<user>")
    def login(user: str) -> str:
        flask.session.login(user)  # type: ignore[attr-defined]
        return ""

    @app.post("/logout")
    def logout() -> str:
        flask.session.logout()  # type: ignore[attr-defined]
        return ""

    return app


def cookie_of(browser: Any) -> str | None:
    found = browser.get_cookie(NAME, "shop.test")
    return None if found is None else found.value


def test_a_shopper_comes_and_goes(app: flask.Flask) -> None:
    with app.test_client() as browser:
        assert browser.get("/", base_url=SITE).json == {"user": None}
        assert cookie_of(browser) is None
        assert browser.post("/cart/tea", base_url=SITE).json == {"is_new": True}
        planted = cookie_of(browser)
        assert browser.post("/cart/milk", base_url=SITE).json == {"is_new": False}
        assert cookie_of(browser) == planted
        browser.post("/login/ana", base_url=SITE)
        assert cookie_of(browser) not in (planted, None)
        shown = browser.get("/", base_url=SITE).json
        assert (shown["user"], shown["cart"]) == ("ana", ["tea", "milk"])
        assert shown["_flashes"] == [["message", "put"]] * 2, "what Flask itself keeps"
        browser.post("/logout", base_url=SITE)
        assert cookie_of(browser) is None
        assert browser.get("/", base_url=SITE).json == {"user": None}


def test_the_cookie_is_secure_http_only_and_same_site(app: flask.Flask) -> None:
    with app.test_client() as browser:
        first = browser.post("/cart/tea", base_url=SITE)
        assert first.headers["Set-Cookie"].split("; ")[1:] == ["Path=/", "HttpOnly", "SameSite=Lax", "Secure"]
        assert first.headers["Cache-Control"] == "no-store"
        assert first.headers["Vary"] == "Cookie"
        second = browser.get("/", base_url=SITE)
        assert "Set-Cookie" not in second.headers
        assert second.headers["Vary"] == "Cookie"


def test_a_late_save_after_logout_never_revives(
    app: flask.Flask, engine: lastseen.Engine, sessions: WebSessions
) -> None:
    with app.test_client() as browser:
        browser.post("/cart/tea", base_url=SITE)
        token = cookie_of(browser)
        late = sessions.find(token)
        browser.post("/logout", base_url=SITE)
        late["cart"] = ["late"]
        sessions.save(late, token)
    assert engine.count() == 0


def test_a_cookie_that_opens_nothing_is_taken_away(app: flask.Flask) -> None:
    with app.test_client() as browser:
        browser.set_cookie(NAME, "a.b", domain="shop.test", secure=True)
        answer = browser.get("/", base_url=SITE)
        assert answer.headers["Set-Cookie"].startswith(f"{NAME}=; Max-Age=0; Path=/")
