"""The hidden checks of chapter 12. They never enter a learner's kernel, a release or a feedback's source."""

from __future__ import annotations

import secrets
from collections import Counter
from urllib.parse import quote

from podlab.checks.bench import Bench
from podlab.checks.hidden import Hidden
from podlab.course.fit_for_a_cluster import asked, counted, leaving, told, traced
from podlab.course.fit_for_a_cluster.room import ANSWER, Room, played
from podlab.course.plain import Problem

CHECKS = Hidden()
add = CHECKS.add


@CHECKS("12.1", "odd", "No to what only looks like a number", weight=1, needs=["refuses"])
@played(told.NAME, "CALL_SECONDS=nan and inf, and PORT=8080.5, are refused like other values that cannot be used")
def odd(room: Room, bench: Bench) -> str | Problem:
    """What float() takes, and what compares with nothing."""
    cases = [("CALL_SECONDS", "nan"), ("CALL_SECONDS", "inf"), ("PORT", "8080.5")]
    programs = [(name, room.start(**told.good(bench) | {name: value})) for name, value in cases]
    for name, program in programs:
        if problem := told.refusal(program, name):
            return problem
    return "three refusals"


@CHECKS("12.1", "secret", "A secret is not told", weight=1, needs=["serves"])
@played(told.NAME, "the value of API_KEY is in no answer and in nothing that it writes, also where it refuses")
def secret(room: Room, bench: Bench) -> str | Problem:
    """One program that serves, one that refuses."""
    given = told.good(bench)
    serving, refusing = room.start(**given), room.start(**given | {"LOG_LEVEL": "LOUD"})
    answer = serving.listens("/settings")
    refusing.ask_until("/settings", tuple(range(100, 600)), told.SECONDS)
    for where, text in (
        ("the answer to GET /settings", answer.text),
        ("what it wrote", "".join(serving.written())),
        ("its message about another variable", "".join(refusing.written())),
    ):
        if given["API_KEY"] in text:
            return Problem(
                f"the value of API_KEY is in {where}",
                "All variables are shown, the secret one too.",
                "Show the settings that you name; of a secret say at most whether it is there.",
            )
    return "nowhere"


@CHECKS("12.2", "hangs", "A neighbour that hangs holds up nobody", weight=2, needs=["follows"])
@played(asked.NAME, "if features takes the connection and says nothing, /readyz gives 503 and /livez 200, both in time")
def hangs(room: Room, bench: Bench) -> str | Problem:
    """Features holds every question; two looks at readiness are under way while we look at liveness."""
    program = asked.started(room)
    room.behave("features", "holds")
    program.ask_until("/readyz", (503,), asked.FOLLOWS)
    keys = [program.begin("/readyz") for _ in range(2)]
    live = program.ask("/livez")
    answers = [room.result(key, asked.FACTOR * asked.PATIENCE) for key in keys]
    if live.status != 200:
        return Problem(
            f"while features hung, GET /livez gave {live.shown}",
            "One question waits for another: the server answers one at a time.",
            "ThreadingHTTPServer answers each request in a thread of its own.",
        )
    for answer in answers:
        if answer is None or answer.status != 503:
            return Problem(
                "while features hung, GET /readyz gave " + (answer.shown if answer else "no answer"),
                "The question to features has no limit, so whoever asks about readiness hangs with it.",
                "urlopen(url, timeout=1), and a TimeoutError (an OSError) means no.",
            )
    return "503 and 200, in time"


@CHECKS("12.2", "alone", "The start needs nobody", weight=1, needs=["early"])
@played(
    asked.NAME, "where features is away from the beginning, the start ends nevertheless: /startupz 200, /readyz 503"
)
def alone(room: Room, bench: Bench) -> str | Problem:
    """A program that is started before what it depends on."""
    program, path = asked.opened(room, "away")
    program.listens("/livez")
    asked.fed(room, path)
    found = program.ask_until("/startupz", (200,), asked.FOLLOWS)
    ready = program.ask("/readyz")
    if found.status != 200 or ready.status != 503:
        return Problem(
            f"features was away from the beginning; when the model had been read, /startupz: {found.shown}, "
            f"/readyz: {ready.shown}",
            "The start waits for features. A start that takes too long is taken for a crash.",
            "The start is over when the model has been read; all else is readiness.",
        )
    return "started, and not ready"


@CHECKS("12.3", "closes", "No new guest after the drain", weight=1, needs=["in-flight"])
@played(leaving.NAME, "after the drain it takes no new connection, also while a request is still under way")
def closes(room: Room, bench: Bench) -> str | Problem:
    """One request is held through all of it."""
    program = leaving.opened(room)
    room.behave("features", "holds")
    program.begin("/work")
    room.hold("features", 1, "GET /work")
    program.tell()
    last = leaving.closed(room, program)
    if last.status:
        return Problem(
            f"{leaving.FACTOR} times DRAIN_SECONDS after SIGTERM it still listened ({last.shown})",
            "It listens as long as anything is under way, so that it may never be without guests.",
            "When the drain is over: server.shutdown() and server.server_close(), then wait for what is under way.",
        )
    return "nobody listens"


@CHECKS("12.3", "bounded", "It does not wait for ever", weight=2, needs=["ends"])
@played(leaving.NAME, "if a request never ends, it ends nevertheless when STOP_SECONDS are over")
def bounded(room: Room, bench: Bench) -> str | Problem:
    """The neighbour never answers."""
    program = leaving.opened(room, stop=1.0)
    room.behave("features", "holds")
    program.begin("/work")
    room.hold("features", 1, "GET /work")
    program.tell()
    if program.ended(leaving.FACTOR * (leaving.DRAIN + 1.0)) is None:
        return Problem(
            f"a request hung; {leaving.FACTOR} times DRAIN_SECONDS and STOP_SECONDS after SIGTERM it was still there",
            "It waits for what is under way without a limit, or threads that are no daemons keep it alive.",
            "Wait at most STOP_SECONDS, and let threads be daemons, so that they end with the process.",
        )
    return "it went without it"


@CHECKS("12.4", "malformed", "No trace out of nonsense", weight=1, needs=["fresh"])
@played(traced.NAME, "a traceparent that is not well formed is not followed: a new trace begins")
def malformed(room: Room, bench: Bench) -> str | Problem:
    """Headers of the wrong length, of zeros, and with what are no digits."""
    chain = traced.Chain.open(room)
    trace, span = traced.ids()
    for header in (f"00-{trace[:-2]}-{span}-01", f"00-{'0' * 32}-{span}-01", f"00-{'x' * 32}-{span}-01", trace):
        user = traced.someone(bench)
        chain.ask(user, header)
        story = chain.story(user)
        found = story[0]["trace_id"]
        if not isinstance(found, str) or not set(found) <= set("0123456789abcdef") or len(found) != 32:
            return Problem(
                f"traceparent was {header!r}; the trace id in the log is {found!r}",
                "The header is cut at its hyphens and believed.",
                'Compare it with re.fullmatch("00-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}", header).',
            )
        if not found.strip("0"):
            return Problem(
                f"traceparent was {header!r}; its trace id of zeros was followed",
                "A trace id of zeros is no trace id.",
                'match[1].strip("0") is empty for it.',
            )
    return "four malformed headers, four new traces"


@CHECKS("12.4", "forged", "Nobody writes into the log", weight=1, needs=["logs"])
@played(traced.NAME, "whatever a user is called, a request is one line of JSON with that name in it")
def forged(room: Room, bench: Bench) -> str | Problem:
    """A name with a line break, quotes, and a line that looks like one of the log's own."""
    chain = traced.Chain.open(room)
    fake = f'{{"service": "ui", "user": "{bench.nonce}", "trace_id": "{secrets.token_hex(16)}"}}'
    user = f'eve"}}\n{fake}\n{{"x": "ü'
    chain.ask(quote(user))
    lines = chain.lines(0, user)
    text = chain.programs[0].written()[0]
    if len(lines) != 1 or any(line.get("user") == bench.nonce for line in traced.read(text)):
        return Problem(
            f"a user was called {user!r}; {len(lines)} lines have that name, and the log is {text[-250:]!r}",
            "The line is put together by hand, so a name can end it and begin another.",
            "Decode the name (urllib.parse.parse_qs), and let json.dumps write the whole line.",
        )
    return "one line, with the whole name in it"


@CHECKS("12.4", "mixed", "Two stories at once", weight=1, needs=["hops"])
@played(traced.NAME, "two requests that are under way at the same time keep their ids apart")
def mixed(room: Room, bench: Bench) -> str | Problem:
    """Our neighbour holds the first request until the second has arrived as well."""
    chain = traced.Chain.open(room)
    room.behave("store", "holds")
    stories, keys = [], []
    for number in (1, 2):
        user, (trace, span) = traced.someone(bench), traced.ids()
        stories.append((user, trace, span))
        keys.append(chain.programs[0].begin(f"/ask?user={user}", {"traceparent": f"00-{trace}-{span}-01"}))
        room.hold("store", number, "GET /ask")
    room.behave("store", "answers")
    for key in keys:
        room.result(key, ANSWER)
    for user, trace, span in stories:
        if problem := traced.linked(chain.story(user), trace, span):
            return Problem(
                f"two requests at once: {problem.observed}",
                "The ids are kept where all requests see them, so the second one overwrites those of the first.",
                "Keep them in local names of the handler, or in a ContextVar.",
            )
    return "two requests, two stories"


@CHECKS("12.4", "nothing", "Where nothing comes", weight=1, needs=["logs"])
@played(
    traced.NAME, "other paths have status 404; if nothing comes from NEXT_URL it is 502, in the answer and in the log"
)
def nothing(room: Room, bench: Bench) -> str | Problem:
    """Nobody listens in our neighbour's place: the last of the three is asked."""
    chain, user = traced.Chain.open(room), traced.someone(bench)
    last = chain.programs[-1]
    other = last.ask("/other")
    if other.status != 404:
        return Problem(f"GET /other gave {other.shown}", "Every path is answered alike.", "404, unless it is /ask.")
    room.behave("store", "away")
    answer = last.ask(f"/ask?user={user}")
    if answer.status != 502:
        return Problem(
            f"nobody listened at NEXT_URL, and GET /ask gave {answer.shown}",
            "An error of the one who is asked ends the request.",
            "except OSError: status 502.",
        )
    told = [line.get("status") for line in chain.lines(len(traced.HOPS) - 1, user)]
    if told != [502]:
        return Problem(
            f"a request was answered with 502; the statuses in its log lines are {told}",
            "Only what went well is logged: the line that is needed most is missing.",
            "Write the line in any case, with the status that was sent.",
        )
    return "404 and 502, and a line that says so"


@CHECKS("12.5", "away", "Errors count, too", weight=1, needs=["counter"])
@played(counted.NAME, "where the neighbour cannot be reached the answer is 502, and is counted")
def away(room: Room, bench: Bench) -> str | Problem:
    """Nobody listens in the neighbour's place."""
    program = counted.opened(room)
    room.behave("features", "away")
    for _ in range(3):
        counted.asked(program, "/work", 502)
    if wrong := counted.compared(counted.counted(program, 3).counter(), Counter({("/work", "502"): 3})):
        return Problem(
            wrong,
            "An error ends the answer before it is counted: just the requests that matter most are missing.",
            "Count in a finally block, or where every answer is sent.",
        )
    return "3 answers with 502, 3 counted"


@CHECKS("12.5", "labels", "No series for whatever is invented", weight=1, needs=["counter"])
@played(counted.NAME, 'all paths that do not exist are counted under path="other"')
def labels(room: Room, bench: Bench) -> str | Problem:
    """Paths that nobody has asked for before."""
    program, count = counted.opened(room), bench.random.randint(12, 25)
    for number in range(count):
        counted.asked(program, f"/{secrets.token_hex(4)}/{number}", 404)
    found = counted.counted(program, count).counter()
    if wrong := counted.compared(found, Counter({("other", "404"): count})):
        return Problem(
            f"{count} paths that do not exist made {len(found)} series; {wrong}",
            "The path becomes a label as it came: anybody can make your program, and Prometheus, run out of memory.",
            'path = self.path if self.path in ("/work",) else "other", without what follows the question mark.',
        )
    return f"{count} invented paths, one series"


@CHECKS("12.5", "at-once", "None is lost among many", weight=1, needs=["counter"])
@played(counted.NAME, "requests that are under way at the same time are all counted")
def at_once(room: Room, bench: Bench) -> str | Problem:
    """Our neighbour holds all of them until the last has arrived."""
    program, count = counted.opened(room), bench.random.randint(6, 10)
    room.behave("features", "holds")
    keys = [program.begin("/work") for _ in range(count)]
    room.hold("features", count, "GET /work")
    room.behave("features", "answers")
    for key in keys:
        room.result(key)
    if wrong := counted.compared(counted.counted(program, count).counter(), Counter({("/work", "200"): count})):
        return Problem(
            f"{count} requests were under way together; {wrong}",
            "A count is read, and written back later: what was counted in between is lost.",
            "Read, add and write in one piece, with a lock around them.",
        )
    return f"{count} at once, {count} counted"
