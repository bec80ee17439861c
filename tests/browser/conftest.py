"""A real browser (Debian's chromium) on a page of our own; nothing is fetched from anywhere."""

from __future__ import annotations

import json

import pytest

from podlab.widgets import news

PAGE = """<!doctype html><html lang="en" data-theme="THEME"><head><title>Widget</title><style>CSS
html[data-theme=dark] { --jp-layout-color1: #111111; --jp-content-font-color1: #f0f0f0; --jp-border-color1: #777; }
body { background: var(--jp-layout-color1, #fff); color: var(--jp-content-font-color1, #000); }</style></head>
<body><main><h1>Widget</h1><div id="here"></div></main>
<script type="module">
import widget from "/SCRIPT";
const listeners = [];
window.sent = [];
window.view = VIEW;
const fake = { get: () => window.view, on: (_, call) => listeners.push(call), off: () => { window.off = true; },
  send: (message) => { if (window.fail) throw new Error("Cannot send"); window.sent.push(message); } };
window.update = (view) => { window.view = view; listeners.forEach((call) => call()); };
const ender = new AbortController();
window.end = () => ender.abort();
widget.render({ model: fake, el: document.getElementById("here"), signal: ender.signal });
window.drawn = true;
</script></body></html>"""


@pytest.fixture
def open_page(browser):
    """open_page("stairs.js", view): a page with one view on it, the messages that it sends in window.sent.

    On a `frozen` one no time passes but by page.clock.run_for. `more` goes to the browser, such as reduced_motion.
    """
    contexts = []

    def show(script, view, theme="light", css="cluster_map.css", frozen=False, **more):
        context = browser.new_context(**more)
        contexts.append(context)
        page = context.new_page()
        page.problems = []
        page.on("console", lambda message: page.problems.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: page.problems.append(str(error)))
        text = PAGE.replace("CSS", news.style(css)).replace("SCRIPT", script)
        text = text.replace("THEME", theme).replace("VIEW", json.dumps(view))
        files = {"": ("text/html", text), script: ("text/javascript", news.script(script))}

        def serve(route):
            name = route.request.url.rsplit("/", 1)[-1]
            if name in files:
                route.fulfill(content_type=f"{files[name][0]}; charset=utf-8", body=files[name][1])
            else:
                route.fulfill(status=204, body="")

        page.route("**/*", serve)
        if frozen:
            page.clock.install(time="2026-01-01")
            page.clock.pause_at("2026-01-02")
        page.goto("http://widget.test/")
        page.wait_for_function("window.drawn === true")
        return page

    yield show
    for context in contexts:
        context.close()
