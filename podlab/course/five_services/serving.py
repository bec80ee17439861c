"""Exercise 10.4: a model is changed under load, and no request notices."""

from __future__ import annotations

from typing import Any

from podlab.checks.bench import Bench
from podlab.checks.contract import Answer, Exercise, HandIn, Hint, Inconclusive
from podlab.course.five_services.ingestion import LESSON
from podlab.course.outside import answered, outside
from podlab.course.plain import Problem, judged, short, values

NAME = "Serving"
#: Seconds after which a request that is not answered counts as one that waits for the loading: far more than a machine
#: stands still for.
_PATIENCE = 10.0

#: Follows the learner's cell. A model can be told to stop at a moment, so that something else happens in between.
_DRIVER = r'''
import threading as _threading

class _Damaged(ValueError):
    pass

class _Model:
    def __init__(self, version, meanwhile=None):
        self.version, self._meanwhile = version, meanwhile

    def best(self, user):
        found = [self.version * 1000 + user, self.version * 1000 + user + 1]
        if self._meanwhile:
            meanwhile, self._meanwhile = self._meanwhile, None
            meanwhile()
        return found

    def titles(self, numbers):
        for number in numbers:
            if number // 1000 != self.version:
                raise KeyError("model %d knows no movie %d" % (self.version, number))
        return ["title %d" % number for number in numbers]

def _reader(data):
    if data.endswith(b"cut"):
        raise _Damaged("the model is cut short")
    return _Model(int(data.split()[1]))

def _right(answer, user):
    """The version of an answer if it is one of a single model, else what is wrong with it."""
    if not isinstance(answer, dict) or set(answer) != {"version", "titles"}:
        return "%r is no {'version': ..., 'titles': [...]}" % (answer,)
    version = answer["version"]
    if answer["titles"] != _Model(version).titles(_Model(version).best(user)):
        return "version %r with %r" % (version, answer["titles"])
    return version

def _one(service, user):
    try:
        return _right(service.answer(user), user)
    except NotImplementedError:
        raise
    except Exception as error:
        return type(error).__name__ + ": " + str(error)[:150]

def _simple(script):
    service, told = Serving(_reader), []
    for what, value in script:
        try:
            if what == "load":
                told.append(service.load(value.encode()))
            elif what == "ready":
                told.append(service.ready())
            else:
                told.append(_one(service, value))
        except NotImplementedError:
            raise
        except Exception as error:
            told.append(type(error).__name__ + ": " + str(error)[:150])
    return told

def _loading(user, patience):
    """A load that stands still; meanwhile a request is made."""
    inside, go_on, answers = _threading.Event(), _threading.Event(), []
    def read(data):
        if data == b"model 2":
            inside.set()
            go_on.wait(4 * patience)
        return _reader(data)
    service = Serving(read)
    service.load(b"model 1")
    loader = _threading.Thread(target=service.load, args=[b"model 2"], daemon=True)
    loader.start()
    inside.wait(patience)
    asked = _threading.Thread(target=lambda: answers.append(_one(service, user)), daemon=True)
    asked.start()
    asked.join(patience)
    told = {"stood": inside.is_set(), "meanwhile": answers[0] if answers else None}
    go_on.set()
    loader.join(patience)
    asked.join(patience)
    told["afterwards"] = _one(service, user)
    return told

def _between(user, patience):
    """Between two looks of a request at its model, another one is loaded (by somebody else, who may have to wait)."""
    loaders = []
    def load():
        loaders.append(_threading.Thread(target=service.load, args=[b"model 2"], daemon=True))
        loaders[0].start()
        loaders[0].join(patience)
    service = Serving(lambda data: _Model(1, load) if data == b"model 1" else _reader(data))
    service.load(b"model 1")
    answer = _one(service, user)
    for loader in loaders:
        loader.join(patience)
    return {"answer": answer, "afterwards": _one(service, user)}

def _backwards(user, patience):
    """An older model, whose reading took longer, is ready after a newer one."""
    inside, go_on = _threading.Event(), _threading.Event()
    def read(data):
        if data == b"model 2":
            inside.set()
            go_on.wait(4 * patience)
        return _reader(data)
    service, said = Serving(read), []
    def load():
        try:
            said.append(service.load(b"model 2"))
        except Exception as error:
            said.append(type(error).__name__ + ": " + str(error)[:150])
    service.load(b"model 1")
    slow = _threading.Thread(target=load, daemon=True)
    slow.start()
    stood = inside.wait(patience)
    quick = _threading.Thread(target=service.load, args=[b"model 3"], daemon=True)
    quick.start()
    quick.join(patience)
    overtaken = _one(service, user)
    go_on.set()
    slow.join(patience)
    quick.join(patience)
    return {"stood": stood, "overtaken": overtaken, "afterwards": _one(service, user), "said": said}

_going = {}

def _open(models):
    """Serve over HTTP while one model after the other is loaded, every third of them bad; the port."""
    import json
    from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
    service = Serving(_reader)
    service.load(b"model 1")
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        def do_GET(self):
            body = json.dumps(service.answer(int(self.path[1:]))).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
        def log_message(self, *_):
            pass
        def handle_one_request(self):
            try:
                super().handle_one_request()
            except Exception:
                self.close_connection = True
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    _threading.Thread(target=server.serve_forever, daemon=True).start()
    enough, told = _threading.Event(), {"loads": 0, "error": ""}
    def load():
        number = 1
        while not enough.wait(0.001):
            number += 1
            told["loads"] += 1
            try:
                service.load(b"model %d cut" % number if number % 3 == 0 else b"model %d" % min(number, models))
            except Exception as error:
                told["error"] = "load: " + type(error).__name__ + ": " + str(error)[:100]
                break
    loader = _threading.Thread(target=load, daemon=True)
    loader.start()
    _going.update(enough=enough, loader=loader, told=told)
    return {"port": server.server_port}

def _close(patience):
    """Load no more; how many were loaded, and what a load raised."""
    _going["enough"].set()
    _going["loader"].join(patience)
    return _going["told"]
'''


def called(scene: str, bench: Bench, name: str, *arguments: Any) -> Any:
    """What one function of the driver told."""
    return values(bench, scene + _DRIVER, name, [list(arguments)], 60)[0]


def patience(bench: Bench) -> float:
    """Seconds for a request that does not have to wait."""
    return bench.deadline(_PATIENCE)


def stage(answer: Answer, _bench: Bench) -> str:
    """The source of the learner's class."""
    return answer[NAME]


EXERCISE = Exercise(
    id="10.4",
    title="A new model, and nobody notices",
    points=12,
    handed_in=(HandIn(NAME, "function"),),
    stage=stage,
    cluster=False,
    lesson=f"{LESSON}#Serving",
    hints=(
        Hint(
            "While a model is read, which may take long: what stands in the way of a request?",
            lambda situation: situation.failed("loading"),
        ),
        Hint(
            "How often does one request of yours look at self.model? What may happen between two looks?",
            lambda situation: situation.failed("between", "traffic"),
        ),
        Hint(
            "read raises. What have you thrown away by then, and what do you return?",
            lambda situation: situation.failed("damaged"),
        ),
        Hint("What is the last thing that load does, and is it one assignment?"),
    ),
    debrief=(
        "Read into a variable of your own, then one assignment. A request takes the model once, at its beginning, and "
        "keeps it. movies/services/serving.py does that, and refuses what is cut short by length and hash before any "
        "of it is used."
    ),
)


@EXERCISE.check("answers", "It answers from its model", weight=1)
@judged("not ready without a model; after load(data) it is ready and answers with version and titles")
def answers(scene: str, bench: Bench) -> str | Problem:
    """One model."""
    user = bench.random.randint(1, 900)
    told = called(scene, bench, "_simple", [["ready", 0], ["load", "model 1"], ["ready", 0], ["answer", user]])
    if told != [False, True, True, 1]:
        return Problem(
            f"ready(), load(...), ready(), answer({user}) gave {short(told[:3])} and an answer of {short(told[3])}",
            "ready() says whether there is a model; load returns True; an answer is {'version': ..., 'titles': ...}.",
            "titles are model.titles(model.best(user)), version is model.version.",
        )
    return "ready with its first model"


@EXERCISE.check("reload", "A new model is used", weight=2, needs=["answers"])
@judged("after another load(data) the answers are of the new model")
def reload(scene: str, bench: Bench) -> str | Problem:
    """Three models in a row."""
    script = [[what, value] for number in (1, 4, 9) for what, value in (("load", f"model {number}"), ("answer", 5))]
    told = called(scene, bench, "_simple", script)
    if told != [True, 1, True, 4, True, 9]:
        return Problem(
            f"models 1, 4 and 9 were loaded one after the other; answers were of {short(told[1::2])}",
            "The first model stays in use, or something of it is remembered.",
            "Follow the new model from read to the next answer.",
        )
    return "three models, each in use when it was loaded"


@EXERCISE.check("damaged", "A damaged model is refused", weight=2, needs=["answers"])
@judged("where read raises ValueError, load returns False, and the model before serves on")
def damaged(scene: str, bench: Bench) -> str | Problem:
    """Cut short, also as the very first one."""
    script = [["load", "model 2 cut"], ["ready", 0], ["load", "model 3"], ["load", "model 4 cut"], ["ready", 0]]
    told = called(scene, bench, "_simple", [*script, ["answer", 8], ["load", "model 5"], ["answer", 8]])
    if told != [False, False, True, False, True, 3, True, 5]:
        return Problem(
            f"a damaged model, then a good one, then a damaged one: load gave {short([told[0], told[2], told[3]])}, "
            f"ready {short([told[1], told[4]])}, answers {short(told[5])} and, after a good one, {short(told[7])}",
            "The error goes through, or the old model is put away before the new one is read.",
            "try: model = read(data), except ValueError: return False. Nothing else changes.",
        )
    return "refused twice, model 3 served on"


@EXERCISE.check("loading", "While it loads, it answers", weight=3, needs=["reload"])
@judged("reading a model may take long; meanwhile requests are answered from the old one")
def loading(scene: str, bench: Bench) -> str | Problem:
    """The reading stands still until a request has been answered."""
    told = called(scene, bench, "_loading", bench.random.randint(1, 900), patience(bench))
    if not told["stood"] and told["meanwhile"] == 1:
        raise Inconclusive("the second model was not being read when the request came")
    if told["meanwhile"] != 1:
        came = "no answer came" if told["meanwhile"] is None else f"the answer was {short(told['meanwhile'])}"
        return Problem(
            f"a request during the reading of model 2: {came}",
            "The request waits for the loading (a lock around both), or the old model is put away first.",
            "Read into a local variable, without a lock.",
        )
    if told["afterwards"] != 2:
        return Problem(
            f"after the reading the answer was {short(told['afterwards'])}",
            "The new model does not come into use.",
            "Assign it when it is read.",
        )
    return "answered from model 1 while model 2 was read"


@EXERCISE.check("traffic", "No failed request", weight=3, needs=["reload"])
@judged("of real requests over HTTP none fails while models are loaded, good ones and damaged ones")
def traffic(scene: str, bench: Bench) -> str | Problem:
    """Four clients, which are no part of the process that serves."""
    count, waits = 50, patience(bench)
    with outside(bench, "clients", 60) as clients, bench.talk(scene + _DRIVER, seconds=60) as talk:
        port = answered(talk, "_open", 10**6).get("port")
        told = clients.tell("ask", port if isinstance(port, int) else 0, 4, count, waits)
        loaded = answered(talk, "_close", waits)
    requests, loads = 4 * count, loaded.get("loads")
    failures = [*filter(None, [loaded.get("error")]), *told["failures"]]
    if failures:
        return Problem(
            f"{told['failed']} of {requests} requests failed while {loads} models were loaded; {failures[0]}",
            "For a moment there is no model, or a request uses parts of two.",
            "Take the model once at the beginning of a request; change it by one assignment.",
        )
    if told["versions"] < 2:
        raise Inconclusive("no model was changed while requests came")
    return f"{requests} requests, {told['versions']} versions, none failed"
