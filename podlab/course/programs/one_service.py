"""The service of exercise 11.1, and the clock that its callers look at: time is a number here, and calls move it."""

from outside import serve

#: More tries than this are refused: the code would go on for ever.
MOST = 25
#: Seconds for which nobody waits.
FOR_EVER = 1e9
BEGIN = 100.0
TRIES: list = []
STATE: dict = {}


class Endless(Exception):
    """Ends code that never stops trying."""


def begin():
    """The address of the service."""
    return serve(_answer)


def behave(behaviour):
    """Be another service: a list of (what happens, after how many seconds), one for each try."""
    TRIES.clear()
    STATE.update(behaviour=behaviour, now=BEGIN, endless=False)


def went():
    """How a question went: tries as (when, patience), how long they took, and whether there were too many."""
    return {"tries": TRIES, "took": STATE["now"] - BEGIN, "endless": STATE["endless"]}


def _answer(_pid, what, *arguments):
    return STATE["now"] if what == "clock" else _call(*arguments)


def _call(patience):
    if len(TRIES) >= MOST:
        STATE["endless"] = True
        raise Endless
    behaviour = STATE["behaviour"]
    what, after = behaviour[min(len(TRIES), len(behaviour) - 1)]
    if not patience < FOR_EVER:
        patience = FOR_EVER
    TRIES.append([STATE["now"] - BEGIN, max(-FOR_EVER, patience)])
    if what == "hangs" or after > patience:
        STATE["now"] += max(0.0, patience)
        raise TimeoutError(f"no answer within {patience:g} s")
    STATE["now"] += after
    if what == "answers":
        return f"answer {len(TRIES)}"
    if what == "refuses":
        raise ConnectionError(f"refused, try {len(TRIES)}")
    raise ValueError("there is no such movie")
