"""`kubectl port-forward` as a learner uses it, and the pages behind it as a browser fetches them."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def forwarded(command: Sequence[str], **environment: str) -> Iterator[str]:
    """The address at which a `kubectl port-forward` answers while it runs."""
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=os.environ | environment
    ) as process:
        try:
            assert process.stdout
            line = process.stdout.readline()
            match = re.match(r"Forwarding from (127\.0\.0\.1:\d+) ->", line)
            assert match, line
            yield f"http://{match[1]}"
        finally:
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=240)


def as_told(words: str, kubectl: Path, kubeconfig: Path) -> list[str]:
    """The command that a learner is told, for this kubectl, its cluster, and whatever port is free here."""
    _before, kubectl_, after = words.partition("kubectl ")
    assert kubectl_ and "port-forward" in after, words
    *rest, port = after.split("#")[0].split()
    return [str(kubectl), "--kubeconfig", str(kubeconfig), *rest, f":{port}"]


def page(url: str) -> str:
    """The text of a page, whose scripts and styles can all be had, and are what they are called."""
    text, kind = _fetch(url)
    assert kind == "text/html", kind
    named = re.findall(r'<(?:script|link)\b[^>]*?\b(?:src|href)="([^"]+\.(?:js|css))"', text)
    for one in named:
        _, kind = _fetch(urllib.parse.urljoin(url, one))
        assert kind == ("text/css" if one.endswith(".css") else "text/javascript"), (one, kind)
    return text


def _fetch(url: str) -> tuple[str, str]:
    with urllib.request.urlopen(url, timeout=240) as answer:
        kind = answer.headers.get_content_type().replace("application/javascript", "text/javascript")
        return answer.read().decode(), kind
