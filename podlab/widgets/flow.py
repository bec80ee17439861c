"""Requests on their way from a client through a Service to pods, with each pod's share. Pure: model and picture.

What it shows is what a client in the cluster recorded (who answered which request), beside what the Service says of
its endpoints at that time. A pod that gets requests without being a ready endpoint is marked: that should not be.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from podlab.widgets.drawing import BLUE, GREY, INK, ORANGE, VERMILLION, Page

#: Pods that a picture has room for; the others are told together. Moments of one that is watched: two hours.
MOST_PODS, MOST_MOMENTS = 12, 7200


@dataclass(frozen=True)
class Moment:
    """A span of requests: who answered how many, what failed and how, and which pods were ready endpoints then."""

    at: float
    answered: Mapping[str, int]
    failed: int = 0
    why: str = ""
    ready: tuple[str, ...] = ()
    not_ready: tuple[str, ...] = ()


@dataclass
class Flow:
    """Moments in order, each for about a second of requests."""

    moments: list[Moment] = field(default_factory=list)
    #: Earlier ones that are kept no more; positions count them.
    forgotten: int = 0

    def window(self, position: int, width: int) -> Moment:
        """The moments up to `position`, `width` of them, added up; endpoints as at the last of them."""
        position -= self.forgotten
        part = self.moments[max(0, position - width) : max(0, position)]
        if not part:
            return Moment(0.0, {})
        answered = sum((Counter(each.answered) for each in part), Counter())
        why = Counter(each.why for each in part if each.why).most_common(1)
        last = part[-1]
        return Moment(
            last.at,
            dict(answered),
            sum(each.failed for each in part),
            why[0][0] if why else "",
            last.ready,
            last.not_ready,
        )

    def add(self, moment: Moment) -> None:
        """Put a moment at the end; without room for so many the first goes."""
        self.moments.append(moment)
        if len(self.moments) > MOST_MOMENTS:
            del self.moments[0]
            self.forgotten += 1

    def dump(self) -> list[dict[str, Any]]:
        """The moments as plain values; `load` reads them."""
        return [asdict(each) for each in self.moments]

    @classmethod
    def load(cls, rows: Sequence[Mapping[str, Any]]) -> Flow:
        """A flow from what `dump` gave."""
        return cls(
            [
                Moment(**{**row, "ready": tuple(row.get("ready", ())), "not_ready": tuple(row.get("not_ready", ()))})
                for row in rows
            ]
        )


def pods_of(moment: Moment) -> list[str]:
    """Every pod that has to do with the moment, by name."""
    return sorted({*moment.answered, *moment.ready, *moment.not_ready} - {""})


def state_of(moment: Moment, pod: str) -> str:
    """What the Service says of a pod: ready, not ready, or no endpoint."""
    return "ready" if pod in moment.ready else "not ready" if pod in moment.not_ready else "no endpoint"


def rows(moment: Moment) -> list[list[str]]:
    """Pod, what the Service says of it, requests answered, share."""
    total = sum(moment.answered.values()) + moment.failed
    return [
        [pod, state_of(moment, pod), str(moment.answered.get(pod, 0)), _share(moment.answered.get(pod, 0), total)]
        for pod in pods_of(moment)
    ] + ([["nobody", moment.why, str(moment.failed), _share(moment.failed, total)]] if moment.failed else [])


def _share(part: int, total: int) -> str:
    return f"{100 * part / total:.0f} %" if total else ""


def summary(moment: Moment) -> str:
    """The moment in one sentence."""
    total = sum(moment.answered.values()) + moment.failed
    if not total:
        return f"no request; {len(moment.ready)} ready endpoints"
    shares = ", ".join(f"{row[0]} {row[3]}" for row in rows(moment)[:MOST_PODS])
    return f"{total} requests, {moment.failed} failed; {len(moment.ready)} ready endpoints; {shares}"


def picture(title: str, service: str, moment: Moment) -> str:
    """Client, Service, pods, and a bar for each pod's share, as SVG."""
    pods = pods_of(moment)[:MOST_PODS]
    total = sum(moment.answered.values()) + moment.failed
    high, top = 30, 46
    rows_high = max(2, len(pods) + bool(moment.failed)) * high
    middle = top + rows_high / 2
    page = Page()
    page.text(8, 18, title, size=13, weight=600)
    page.text(600, 32, "share", size=11, anchor="end")
    _box(page, 8, middle - 18, 74, "client", f"{total} sent")
    _box(page, 140, middle - 18, 112, service, f"{len(moment.ready)} ready")
    page.line(82, middle, 140, middle, stroke=INK, stroke_width=2)
    for index, pod in enumerate(pods):
        y = top + index * high + high / 2
        count, state = moment.answered.get(pod, 0), state_of(moment, pod)
        wide = 1 + 7 * count / total if total else 1
        _way(page, 252, middle, 300, y, wide, state if count else "none")
        sign = {"ready": "●", "not ready": "◍", "no endpoint": "✕"}[state]
        dashes = {} if state == "ready" else {"stroke_dasharray": "4 2"}
        page.rect(300, y - 11, 170, 22, title=f"{pod}: {state}", fill="none", stroke=INK, **dashes)
        page.text(306, y + 4, f"{sign} {pod if len(pod) <= 24 else '…' + pod[-23:]}", size=11)
        strange = count and state != "ready"
        page.rect(478, y - 8, 120 * count / total if total else 0, 16, fill=VERMILLION if strange else BLUE, stroke=INK)
        page.text(604, y + 4, f"{count} ({_share(count, total) or '0 %'})", size=11)
    if moment.failed:
        y = top + len(pods) * high + high / 2
        # All of it is in the table; here it ends before the bar.
        why = moment.why if len(moment.why) <= 17 else f"{moment.why[:16]}…"
        page.text(300, y + 4, f"✕ nobody: {why}", size=11)
        page.rect(478, y - 8, 120 * moment.failed / total, 16, fill=ORANGE, stroke=INK, stroke_dasharray="4 2")
        page.text(604, y + 4, f"{moment.failed} ({_share(moment.failed, total)})", size=11)
    bottom = top + rows_high + 20
    page.text(8, bottom, "● ready endpoint   ◍ not ready   ✕ no endpoint", size=11)
    return page.document(bottom + 10, f"{title}: {summary(moment)}")


def _box(page: Page, x: float, y: float, width: float, first: str, second: str) -> None:
    page.rect(x, y, width, 36, fill="none", stroke=INK, stroke_width=2)
    page.text(x + width / 2, y + 15, first[:16], size=12, anchor="middle", weight=600)
    page.text(x + width / 2, y + 30, second, size=11, anchor="middle")


def _way(page: Page, x1: float, y1: float, x2: float, y2: float, wide: float, state: str) -> None:
    colour = {"ready": BLUE, "none": GREY}.get(state, VERMILLION)
    dashes = {"stroke_dasharray": "4 3"} if state == "none" else {}
    page.line(x1, y1, x2, y2, stroke=colour, stroke_width=round(wide, 1), **dashes)
