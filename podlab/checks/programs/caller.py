"""Runs a learner's source in a process of its own and calls one of its names; a JSON line for each call.

`caller.py RESULTS MEMORY FILE [PROCESSES]`: reads {"source", "name", "calls", "seal"}, one line, from standard input,
and writes to the descriptor RESULTS, each line behind the seal: what the source writes there is no answer. The others
are limits: bytes of memory and of one file, and the number of processes. With "talk", lines that follow are more calls,
{"name", "arguments"}, each answered at once; a name "it.method" is one of the object that {"make": NAME, "arguments",
"called": "it"} has made.
Standard library only. What the source prints goes wherever standard output goes; results have a way of their own.
"""

import json
import os
import resource
import signal
import sys
import time
import types

PR_SET_PDEATHSIG = 1
#: The name under which the source is compiled, so that its own lines can be told from ours in a traceback.
FILE = "<answer>"


def main():
    descriptor = int(sys.argv[1])
    if descriptor == 2:
        # Into a box lead three descriptors only: errors go where the output goes, and results have the third.
        descriptor = os.dup(2)
        os.dup2(1, 2)
    else:
        # With the checker dies what it has started, as all that is in a box does.
        import ctypes

        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    results = os.fdopen(descriptor, "w", buffering=1)
    limited = (resource.RLIMIT_DATA, resource.RLIMIT_FSIZE, resource.RLIMIT_NPROC)
    for which, most in ((resource.RLIMIT_CORE, "0"), *zip(limited, sys.argv[2:], strict=False)):
        _, hard = resource.getrlimit(which)
        most = int(most) if hard == resource.RLIM_INFINITY else min(int(most), hard)
        resource.setrlimit(which, (most, most))
    task = json.loads(sys.stdin.readline())
    seal = task.pop("seal")
    # A module that can be found by its name: processes that the code starts get its functions by reference.
    module = sys.modules["answer"] = types.ModuleType("answer")
    space = vars(module)
    try:
        exec(compile(task["source"], FILE, "exec"), space)
        call = space[task["name"]] if task["name"] else None
    except BaseException as error:
        tell(results, seal, {"kind": "unusable", "error": told(error, task["source"])})
        return
    for arguments in task["calls"]:
        tell(results, seal, one(call, arguments, task["source"]))
    if task.get("talk"):
        tell(results, seal, {"kind": "value"})
        for line in sys.stdin:
            tell(results, seal, talked(space, json.loads(line), task["source"]))


def talked(space, asked, source):
    if "make" in asked:

        def make(*arguments):
            space[asked["called"]] = space[asked["make"]](*arguments)

        return one(make, asked["arguments"], source)
    owner, _, name = asked["name"].rpartition(".")
    try:
        call = getattr(space[owner], name) if owner else space[name]
    except (KeyError, AttributeError) as error:
        return {"kind": "raised", "error": told(error, source)}
    return one(call, asked["arguments"], source)


def one(call, arguments, source):
    before = json.dumps(arguments)
    began = time.monotonic()
    try:
        value = call(*arguments)
    except BaseException as error:
        return {"kind": "raised", "error": told(error, source), "seconds": time.monotonic() - began}
    seconds = time.monotonic() - began
    entry = {"seconds": seconds, "changed": json.dumps(arguments, default=repr) != before}
    try:
        if not plain(value):
            raise TypeError
        return {"kind": "value", "value": json.loads(json.dumps(value, allow_nan=False)), **entry}
    except (TypeError, ValueError, RecursionError):
        return {"kind": "unfit", "error": f"a {type(value).__name__}: {cut(value)}", **entry}


def plain(value, depth=0):
    """Whether a value is what JSON gives back unchanged (a tuple counts as a list); keys must be text."""
    if depth > 50:
        return False
    if isinstance(value, (list, tuple)):
        return all(plain(item, depth + 1) for item in value)
    if isinstance(value, dict):
        return all(isinstance(key, str) and plain(item, depth + 1) for key, item in value.items())
    if isinstance(value, (int, float)):
        return abs(value) <= sys.float_info.max  # as podlab/checks/finite.py reads it
    return value is None or isinstance(value, str)


def cut(value):
    try:
        return repr(value)[:200]
    except BaseException as error:
        return f"(its repr raised {type(error).__name__})"


def told(error, source):
    """The exception in one line, with the line of the source that it came from."""
    import traceback  # costs a third of the time to start, and most calls go well

    lines = source.splitlines()
    where = ""
    if isinstance(error, SyntaxError) and error.lineno:
        where = f" in line {error.lineno}"
    for frame in traceback.extract_tb(error.__traceback__):
        if frame.filename == FILE and 0 < frame.lineno <= len(lines):
            where = f" in line {frame.lineno}: {lines[frame.lineno - 1].strip()[:120]}"
    text = str(error).splitlines()[0][:300] if str(error) else ""
    return f"{type(error).__name__}{': ' + text if text else ''}{where}"


def tell(results, seal, entry):
    try:
        sys.stdout.flush()  # what was printed comes before the answer: after the last one nobody waits
    except BaseException:
        pass
    try:
        results.write(seal + json.dumps(entry) + "\n")
    except OSError:
        os._exit(1)  # the code has closed what is not its own, and the checker sees that we are gone


if __name__ == "__main__":
    main()
