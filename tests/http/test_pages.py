"""`/` and `/docs`: where a person begins, without a script and without anything from elsewhere."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest
from served import Served

from lastseen import Engine
from lastseen.http.api_page import api_page
from lastseen.http.guard.guard import guard
from lastseen.http.routes import health, metrics


@pytest.fixture
def served(engine: Engine) -> Served:
    """The application with its guard and its health, behind a server."""
    return Served(engine, guard=guard(host="127.0.0.1"), operations=[health.router(engine), metrics.router(engine)])


class Page(HTMLParser):
    """The tags of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.tags: list[str] = []
        self.ids: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            assert name != "style", "the policy forbids it"
            assert not name.startswith("on"), "the policy forbids it"
            if name in ("href", "src") and value:
                self.links.append(value)
            if name == "id" and value:
                self.ids.append(value)


def test_the_root_leads_everywhere(served: Served) -> None:
    with served, served.client() as client:
        page = client.get("/", headers={"Accept": "text/html,*/*"})
        links = [link for link in Page(page.text).links if "stream" not in link]
        assert {"/docs", "/openapi.json", "/livez", "/docs/style.css"} <= set(links)
        assert list(client.get("/").json()["links"]) == [link for link in Page(page.text).links if "style" not in link]
        for link in links:
            assert client.get(link).status_code == 200, link


def test_docs_have_every_operation_and_lead_nowhere_else(served: Served) -> None:
    with served, served.client() as client:
        answer = client.get("/docs")
        page, described = Page(answer.text), client.get("/openapi.json").json()
        operations = [each["operationId"] for methods in described["paths"].values() for each in methods.values()]
        assert len(operations) > 20
        assert set(operations) <= set(page.ids)
        for path in described["paths"]:
            assert path in answer.text
        assert {link for link in page.links if not link.startswith("#")} == {"/openapi.json", "/docs/style.css"}
        assert {link[1:] for link in page.links if link.startswith("#")} == set(page.ids)
        assert "script" not in page.tags
        assert client.head("/docs").content == b""


@pytest.mark.parametrize("path", ["/", "/docs", "/docs/style.css"])
def test_the_policy_allows_what_the_page_needs_and_no_more(served: Served, path: str) -> None:
    with served, served.client() as client:
        answer = client.get(path, headers={"Accept": "text/html"})
        policy = answer.headers["content-security-policy"]
        assert policy == (
            "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        )
        assert not re.search(r"https?://", answer.text)
        assert answer.headers["x-content-type-options"] == "nosniff"


def test_with_tokens_they_need_one_as_every_path(engine: Engine, tmp_path: object) -> None:
    from lastseen import ANY
    from lastseen.auth.token_file import TokenFile

    file = f"{tmp_path}/tokens.json"
    secret, _ = TokenFile(file).create("reader", ["read"], ANY, 0)
    with Served(engine, guard=guard(host="127.0.0.1", token_file=file)) as served, served.client() as client:
        for path in ("/", "/docs", "/docs/style.css"):
            assert client.get(path).status_code == 401
            assert client.get(path, headers={"Authorization": f"Bearer {secret}"}).status_code == 200


def test_what_a_description_says_is_text() -> None:
    described = {
        "info": {"version": "<b>", "description": "a `<i>` & <script>"},
        "paths": {
            "/<x>": {
                "get": {"operationId": "a", "summary": "<u>", "responses": {"200": {"description": "<s>"}}},
            }
        },
    }
    page = Page(text := api_page(described))
    assert not {"b", "i", "u", "s", "x", "script"} & set(page.tags)
    assert "<code>&lt;i&gt;</code> &amp; &lt;script&gt;" in text
