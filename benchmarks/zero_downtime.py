"""Failed requests to serving while its pods are replaced and its model changes under load; and with a wrong manifest.

Clients ask over connections that they keep, through a node port, and never repeat a request: what is cut off, refused
or answered with an error has failed. First the recommender's own manifest: all pods of serving are replaced by a
rolling update, and new ratings lead to another model, again and again until enough requests have been sent. Then a
manifest that is wrong on purpose (no readiness probe, no drain, all pods at once), which must show failures: else
nothing was measured.
"""

from __future__ import annotations

import itertools
from copy import deepcopy
from typing import Any

import httpx
from clusters import NAME, taken_down
from common import Figure, announce, finish, machine, options, say
from load import HOST, Load, compare, under_load

from podlab import cluster, waiting
from podlab.checks.api import Api
from podlab.checks.world import is_ready
from podlab.commands import movies_pods
from podlab.commands.movies_pods import NAMESPACE

_PATIENCE, _MANAGER = 600, "benchmark"
#: Ratings that lead to another model: more than MOVIES_TRAIN_AFTER of the manifests.
_RATINGS, _FIRST_USER = 40, 1_000_000


def outside(api: Api, name: str) -> int:
    """Open a service of the recommender on a node port of this machine: the port."""
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": f"{name}-outside", "namespace": NAMESPACE},
        "spec": {"type": "NodePort", "selector": {"app": name}, "ports": [{"port": 8000, "targetPort": "http"}]},
    }
    made = api.apply(service, NAMESPACE, manager=_MANAGER)
    port: int = made["spec"]["ports"][0]["nodePort"]
    waiting.until(
        lambda: httpx.get(f"http://{HOST}:{port}/readyz", trust_env=False, timeout=10).status_code == 200,
        f"{name} answering on its node port", timeout=_PATIENCE, interval=0.2, ignore=(httpx.HTTPError,),
    )  # fmt: skip
    return port


def pods(api: Api) -> dict[str, Any]:
    """The pods of serving that are not being deleted, by uid."""
    found = api.list("Pod", NAMESPACE, labelSelector="app=serving")
    return {pod["metadata"]["uid"]: pod for pod in found if not pod["metadata"].get("deletionTimestamp")}


def replaced(api: Api, deployment: dict[str, Any]) -> int:
    """Apply a Deployment whose pods differ from those there are, and wait; how many were replaced."""
    before = pods(api)
    api.apply(deployment, NAMESPACE, manager=movies_pods.MANAGER)

    def done() -> bool:
        now = pods(api)
        return len(now) == len(before) and not now.keys() & before.keys() and all(map(is_ready, now.values()))

    waiting.until(done, "all pods of serving being replaced", timeout=_PATIENCE, interval=0.2)
    waiting.until(
        lambda: len(api.list("Pod", NAMESPACE, labelSelector="app=serving")) == len(before),
        "the end of the old pods", timeout=_PATIENCE, interval=0.2,
    )  # fmt: skip
    return len(before)


def model(port: int) -> str:
    """The version of the model in use by one of the pods."""
    answer = httpx.get(f"http://{HOST}:{port}/model", trust_env=False, timeout=60)
    return str(answer.raise_for_status().json()["version"])


def another_model(serving: int, ingestion: int, turn: int) -> None:
    """Send ratings of nobody else's, and return when serving uses the model that was made because of them."""
    before = model(serving)
    with httpx.Client(base_url=f"http://{HOST}:{ingestion}", trust_env=False, timeout=60) as client:
        for number in range(_RATINGS):
            user = _FIRST_USER + 5 * turn + number % 5
            event = {"id": f"z-{turn}-{number}", "kind": "rating", "user": user, "movie": number + 1, "stars": 4}
            client.post("/events", json=event).raise_for_status()
    waiting.until(
        lambda: all(model(serving) != before for _ in range(6)),
        "another model in use", timeout=_PATIENCE, interval=0.5, ignore=(httpx.HTTPError,),
    )  # fmt: skip


def page(number: int) -> str:
    """What a client asks for: the recommendations of one of 40 users."""
    return f"/users/{number % 40 + 1}/recommendations"


def serving_of_the_course() -> dict[str, Any]:
    """The Deployment of serving in cluster/manifests/movies."""
    return next(
        thing
        for thing in movies_pods.objects("movies")
        if thing["kind"] == "Deployment" and thing["metadata"]["name"] == "serving"
    )


def changed(deployment: dict[str, Any], mark: str) -> dict[str, Any]:
    """The same with another annotation on its pods, which makes Kubernetes replace them."""
    found = deepcopy(deployment)
    found["spec"]["template"]["metadata"]["annotations"] = {"podlab.dev/benchmark": mark}
    return found


def wrong(deployment: dict[str, Any]) -> dict[str, Any]:
    """A manifest as it should not be: nobody asks whether a pod is ready, it does not drain, and all go at once."""
    found = changed(deployment, "wrong")
    found["spec"]["strategy"] = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": "100%"}}
    container = found["spec"]["template"]["spec"]["containers"][0]
    for probe in ("readinessProbe", "startupProbe"):
        container.pop(probe)
    container["env"] = [
        {"name": "MOVIES_DRAIN_SECONDS", "value": "0"},
        {"name": "MOVIES_STOP_SECONDS", "value": "0"},
    ]
    return found


def main() -> None:
    given = options(
        __doc__,
        requests=(100_000, 1_500, "requests with the right manifest"),
        wrong_requests=(5_000, 600, "requests with the wrong one"),
        clients=(8, 4, "clients at once"),
        ratings=(20_000, 2_000, "ratings to generate"),
        nodes=(2, 2, "nodes of the cluster"),
    )
    here = machine()
    announce("zero-downtime", here)
    facts: dict[str, int] = {}
    with taken_down(NAME):
        made = cluster.up(NAME, nodes=given.nodes)
        movies_pods.up(NAME, say, ratings=given.ratings)
        api = Api.connect(made.kubeconfig)
        serving, ingestion = outside(api, "serving"), outside(api, "ingestion")
        ours = serving_of_the_course()

        def update_and_reload(load: Load) -> None:
            for turn in itertools.count(1):
                facts["replaced"] = facts.get("replaced", 0) + replaced(api, changed(ours, f"right-{turn}"))
                another_model(serving, ingestion, turn)
                facts["models"] = turn
                say(f"  {facts['replaced']} pods replaced, {turn} new models: {load.sent} sent, {load.failed} failed")
                if load.sent >= given.requests:
                    return

        def update(load: Load) -> None:
            facts["wrongly_replaced"] = replaced(api, wrong(ours))

        right = under_load(serving, given.clients, page, given.requests, update_and_reload)
        bad = under_load(serving, given.clients, page, given.wrong_requests, update)
    title = f"{facts['replaced']} pods replaced and {facts['models']} new models under load"
    compare(title, {"the course's manifest": right, "a wrong manifest": bad})
    more = {"requests": right.sent, "wrong_failed": bad.failed, "wrong_requests": bad.sent, **facts}
    met = right.failed == 0 and bad.failed > 0
    limit = "0 failed, and some with a wrong manifest"
    finish(Figure("zero-downtime", right.failed, "failed requests", None, limit, met, more), here)


if __name__ == "__main__":
    main()
