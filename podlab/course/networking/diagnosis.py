"""Exercise 16.2: find out why nobody answers, from what the API says, and mend it; six sites, other ones per seed."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

from podlab.checks.api import ApiError, Object
from podlab.checks.contract import Answer, CheckFunction, Exercise, HandIn, Hint, Inconclusive
from podlab.checks.traffic import Client, Window
from podlab.checks.world import Room, World
from podlab.course import workload
from podlab.course.moments import visited
from podlab.course.networking.sites import LESSON, deployment, names, page
from podlab.course.plain import Problem, called, judged
from podlab.course.scenes import once

NAME = "find_fault"
TEAM = {"team": "movies"}
PARTS = ("search", "ratings", "posters", "reviews", "trailers", "lists", "awards", "cinemas", "people", "news")
#: The faults by the word that the learner has for them.
WORDS = {"typo": "selector", "wide": "selector", "number": "port", "misnamed": "port", "asleep": "pods", "well": "none"}


@dataclass(frozen=True)
class Site:
    """A part with its Service, and what is wrong with it: a key of WORDS."""

    name: str
    fault: str
    service: Object

    @property
    def pods(self) -> Object:
        """Its Deployment; one that is asleep is asked for a page that it does not have."""
        labels = {"app": self.name, **TEAM}
        return deployment(self.name, labels, 1, ready_page="/nothing" if self.fault == "asleep" else "/readyz")


def sites(seed: int) -> list[Site]:
    """The six sites of a seed: names, order, and what exactly is wrong differ."""
    dice = random.Random(f"sites {seed}")
    parts = dice.sample(PARTS, len(WORDS))
    faults = dice.sample(sorted(WORDS), len(WORDS))
    return [Site(name, fault, _service(name, fault, dice)) for name, fault in zip(parts, faults, strict=True)]


def _service(name: str, fault: str, dice: random.Random) -> Object:
    spec: dict[str, Any] = {"selector": {"app": name}, "ports": [{"port": 80, "targetPort": "web"}]}
    if fault == "typo":
        where = dice.randrange(len(name) - 1)
        spec["selector"] = dice.choice(
            [{"app": name[:where] + name[where + 1 :]}, {"app": name, "tier": "web"}, {"App": name}]
        )
    elif fault == "wide":
        spec["selector"] = dict(TEAM)
    elif fault == "number":
        spec["ports"] = [{"port": 80, "targetPort": dice.choice([80, 8008, 8081, 9090])}]
    elif fault == "misnamed":
        spec["ports"] = [{"port": 80, "targetPort": dice.choice(["http", "webs", "api"])}]
    elif fault == "well":
        spec["ports"] = [{"port": 80, "targetPort": 8080}]
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec}


def practice(seed: int) -> str:
    """The sites of a seed as YAML, to be applied in the lab."""
    return yaml.safe_dump_all([item for site in sites(seed) for item in (site.pods, site.service)], sort_keys=False)


@dataclass
class Scene:
    """The sites in one room, what a client saw of each, what the learner's function said, and what came of it."""

    room: Room
    world: World
    source: str
    client: Client
    sites: dict[str, Site]
    before: dict[str, Window] = field(default_factory=dict)
    said: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    after: dict[str, Window] = field(default_factory=dict)


def stage(answer: Answer, world: World) -> Scene:
    """Put the sites up, and see that each is as it was meant to be."""
    found = {site.fault: site for site in sites(world.seed)}
    objects = [item for site in found.values() for item in (site.pods, site.service)]
    room = world.room("faults", [*workload.objects(), *objects])
    scene = Scene(room, world, answer[NAME], room.client(), found)

    def there() -> bool:
        return len(room.ready()) == len(found) - 1 and len(room.live()) == len(found)

    if not room.eventually(there, "our pods", 90):
        raise Inconclusive(f"the sites that the check puts up are not ready: {room.states()}")

    def bitten() -> bool:
        scene.before = {fault: _visit(scene, site) for fault, site in found.items()}
        answered = {fault: any(record.ok for record in window.records) for fault, window in scene.before.items()}
        alone = set(scene.before["wide"].share()) <= _own(scene, found["wide"])
        known = evident({fault: room.slices(site.name) for fault, site in found.items()})
        return answered == {fault: fault in ("well", "wide") for fault in WORDS} and not alone and known

    if not room.eventually(bitten, "the faults showing", 60, interval=1):
        raise Inconclusive(
            "the faults do not show: " + "; ".join(f"{k} {w.summary()}" for k, w in scene.before.items())
        )
    return scene


def _visit(scene: Scene, site: Site) -> Window:
    # Only a site that leads to many needs more than a few requests.
    return scene.client.visit(page(scene.room, site.name), 30 if site.fault == "wide" else 4, patience=3)


def evident(slices: Mapping[str, list[Object]]) -> bool:
    """Whether the EndpointSlices, by fault, show what is wrong: only a selector that fits nothing has no endpoint.

    Nobody answers for a pod that has not begun, either, and until then its Service looks like such a one.
    """
    return all(any(each.get("endpoints") for each in found) for fault, found in slices.items() if fault != "typo")


def _own(scene: Scene, site: Site) -> set[str]:
    return names([pod for pod in scene.room.live() if pod["metadata"]["labels"].get("app") == site.name])


@once
def play(scene: Scene) -> None:
    """The episode: the learner's function looks at each site, what it says is applied, and the client asks again."""
    pods = [_plain(pod) for pod in scene.room.live()]
    calls = []
    for site in scene.sites.values():
        service = scene.room.api.get("Service", site.name, scene.room.namespace)
        calls.append([service, pods, scene.room.slices(site.name)])
    found = called(scene.world, scene.source, NAME, calls)
    for fault, each in zip(scene.sites, found, strict=True):
        said = each.value
        scene.said[fault] = said if isinstance(said, dict) else {"fault": said}
        _mend(scene, fault)
    for fault, site in scene.sites.items():
        own = _own(scene, site)

        def mended(fault: str = fault, site: Site = site, own: set[str] = own) -> bool:
            scene.after[fault] = _visit(scene, site)
            return not scene.after[fault].failed and set(scene.after[fault].share()) <= own

        wanted = WORDS[fault] != "pods" and scene.said[fault].get("fault") == WORDS[fault]
        if not wanted or not scene.room.eventually(mended, "an answer after the mending", 15):
            mended()


def _mend(scene: Scene, fault: str) -> None:
    """Apply the changes that the function asks for, as the learner; the API's refusal is kept."""
    change = scene.said[fault].get("change")
    if not change:
        return
    if not isinstance(change, dict):
        scene.refused[fault] = f"a change is a dictionary, not {change!r}"[:200]
        return
    name = scene.sites[fault].name
    path = f"/api/v1/namespaces/{scene.room.namespace}/services/{name}"
    # Selector and ports are replaced as a whole, so that what is wrong does not stay beside what is right.
    patch = [{"op": "replace", "path": f"/spec/{key}", "value": value} for key, value in change.items()]
    try:
        scene.room.learner.request("PATCH", path, body=patch, content_type="application/json-patch+json")
    except ApiError as error:
        scene.refused[fault] = error.message


def _plain(pod: Object) -> Object:
    """A pod without what is of no use here and long."""
    meta = {key: value for key, value in pod["metadata"].items() if key != "managedFields"}
    return {**pod, "metadata": meta}


EXERCISE = Exercise(
    id="16.2",
    title="Why does nobody answer?",
    points=10,
    handed_in=(HandIn(NAME, "function"),),
    stage=stage,
    lesson=f"{LESSON}#A-Service-that-leads-nowhere",
    hints=(
        Hint(
            "A Service without any endpoint and one whose endpoints are not ready: whose fault is the one, whose the "
            "other? Look at conditions.ready of each endpoint.",
            lambda situation: situation.failed("asleep"),
        ),
        Hint(
            "A Service may reach too many pods. How many apps are behind this one? Each endpoint has a targetRef.",
            lambda situation: situation.failed("wide"),
        ),
        Hint(
            "A port with a name is looked up in each pod. What becomes of the endpoints' ports where a pod has no port "
            "of that name?",
            lambda situation: situation.failed("misnamed"),
        ),
        Hint("lab.apply(practice(lab.seed)) puts six sites up. Which of them answer to lab.visitor().visit(...)?"),
        Hint("Which of the three arguments says what the Service asks for, which what there is, which what was found?"),
        Hint("In which order do you rule things out: no pod selected, pod not ready, wrong port?"),
    ),
    debrief=(
        "A Service never fails loudly: the API accepts a selector that fits nothing, and a client sees a refused "
        "connection. The evidence is in between, in the EndpointSlice: no endpoint means selector, endpoints that are "
        "not ready mean pods, ready endpoints at a port where nobody listens mean targetPort, and too many endpoints "
        "mean a selector that is too wide. The same three looks, in the same order, find it by hand: "
        "kubectl get endpointslices, kubectl get pods --show-labels, kubectl describe service."
    ),
)


def verdict(scene: Scene, fault: str) -> str | Problem:
    """What the function made of one site."""
    play(scene)
    site, said = scene.sites[fault], scene.said[fault]
    was = f"Service {site.name} (before: {scene.before[fault].summary()})"
    if said.get("fault") != WORDS[fault]:
        return Problem(
            f"{was}: {NAME} says {said.get('fault')!r}",
            EVIDENCE[fault],
            f"What does lab.get('endpointslices') show of such a Service? Its selector and ports: "
            f"{_asked(site.service)}.",
            visited(scene.room, site.name, scene.before[fault]),
        )
    if fault in scene.refused:
        return Problem(
            f"{was}: the change cannot be applied: {scene.refused[fault]}",
            "selector is a dictionary of labels, and ports a list of ports.",
            'Return the change as {"selector": {...}} or {"ports": [...]}.',
        )
    after = scene.after[fault]
    if WORDS[fault] in ("none", "pods"):
        if said.get("change"):
            return Problem(
                f"{was}: {NAME} changes {', '.join(said['change'])}",
                "The Service is not at fault here, and was changed all the same.",
                'Return None as "change" where the Service is right.',
            )
        return f"{was}: {said['fault']}, and the Service is left as it is"
    if after.failed or not set(after.share()) <= _own(scene, site):
        return Problem(
            f"{was}; after the change: {after.summary()}",
            "The fault was named, and the change does not mend it.",
            f"The Service of a part selects the label app with the part's name, and asks the port web. You returned "
            f"{said.get('change')}.",
            visited(scene.room, site.name, after),
        )
    return f"{was}; after the change: {after.summary()}"


def _asked(service: Object) -> str:
    return f"{service['spec']['selector']}, {service['spec']['ports'][0]['targetPort']!r}"


EVIDENCE = {
    "typo": "Its EndpointSlice has no endpoints: the selector fits no pod.",
    "wide": "Its endpoints are pods of several parts: the selector fits more than it should.",
    "number": "It has a ready endpoint, at a port that the pod does not have.",
    "misnamed": "The selector fits, but no pod has a port of that name: its endpoint has no port.",
    "asleep": "It has an endpoint that is not ready: the Service is right, and the pod cannot serve.",
    "well": "It has a ready endpoint at the right port, and it answers.",
}


def _about(fault: str, expected: str) -> CheckFunction:
    @judged(expected)
    def check(scene: Scene, world: World) -> str | Problem:
        return verdict(scene, fault)

    return check


EXERCISE.check("typo", "A selector that fits nothing", weight=2)(
    _about("typo", 'a Service without endpoints is called "selector", and after the change its own pod answers')
)
EXERCISE.check("number", "A port at which nobody listens", weight=2)(
    _about("number", 'a Service that asks the wrong port is called "port", and after the change its own pod answers')
)
EXERCISE.check("wide", "A selector that fits too much", weight=2)(
    _about("wide", 'a Service that leads to other parts is called "selector", and after the change to its own pod only')
)
EXERCISE.check("asleep", "A pod that is not ready", weight=2, needs=["typo"])(
    _about("asleep", 'a Service whose pod is not ready is called "pods", and is not changed')
)
