"""The hidden checks of chapter 16. They never enter a learner's kernel, a release or a feedback's source."""

from __future__ import annotations

from podlab.checks.contract import Result
from podlab.checks.hidden import Hidden
from podlab.checks.world import World
from podlab.course.networking import diagnosis, moving, peers, spread, sticky
from podlab.course.networking.sites import names, page
from podlab.course.plain import Problem, judged

CHECKS = Hidden()
add = CHECKS.add


@CHECKS("16.1", "newcomer", "A new replica gets its share by itself", weight=2, needs=["spreads"])
@judged("a replica that is added is asked soon, without any change of the Service")
def newcomer(scene: spread.Scene, world: World) -> str | Problem:
    """One replica more: its name appears among those who answer."""
    room = scene.room
    before = {pod["metadata"]["uid"] for pod in room.live()}
    path = f"/apis/apps/v1/namespaces/{room.namespace}/deployments/serving/scale"
    body = {"spec": {"replicas": spread.REPLICAS + 1}}
    room.api.request("PATCH", path, body=body, content_type="application/merge-patch+json")

    def asked() -> bool:
        fresh = names([pod for pod in room.ready() if pod["metadata"]["uid"] not in before])
        return bool(fresh & set(scene.client.visit(page(room, "serving"), 20).share()))

    if room.eventually(asked, "a request to the new replica", 25, interval=0.5):
        return f"now {len(room.ready())} pods; {scene.client.visit(page(room, 'serving'), 40).summary()}"
    return Problem(
        f"{scene.client.visit(page(room, 'serving'), 40).summary()}; {room.states()}",
        "The addresses behind the Service were written by hand, or its selector names what only some replicas have.",
        "Let the selector name labels of the Deployment's template.",
    )


@CHECKS("16.2", "misnamed", "A port that no pod has by that name", weight=1)
def misnamed(scene: diagnosis.Scene, world: World) -> Result:
    """The same as the visible checks, for a name in place of a number."""
    expected = 'a Service that names a port that its pods do not have is called "port", and is mended'
    return judged(expected)(lambda scene, _world: diagnosis.verdict(scene, "misnamed"))(scene, world)


@CHECKS("16.2", "well", "A Service that is right is left alone", weight=1, needs=["typo"])
def well(scene: diagnosis.Scene, world: World) -> Result:
    """A Service that answers is called right, whether it names its port or gives the number."""
    expected = 'a Service that works is called "none", and is not changed'
    return judged(expected)(lambda scene, _world: diagnosis.verdict(scene, "well"))(scene, world)


@CHECKS("16.3", "only-members", "Only members have names", weight=1, needs=["own-name"])
@judged("from another namespace shard-0 is found by its full name, and a shard that does not exist has no address")
def only_members(scene: peers.Scene, world: World) -> str | Problem:
    """A client elsewhere resolves a member, and not one that there is not."""
    client = world.room("elsewhere").client()
    stranger = scene.name(peers.COUNT + 4)
    found = client.resolve(stranger)
    if found:
        return Problem(
            f"shard-{peers.COUNT + 4} resolves to {', '.join(found)}",
            "Something answers to any name below the Service.",
            "Let the names come from the pods.",
        )
    wanted = [(scene.pod(0) or {}).get("status", {}).get("podIP", "")]
    if scene.room.eventually(lambda: client.resolve(scene.name(0)) == wanted, "the full name", 8):
        return f"{scene.seen(0)}; shard-{peers.COUNT + 4} to nothing"
    return Problem(scene.seen(0), "The name is not known elsewhere.", "Ask for the full name, with the namespace.")


@CHECKS("16.4", "forgotten", "Who stays away for long is forgotten", weight=2, needs=["sticks"])
@judged(f"of clients that stay away for {sticky.AWAY:g} s, some are answered by another pod than before")
def forgotten(scene: sticky.Scene, world: World) -> str | Problem:
    """All clients stay away for a while, some times."""
    times, moved = sticky.forgetful(scene)
    if moved:
        return f"of {times} returns after {sticky.AWAY:g} s, {moved} came to another pod"
    return Problem(
        f"of {times} returns after {sticky.AWAY:g} s, none came to another pod",
        "Clients are remembered for much longer: by default for three hours.",
        f"sessionAffinityConfig.clientIP.timeoutSeconds, between {sticky.REMEMBERED} and {sticky.FORGOTTEN}.",
    )


@CHECKS("16.5", "leaving", "A pod that must go ends what it is at", weight=2, needs=["moves"])
@judged("a pod is told to go while it answers a request, and the request is answered all the same")
def leaving(scene: moving.Scene, world: World) -> str | Problem:
    """A slow request is under way when the pod is deleted."""
    name, answered = moving.leave(scene)
    if answered:
        return f"{name} was told to go, and answered the request that it was at"
    return Problem(
        f"{name} was told to go, and the request that it was at was cut off",
        "The program ends at once when it is told to, whatever it is doing, and whoever still sends it requests.",
        "Let the container wait before it is told to stop: lifecycle.preStop with a sleep of some seconds, and a "
        "terminationGracePeriodSeconds that allows for it.",
    )
