"""The hidden checks of chapter 14. They never enter a learner's kernel, a release or a feedback's source."""

from __future__ import annotations

from podlab.checks.api import ApiError
from podlab.checks.hidden import Hidden
from podlab.checks.world import World
from podlab.course.cluster_and_api import following, handing_over, reconciling, returning
from podlab.course.plain import Problem, judged

CHECKS = Hidden()
add = CHECKS.add


@CHECKS("14.1", "goes", "When the top goes, everything goes", weight=2, needs=["comes-back"])
@judged("the object at the top is deleted, and everything that came from it goes by itself, and stays away")
def goes(scene: returning.Scene, world: World) -> str | Problem:
    """Garbage collection: no pod is left, and none comes back."""
    room = scene.room
    top = returning.top_of(room)
    if top is None:
        return Problem("the pods have no owner", "They were written by hand.", "Let a controller make them.")
    room.api.delete(*top, room.namespace)
    told = f"{top[0]} {top[1]} was deleted"
    if room.eventually(lambda: not room.live(), "the pods being gone", 20) and room.constantly(
        lambda: not room.live(), 2
    ):
        return f"{told}; no pod is left"
    return Problem(
        f"{told}; {room.states()}",
        "There is more than one object at the top, or pods that nobody owns.",
        "One Deployment is enough.",
    )


@CHECKS("14.2", "bookmark", "A bookmark is remembered", weight=1, needs=["gap"])
@judged("after a bookmark, the next watch begins at its version")
def bookmark(scene: following.Scene, world: World) -> str | Problem:
    """Others' writes moved the version on; the bookmark said so."""
    following.play(scene)
    asked = scene.after_bookmark
    told = f"the bookmark had version {scene.bookmark}, then it asked: {asked}"
    if isinstance(asked, dict) and str(asked.get("watch", "")).isdigit() and int(asked["watch"]) >= scene.bookmark > 0:
        return told
    return Problem(
        told,
        "The bookmark was thrown away: it has no object to take in, and still a version to remember.",
        'Every event but ERROR has event["object"]["metadata"]["resourceVersion"].',
    )


@CHECKS("14.3", "team-on", "The team goes on with its own fields", weight=3, needs=["accepted"])
@judged("the team applies its last manifest again without insisting: no conflict, and the scaler's number stays")
def team_on(scene: handing_over.Scene, world: World) -> str | Problem:
    """The next deployment of the team; and as a control, the team naming a number is refused."""
    room, count = scene.room, handing_over.COUNT + 1
    handing_over.apply(room, "scaler", handing_over.count_only(count), force=True)
    try:
        now = handing_over.apply(room, "team", handing_over.last_of_team(scene))
    except ApiError as error:
        if error.server:
            raise
        return Problem(
            f"{error.status} {error.reason}: {error.message}",
            "The team's manifest still names the number, which is the scaler's now.",
            "What the team applies from now on must not speak of replicas.",
        )
    if now["spec"]["replicas"] != count:
        return Problem(
            f"the scaler had asked for {count}; after the team's manifest there are {now['spec']['replicas']}",
            "The team's manifest took the number over.",
            "What the team applies from now on must not speak of replicas.",
        )
    try:
        handing_over.apply(room, "team", handing_over.count_only(count + 1))
    except ApiError as error:
        if error.status == 409:
            return f"accepted, still {count}; another number from the team is refused: {error.reason}"
        raise
    return Problem(
        "another number from the team was accepted",
        "The scaler does not own the number.",
        "Who owns which field? metadata.managedFields.",
    )


@CHECKS("14.4", "renews", "Another version, one member at a time", weight=2, needs=["makes"])
@judged("when another version is wanted, all members are replaced, and never more than one is missing")
def renews(scene: reconciling.Scene, world: World) -> str | Problem:
    """All of the new version in the end, and never fewer than one less than wanted."""
    phase = reconciling.reached(scene, "renewed")
    if isinstance(phase, Problem):
        return phase
    told = f"{phase.told()}; at worst {phase.fewest} were there"
    right = phase.versions == {"v2": reconciling.COUNT} and phase.quiet
    if right and phase.fewest >= reconciling.COUNT - 1:
        return told
    return Problem(
        told,
        "All members went at once, and for a moment there was none."
        if right
        else "Members of the old version stay, or it never comes to rest.",
        "Replace one member at a time: when all that are wanted are there, one old one may go."
        if right
        else 'Compare pod["metadata"]["labels"]["version"] with what is wanted.',
    )
