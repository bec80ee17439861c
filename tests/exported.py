"""An executed notebook as a page and on paper: as nbconvert exports it, opened in a browser without any network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nbconvert.exporters import HTMLExporter

#: What nbconvert's own page asks for from elsewhere; a lesson has all that it shows without it.
NOT_OURS = "https://cdnjs.cloudflare.com/"
#: Pixels between the margins (1 cm) of a page of A4.
PAPER = 718

#: Pictures that are not there, or say nothing to those who do not see them: nbconvert gives these words of its own.
PICTURES = """[...document.images]
  .filter(e => !e.naturalWidth || !e.alt.trim() || e.alt.startsWith("No description has been provided"))
  .map(e => `a picture without words, or words without a picture: ${e.outerHTML.slice(0, 200)}`)"""
#: What nbconvert colours and marks (prompts, code, links in the text) is not ours; outputs are.
AXE = """async () => (await axe.run({ include: [[".jp-OutputArea-output"]] })).violations
  .filter(one => ["serious", "critical"].includes(one.impact))
  .map(one => `axe: ${one.id}: ${one.nodes[0].html}`)"""
#: What is wider than its place on paper, where nobody can scroll.
CUT = """[...document.querySelectorAll("html, .jp-Cell *")]
  .filter(e => e.clientWidth > 0 && e.scrollWidth > e.clientWidth + 1 && getComputedStyle(e).overflowX !== "visible")
  .map(e => `cut off on paper: ${e.className}: ${e.textContent.trim().slice(0, 80)}`)"""


def troubles(browser: Any, axe: str, notebook: Path) -> list[str]:
    """What is wrong with the page of an executed notebook, each with what it is and where."""
    text, _ = HTMLExporter().from_filename(str(notebook))
    found: list[str] = []

    def said(message: Any) -> None:
        if message.type == "error" and not message.location["url"].startswith(NOT_OURS):
            found.append(f"the console: {message.text}")

    def served(route: Any) -> None:
        url = route.request.url
        if url == "http://page.test/":
            route.fulfill(content_type="text/html; charset=utf-8", body=text)
            return
        if not url.startswith((NOT_OURS, "http://page.test/favicon")):
            found.append(f"asks for {url}")
        route.abort()

    context = browser.new_context(viewport={"width": 1100, "height": 900})
    try:
        page = context.new_page()
        page.on("console", said)
        page.on("pageerror", lambda error: found.append(f"a script: {error}"))
        page.route("**/*", served)
        page.goto("http://page.test/")
        found += page.evaluate(PICTURES)
        page.add_script_tag(content=axe)
        found += page.evaluate(AXE)
        page.set_viewport_size({"width": PAPER, "height": 1000})
        page.emulate_media(media="print")
        found += page.evaluate(CUT)
    finally:
        context.close()
    return found
