"""Exercise 16.3: each pod by its own name, found by its peers even while it starts, and after it was replaced."""

from __future__ import annotations

from dataclasses import dataclass

from podlab.checks.api import Object
from podlab.checks.contract import Answer, Exercise, HandIn, Hint, Inconclusive, Json
from podlab.checks.traffic import Client, Window
from podlab.checks.world import OURS, Room, World, is_ready
from podlab.course import workload
from podlab.course.moments import cluster_map, visited
from podlab.course.networking.sites import LESSON
from podlab.course.plain import Problem, judged
from podlab.course.scenes import bring_up, mentions

NAME = "manifest_16_3"
SERVICE, WITNESS = "shards", "witness"
COUNT = 3


@dataclass
class Scene:
    """Three shards and a client beside them."""

    room: Room
    world: World
    client: Client

    def name(self, number: int) -> str:
        """The name by which a peer knows a shard."""
        return f"shard-{number}.{SERVICE}.{self.room.namespace}.svc.cluster.local"

    def pod(self, number: int) -> Object | None:
        """The live pod that calls itself shard-NUMBER."""
        wanted = f"shard-{number}"
        for pod in self.room.live():
            if wanted in (pod["metadata"]["name"], pod["spec"].get("hostname")):
                return pod
        return None

    def visit(self, number: int, times: int = 1) -> Window:
        """Ask a shard by its name."""
        return self.client.visit(f"http://{self.name(number)}:8080/recommend/1", times)

    def asked(self, *numbers: int) -> dict[str, Json]:
        """Evidence: who answers under the names of these shards, beside the endpoints of the Service."""
        return visited(self.room, SERVICE, Window([record for each in numbers for record in self.visit(each).records]))

    def led(self, number: int) -> bool:
        """Whether a shard's name leads to its present pod: to its address, and to its answer."""
        pod = self.pod(number)
        address = (pod or {}).get("status", {}).get("podIP")
        if not address or self.client.resolve(self.name(number)) != [address]:
            return False
        return {record.pod for record in self.visit(number, 2).records if record.ok} == {f"shard-{number}"}

    def seen(self, number: int) -> str:
        """What a shard's name leads to, in words."""
        pod = self.pod(number) or {}
        found = self.client.resolve(self.name(number))
        told = f"shard-{number}.{SERVICE} resolves to {', '.join(found) or 'nothing'}"
        has = pod.get("status", {}).get("podIP")
        return f"{told}; the pod has {has or 'no address'}" if pod else f"{told}; there is no pod shard-{number}"


def stage(answer: Answer, world: World) -> Scene:
    """Bring the shards up, with a client beside them."""
    room = bring_up(answer[NAME], world, "shards", wanted=COUNT, given=workload.Given(settings=False), slack=5)
    return Scene(room, world, room.client())


EXERCISE = Exercise(
    id="16.3",
    title="Each by its own name",
    points=10,
    handed_in=(HandIn(NAME),),
    stage=stage,
    lesson=f"{LESSON}#Names-without-an-address-in-between",
    hints=(
        Hint(
            "A Deployment gives its pods names by chance. Which kind numbers them?",
            lambda situation: situation.failed("own-name") and mentions(NAME, "kind: Deployment")(situation),
        ),
        Hint(
            "The shard is there and its name is not. A pod gets a name only below the Service that it names itself: "
            "where does a StatefulSet name it?",
            lambda situation: situation.failed("own-name"),
        ),
        Hint(
            "DNS leaves out pods that are not ready. Which field of the Service says that peers want to see them all?",
            lambda situation: situation.failed("found-while-starting"),
        ),
        Hint("What does a Service give its clients if it has no address of its own (clusterIP: None)?"),
        Hint("Try it: peer = lab.visitor(); peer.resolve('shards'); peer.resolve('shard-0.shards')."),
    ),
    debrief=(
        "A Service with an address hides its pods; a headless one introduces them. The name belongs to the place and "
        "not to the pod: shard-1 was deleted, and its successor, another pod with another address, is found under the "
        "same name. That is why it is the form for members of a group that must know each other: databases, brokers, "
        "the election of chapter 03. They must find each other before they are ready, so publishNotReadyAddresses is "
        "right here and was wrong in front of clients. Another way: Deployments of one pod each, with hostname and "
        "subdomain in the pod's spec."
    ),
)


@EXERCISE.check("own-name", "Each shard answers to its own name", weight=3)
@judged("shard-0.shards to shard-2.shards resolve to the address of that pod alone, and that pod answers")
def own_name(scene: Scene, world: World) -> str | Problem:
    """Every shard is reached by its name."""

    def wrong() -> list[int]:
        return [number for number in range(COUNT) if not scene.led(number)]

    if scene.room.eventually(lambda: not wrong(), "the names", 10, interval=0.5):
        return "; ".join(scene.seen(number) for number in range(COUNT))
    missing = scene.pod(0) is None
    return Problem(
        "; ".join(scene.seen(number) for number in wrong() or range(COUNT)),
        "The pods do not have the names shard-0 to shard-2."
        if missing
        else "The pods do not belong to the Service by name: serviceName of the StatefulSet and the name of the "
        "Service differ, or the Service does not select them.",
        "Which kind gives its pods numbered names?"
        if missing
        else "Compare serviceName, the Service's name, and its selector with the labels.",
        scene.asked(*range(COUNT)),
    )


@EXERCISE.check("all-names", "The name of the group gives all members", weight=2, needs=["own-name"])
@judged("the name shards resolves to the addresses of all three pods")
def all_names(scene: Scene, world: World) -> str | Problem:
    """The Service's own name gives every pod's address, and no other."""
    name = f"{SERVICE}.{scene.room.namespace}.svc.cluster.local"
    members = sorted(pod["status"]["podIP"] for pod in scene.room.live())

    def complete() -> bool:
        return scene.client.resolve(name) == members

    if scene.room.eventually(complete, "all addresses", 8, interval=0.5):
        return f"{SERVICE} resolves to {', '.join(members)}"
    found = scene.client.resolve(name)
    return Problem(
        f"{SERVICE} resolves to {', '.join(found) or 'nothing'}; the pods have {', '.join(members)}",
        "The Service has an address of its own, which stands for all and introduces nobody.",
        "Say clusterIP: None.",
    )


@EXERCISE.check("found-while-starting", "A shard that is not ready is found by its peers", weight=2, needs=["own-name"])
@judged("a shard that is not ready keeps its name in DNS")
def found_while_starting(scene: Scene, world: World) -> str | Problem:
    """Unready for a while, the shard's name still leads to it."""
    number = world.random.randrange(COUNT)
    pod = scene.pod(number)
    assert pod is not None
    uid, address = pod["metadata"]["uid"], pod["status"]["podIP"]
    # A Service of ours that introduces only who is ready: whether DNS has heard of it.
    spec = {"clusterIP": "None", "selector": pod["metadata"]["labels"], "ports": [{"port": 8080}]}
    named = {"name": WITNESS, "labels": {OURS: "control"}}
    scene.room.put({"apiVersion": "v1", "kind": "Service", "metadata": named, "spec": spec})

    def introduced() -> bool:
        return address in scene.client.resolve(f"{WITNESS}.{scene.room.namespace}.svc.cluster.local")

    if not scene.room.eventually(introduced, "a Service of ours in DNS", 15, interval=0.5):
        raise Inconclusive(f"DNS does not know the Service {WITNESS}, which the check has made")
    scene.room.trouble(pod, "unready", seconds=600)

    def unready() -> bool:
        return not is_ready(scene.room.pod(uid) or {})

    if not scene.room.eventually(unready, "the shard being called not ready", 60):
        raise Inconclusive(f"shard-{number} says 503 and is still called ready: {scene.room.states()}")
    if not scene.room.eventually(lambda: not introduced(), "DNS leaving it out", 30, interval=0.5):
        raise Inconclusive(f"DNS has not heard that shard-{number} is not ready")
    kept = scene.room.constantly(lambda: scene.client.resolve(scene.name(number)) == [address], world.deadline(3))
    told, moment = f"not ready, and {scene.seen(number)}", {} if kept else scene.asked(number)
    scene.room.trouble(pod, "unready", seconds=0)
    scene.room.eventually(lambda: not unready(), "the shard being ready again", 25)
    if kept:
        return told
    return Problem(
        told,
        "By default DNS leaves out the pods that are not ready, and peers that start together never meet.",
        "Look at publishNotReadyAddresses of the Service.",
        moment,
    )


@EXERCISE.check("follows", "The name goes to the successor", weight=2, needs=["own-name"])
@judged("after a shard was deleted, its name leads to its successor: another pod, under the same name")
def follows(scene: Scene, world: World) -> str | Problem:
    """Delete a shard; a pod with a new uid takes its name."""
    number = world.random.randrange(COUNT)
    pod = scene.pod(number)
    assert pod is not None
    uid, old = pod["metadata"]["uid"], pod["status"]["podIP"]
    scene.room.api.delete("Pod", pod["metadata"]["name"], scene.room.namespace)

    def successor() -> bool:
        now = scene.pod(number)
        return now is not None and now["metadata"]["uid"] != uid and is_ready(now)

    def led() -> bool:
        return successor() and scene.led(number)

    if scene.room.eventually(led, "the successor under the same name", 25, interval=0.5):
        return f"the pod at {old} was deleted; now {scene.seen(number)}"
    return Problem(
        f"the pod at {old} was deleted; now {scene.seen(number)}; {scene.room.states()}",
        "Nobody makes a successor of that name: pods without an owner do not come back.",
        "Who owns the pods? lab.get('pods', NAME)['metadata']['ownerReferences'].",
        cluster_map(scene.room),
    )
