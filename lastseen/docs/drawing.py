"""Boxes, arrows and words as SVG: what the pictures of the documentation are drawn with.

A picture is read in the repository, where it has its own colours for light and dark, and on the site, where it stands
in the page and takes the page's colours. So it names its colours by variables, and every text in it stays text.
"""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from typing import Literal

_STYLE = """\
svg.drawing{--ink:#1f2328;--soft:#59636e;--fill:#f6f8fa;--accent:#4051b5;--bad:#b3261e;--good:#1a7f37}
@media(prefers-color-scheme:dark){svg.drawing{--ink:#e6edf3;--soft:#9198a1;--fill:#212830;--accent:#9fa8ff;--bad:#f28b82;--good:#81c995}}
svg.drawing text{fill:var(--ink);font:15px system-ui,sans-serif}
svg.drawing .soft{fill:var(--soft);font-size:13px}
svg.drawing .strong{font-weight:700}
svg.drawing .code{font-family:ui-monospace,monospace;font-size:13px}
svg.drawing .bad{fill:var(--bad)}
svg.drawing .good{fill:var(--good)}
svg.drawing .line{fill:none;stroke:var(--ink);stroke-width:1.5}
svg.drawing .dashed{stroke-dasharray:5 4}
svg.drawing .accent{stroke:var(--accent);stroke-width:2}
svg.drawing .box{fill:var(--fill);stroke:var(--ink);stroke-width:1.5}
svg.drawing .head{fill:var(--ink);stroke:none}
svg.drawing .area{fill:var(--accent);fill-opacity:.14;stroke:none}"""

Anchor = Literal["start", "middle", "end"]
LINE_PX = 18
"""From one line of text to the next."""


class Drawing:
    """One picture. Places are in pixels from its upper left corner, `y` downwards; the last thing drawn lies on top."""

    def __init__(self, width: int, height: int, name: str) -> None:
        self._size, self._name = (width, height), name
        self._parts: list[str] = []

    def box(self, x: float, y: float, width: float, height: float, *lines: str, style: str = "") -> None:
        """A box with lines of text in its middle, the first of them strong."""
        self._parts.append(
            f'<rect class="box {style}" x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="6"/>'.replace(
                ' "', '"'
            )
        )
        top = y + height / 2 - (len(lines) - 1) * LINE_PX / 2 + 5
        for number, line in enumerate(lines):
            self.text(
                x + width / 2, top + number * LINE_PX, line, anchor="middle", style="soft" if number else "strong"
            )

    def text(self, x: float, y: float, words: str, *, anchor: Anchor = "start", style: str = "") -> None:
        """One line of text whose baseline is at `y`."""
        marks = f' class="{style}"' if style else ""
        place = "" if anchor == "start" else f' text-anchor="{anchor}"'
        self._parts.append(f'<text x="{x:g}" y="{y:g}"{marks}{place}>{escape(words, quote=False)}</text>')

    def texts(self, x: float, y: float, lines: Iterable[str], *, anchor: Anchor = "start", style: str = "soft") -> None:
        """Lines of text below each other; the first has its baseline at `y`."""
        for number, line in enumerate(lines):
            self.text(x, y + number * LINE_PX, line, anchor=anchor, style=style)

    def line(self, path: str, *, style: str = "") -> None:
        """A line along an SVG path."""
        self._parts.append(f'<path class="{" ".join(["line", *style.split()])}" d="{path}"/>')

    def arrow(self, path: str, x: float, y: float, to: Literal["up", "down", "left", "right"], style: str = "") -> None:
        """A line along an SVG path that ends at a place, with a head that points one way."""
        self.line(path, style=style)
        ahead = {"up": (0, -1), "down": (0, 1), "left": (-1, 0), "right": (1, 0)}[to]
        back_x, back_y = x - 9 * ahead[0], y - 9 * ahead[1]
        side_x, side_y = 4.5 * ahead[1], 4.5 * ahead[0]
        self._parts.append(
            f'<path class="head" d="M{x:g} {y:g}L{back_x + side_x:g} {back_y + side_y:g}'
            f'L{back_x - side_x:g} {back_y - side_y:g}z"/>'
        )

    def dot(self, x: float, y: float, radius: float = 5) -> None:
        """A full circle."""
        self._parts.append(f'<circle class="head" cx="{x:g}" cy="{y:g}" r="{radius:g}"/>')

    def area(self, x: float, y: float, width: float, height: float) -> None:
        """A coloured area behind what is drawn after it."""
        self._parts.append(f'<rect class="area" x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}"/>')

    def svg(self) -> str:
        """The picture as a file."""
        width, height = self._size
        inside = "\n".join(self._parts)
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" class="drawing" viewBox="0 0 {width} {height}" '
            f'width="{width}" height="{height}">\n<title>{escape(self._name)}</title>\n'
            f"<style>{_STYLE}</style>\n{inside}\n</svg>\n"
        )
