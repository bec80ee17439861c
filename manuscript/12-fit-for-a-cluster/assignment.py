# ---
# title: Fit for a cluster, the exercises
# chapter: "12"
# minutes: 90
# needs: processes of this machine, no cluster
# ---

# %% [markdown]
# # 12. Fit for a cluster: exercises
#
# Five small programs, and five things that a program owes to whoever runs it: to be told from outside, to answer three
# questions, to end without losing anything, to tell one story with others, and to count.
#
# You write each program as a function without arguments. The checks start it as a **process of its own**, more than
# one where that matters, with variables in its environment, and then ask it over HTTP, send it signals and read what
# it writes. It listens on `127.0.0.1` and the port that the variable `PORT` names.

# %% [markdown]
# Change only the cells that say `YOUR CODE HERE`. The cell below each of them runs the checks, as often as you like;
# `lab.hint("12.1")` asks you a question that may help. When your work is graded, some further checks run that you do
# not see here; the task says everything they look at. The standard library is enough, and all that there is when your
# work is graded.
#
# A cell with an answer must make sense by itself: write the imports that it needs into it.

# %%
from podlab.lab import start

lab = start("12")

# %% [markdown]
# ## Exercise 12.1: Told from outside
#
# | variable | what it may be | if it is not set |
# |---|---|---|
# | `PORT` | a whole number from 1 to 65535 | refused |
# | `MODEL_URL` | begins with `http://` or `https://` | refused |
# | `CALL_SECONDS` | a number above 0, at most 60 | `1.0` |
# | `LOG_LEVEL` | `DEBUG`, `INFO`, `WARNING` or `ERROR`, in capitals or not | `INFO` |
# | `API_KEY` | any text; it is a **secret** | refused |

# %% [markdown]
# - With settings that can be used it answers `GET /settings` with a JSON object of `port`, `model_url`,
#   `call_seconds`, `log_level` (in capitals), the two numbers as numbers.
# - Otherwise it ends with **status 2**, and says on standard error what is wrong, in words and without a traceback.
#   The message names **every** variable that cannot be used.
# - What only looks like a number is refused too: `nan`, `inf`, a port of `8080.5`.
# - The value of `API_KEY` is in no answer, and in nothing that the program writes.

# %% answer="12.1"
import json
import os
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


def configured():
    ### BEGIN SOLUTION
    problems = []

    def read(name, convert, default=None):
        text = os.environ.get(name, default)
        try:
            if text is None:
                raise ValueError("it is not set")
            return convert(text)
        except ValueError as error:
            problems.append(f"{name}: {error}")

    def port(text):
        if not 1 <= int(text) <= 65535:
            raise ValueError(f"{text} is not from 1 to 65535")
        return int(text)

    def url(text):
        if not text.startswith(("http://", "https://")):
            raise ValueError(f"{text} is no URL")
        return text

    def seconds(text):
        if not 0 < float(text) <= 60:
            raise ValueError(f"{text} is not above 0 and at most 60")
        return float(text)

    def level(text):
        if text.upper() not in ("DEBUG", "INFO", "WARNING", "ERROR"):
            raise ValueError(f"{text} is no level")
        return text.upper()

    settings = {
        "port": read("PORT", port),
        "model_url": read("MODEL_URL", url),
        "call_seconds": read("CALL_SECONDS", seconds, "1.0"),
        "log_level": read("LOG_LEVEL", level, "INFO"),
    }
    read("API_KEY", str)
    if problems:
        print("These settings cannot be used:", "; ".join(problems), file=sys.stderr)
        raise SystemExit(2)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            data = json.dumps(settings).encode()
            self.send_response(200 if self.path == "/settings" else 404)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

    return ThreadingHTTPServer(("127.0.0.1", settings["port"]), Handler).serve_forever()
    ### END SOLUTION
    raise NotImplementedError

# %% checks="12.1"

# %% alternative="12.1" title="a table of settings"
import json
import math
import os
import re
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer


def configured():
    def number(text):
        try:
            return float(text)
        except ValueError:
            return math.nan

    table = {
        "PORT": (None, lambda text: re.fullmatch("[0-9]{1,5}", text) and 0 < int(text) < 65536, int),
        "MODEL_URL": (None, lambda text: re.match("https?://", text), str),
        "CALL_SECONDS": ("1.0", lambda text: 0 < number(text) <= 60, float),
        "LOG_LEVEL": ("INFO", lambda text: text.upper() in ("DEBUG", "INFO", "WARNING", "ERROR"), str.upper),
        "API_KEY": (None, lambda text: True, str),
    }
    texts = {name: os.environ.get(name, default) for name, (default, _, _) in table.items()}
    wrong = [name for name, (_, fits, _) in table.items() if texts[name] is None or not fits(texts[name])]
    if wrong:
        sys.stderr.write(f"missing or unfit: {', '.join(wrong)}\n")
        sys.exit(2)
    settings = {name.lower(): table[name][2](text) for name, text in texts.items() if name != "API_KEY"}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps(settings).encode())

    HTTPServer(("127.0.0.1", settings["port"]), Handler).serve_forever()

# %% alternative="12.1" title="coroutines"
import asyncio
import json
import os
import sys


def configured():
    told, wrong = dict(os.environ), []
    try:
        port = int(told.get("PORT", "missing"))
        if port < 1 or port > 65535:
            raise ValueError(port)
    except ValueError:
        wrong.append("PORT must be from 1 to 65535")
    try:
        seconds = float(told.get("CALL_SECONDS", 1))
        if not (seconds > 0 and seconds <= 60):
            raise ValueError(seconds)
    except ValueError:
        wrong.append("CALL_SECONDS must be above 0, at most 60")
    level = told.get("LOG_LEVEL", "INFO").upper()
    if level not in ("DEBUG", "INFO", "WARNING", "ERROR"):
        wrong.append("LOG_LEVEL must be a level")
    if not told.get("MODEL_URL", "").startswith(("http://", "https://")):
        wrong.append("MODEL_URL must be a URL")
    if "API_KEY" not in told:
        wrong.append("API_KEY is missing")
    if wrong:
        print(*wrong, sep="\n", file=sys.stderr)
        os._exit(2)
    found = {"port": port, "model_url": told["MODEL_URL"], "call_seconds": seconds, "log_level": level}

    async def answer(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        data = json.dumps(found).encode()
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(data), data))
        await writer.drain()
        writer.close()

    async def serve():
        async with await asyncio.start_server(answer, "127.0.0.1", port) as server:
            await server.serve_forever()

    asyncio.run(serve())

# %% wrong="12.1" title="an exception is all that is said"
# fails refuses: with a traceback
# -         try:
# -             if text is None:
# -                 raise ValueError("it is not set")
# -             return convert(text)
# -         except ValueError as error:
# -             problems.append(f"{name}: {error}")
# +         if text is None:
# +             raise ValueError(f"{name} is not set")
# +         return convert(text)

# %% wrong="12.1" title="the default takes its place"
# fails refuses: it served nevertheless
# -             problems.append(f"{name}: {error}")
# +             if name in ("PORT", "MODEL_URL", "API_KEY"):
# +                 problems.append(f"{name}: {error}")
# +             return convert(default) if default else None

# %% wrong="12.1" title="it ends at the first problem"
# fails all: its message does not name
# -             problems.append(f"{name}: {error}")
# +             print(f"{name}: {error}", file=sys.stderr)
# +             raise SystemExit(2) from None

# %% wrong="12.1" title="everything is told, the secret too"
# fails secret: the value of API_KEY is in the answer
# -     read("API_KEY", str)
# +     settings["api_key"] = read("API_KEY", str)

# %% wrong="12.1" title="numbers stay texts"
# fails serves: and should be
# -         return float(text)
# +         return text

# %% wrong="12.1" title="nan is not below 0"
# fails odd: it served nevertheless
# -         if not 0 < float(text) <= 60:
# +         if float(text) <= 0 or float(text) > 60:

# %% wrong="12.1" title="no default"
# fails defaults: call_seconds
# -         "call_seconds": read("CALL_SECONDS", seconds, "1.0"),
# +         "call_seconds": read("CALL_SECONDS", seconds, "5.0"),

# %% [markdown]
# ## Exercise 12.2: Three questions
#
# The program reads a model at its start: the file that `MODEL` names. **That may take long**, and here it does:
# `open(...).read()` returns when we let it. To be of use it also needs another service, features: `GET FEATURES_URL`
# has status 200 when features is well.
#
# - `/startupz`: 200 once the model has been read, 503 before. It needs nobody else.
# - `/livez`: 200 as long as the program can answer at all, from the first moment on.
# - `/readyz`: 200 if the start is over **and** features is well **now**, else 503. It follows features both ways
#   within a second or so. If features hangs, the answer comes nevertheless, after at most about a second.

# %% answer="12.2"
import os
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.request import urlopen


def healthy():
    ### BEGIN SOLUTION
    started = threading.Event()

    def load():
        with open(os.environ["MODEL"]) as file:
            file.read()
        started.set()

    def features():
        try:
            with urlopen(os.environ["FEATURES_URL"], timeout=1) as answer:
                return answer.status == 200
        except OSError:
            return False

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            questions = {
                "/livez": lambda: True,
                "/startupz": started.is_set,
                "/readyz": lambda: started.is_set() and features(),
            }
            yes = questions.get(self.path, lambda: False)()
            self.send_response(200 if yes else 503)
            self.send_header("Content-Length", "0")
            self.end_headers()

    threading.Thread(target=load, daemon=True).start()
    return ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
    ### END SOLUTION
    raise NotImplementedError

# %% checks="12.2"

# %% alternative="12.2" title="features is asked in the background"
import http.server
import os
import threading
import urllib.request


def healthy():
    state = {"started": False, "well": False}

    def read():
        state["model"] = open(os.environ["MODEL"]).read()
        state["started"] = True

    def look():
        while True:
            try:
                urllib.request.urlopen(os.environ["FEATURES_URL"], timeout=0.5).close()
                state["well"] = True
            except OSError:
                state["well"] = False
            threading.Event().wait(0.1)

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            if self.path == "/startupz":
                yes = state["started"]
            elif self.path == "/readyz":
                yes = state["started"] and state["well"]
            else:
                yes = self.path == "/livez"
            self.send_response(200 if yes else 503)
            self.end_headers()

    for work in (read, look):
        threading.Thread(target=work, daemon=True).start()
    http.server.HTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()

# %% alternative="12.2" title="coroutines"
import asyncio
import os
import threading
from urllib.parse import urlsplit


def healthy():
    started = []

    def read():
        with open(os.environ["MODEL"]) as file:
            started.append(file.read())

    async def well():
        url = urlsplit(os.environ["FEATURES_URL"])
        try:
            async with asyncio.timeout(0.8):
                reader, writer = await asyncio.open_connection(url.hostname, url.port)
                writer.write(b"GET / HTTP/1.0\r\n\r\n")
                line = await reader.readline()
                writer.close()
                return line.split()[1:2] == [b"200"]
        except (OSError, TimeoutError):
            return False

    async def answer(reader, writer):
        head = await reader.readuntil(b"\r\n\r\n")
        path = head.split()[1]
        yes = path == b"/livez" or bool(started) and (path == b"/startupz" or path == b"/readyz" and await well())
        writer.write(b"HTTP/1.1 %d x\r\nContent-Length: 0\r\n\r\n" % (200 if yes else 503))
        await writer.drain()
        writer.close()

    async def serve():
        server = await asyncio.start_server(answer, "127.0.0.1", int(os.environ["PORT"]))
        await server.serve_forever()

    threading.Thread(target=read, daemon=True).start()
    asyncio.run(serve())

# %% wrong="12.2" title="first the model, then the port"
# fails early: nobody listens
# -     threading.Thread(target=load, daemon=True).start()
# +     load()

# %% wrong="12.2" title="one answer to three questions"
# fails early: GET /livez gave status 503
# -             yes = questions.get(self.path, lambda: False)()
# +             yes = questions["/readyz"]()

# %% wrong="12.2" title="liveness asks features"
# fails lives: GET /livez gave status 503
# -                 "/livez": lambda: True,
# +                 "/livez": lambda: not started.is_set() or features(),

# %% wrong="12.2" title="ready is ready"
# fails follows: when features answered 503
# -                 "/readyz": lambda: started.is_set() and features(),
# +                 "/readyz": started.is_set,

# %% wrong="12.2" title="an error ends the answer"
# fails follows: when features answered 503, GET /readyz gave the connection broke
# -         try:
# -             with urlopen(os.environ["FEATURES_URL"], timeout=1) as answer:
# -                 return answer.status == 200
# -         except OSError:
# -             return False
# +         with urlopen(os.environ["FEATURES_URL"], timeout=1) as answer:
# +             return answer.status == 200

# %% wrong="12.2" title="no patience, no end"
# fails hangs: while features hung, GET /readyz gave no answer
# -             with urlopen(os.environ["FEATURES_URL"], timeout=1) as answer:
# +             with urlopen(os.environ["FEATURES_URL"]) as answer:

# %% wrong="12.2" title="one at a time"
# fails hangs: while features hung, GET /livez gave
# - from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
# + from http.server import BaseHTTPRequestHandler, HTTPServer
#
# -             with urlopen(os.environ["FEATURES_URL"], timeout=1) as answer:
# +             with urlopen(os.environ["FEATURES_URL"]) as answer:
#
# -     return ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
# +     return HTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()

# %% wrong="12.2" title="the start waits for features"
# fails alone: The start waits for features
# -             file.read()
# +             file.read()
# +         while not features():
# +             threading.Event().wait(0.1)

# %% wrong="12.2" title="it never notes that it has started"
# fails started: when all was there, GET /startupz gave status 503
# -         started.set()
# +         started.is_set()

# %% [markdown]
# ## Exercise 12.3: Let me finish
#
# `GET /work` answers with status 200 and what `GET FEATURES_URL` says. That may take a while. `GET /readyz` has
# status 200. When `SIGTERM` comes, the program ends in four steps:
#
# 1. At once: `/readyz` gives 503. All else goes on, new connections too, for `DRAIN_SECONDS`.
# 2. Then it takes no more connections.
# 3. Requests that are under way are still answered, but after `STOP_SECONDS` it waits no longer.
# 4. It ends, with status 0.

# %% answer="12.3"
import os
import signal
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.request import urlopen


def drained():
    ### BEGIN SOLUTION
    told, idle = threading.Event(), threading.Condition()
    under_way = 0

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            nonlocal under_way
            with idle:
                under_way += 1
            try:
                if self.path == "/readyz":
                    self.answer(503 if told.is_set() else 200, b"")
                else:
                    with urlopen(os.environ["FEATURES_URL"]) as found:
                        self.answer(200, found.read())
            finally:
                with idle:
                    under_way -= 1
                    idle.notify_all()

        def answer(self, status, data):
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 64

    signal.signal(signal.SIGTERM, lambda *_: told.set())
    server = Server(("127.0.0.1", int(os.environ["PORT"])), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    while not told.wait(0.1):
        pass
    threading.Event().wait(float(os.environ["DRAIN_SECONDS"]))
    server.shutdown()
    server.server_close()
    with idle:
        idle.wait_for(lambda: under_way == 0, float(os.environ["STOP_SECONDS"]))
    return
    ### END SOLUTION
    raise NotImplementedError

# %% checks="12.3"

# %% alternative="12.3" title="coroutines"
import asyncio
import os
import signal
from urllib.parse import urlsplit


def drained():
    async def fetched():
        url = urlsplit(os.environ["FEATURES_URL"])
        reader, writer = await asyncio.open_connection(url.hostname, url.port)
        writer.write(b"GET / HTTP/1.0\r\n\r\n")
        text = (await reader.read()).partition(b"\r\n\r\n")[2]
        writer.close()
        return text

    async def serve():
        told, tasks = asyncio.Event(), set()

        async def answer(reader, writer):
            task = asyncio.current_task()
            tasks.add(task)
            try:
                head = await reader.readuntil(b"\r\n\r\n")
                if head.startswith(b"GET /readyz"):
                    status, text = (503 if told.is_set() else 200), b""
                else:
                    status, text = 200, await fetched()
                writer.write(b"HTTP/1.1 %d x\r\nContent-Length: %d\r\n\r\n%s" % (status, len(text), text))
                await writer.drain()
                writer.close()
            finally:
                tasks.discard(task)

        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, told.set)
        server = await asyncio.start_server(answer, "127.0.0.1", int(os.environ["PORT"]))
        await told.wait()
        await asyncio.sleep(float(os.environ["DRAIN_SECONDS"]))
        server.close()
        if tasks:
            await asyncio.wait(set(tasks), timeout=float(os.environ["STOP_SECONDS"]))
        os._exit(0)

    asyncio.run(serve())

# %% alternative="12.3" title="a timer, and threads that are joined"
import http.server
import os
import signal
import threading
import time
import urllib.request


def drained():
    going, threads = [], []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            data, status = b"", 200
            if self.path == "/work":
                data = urllib.request.urlopen(os.environ["FEATURES_URL"]).read()
            elif going:
                status = 503
            self.send_response(status)
            self.end_headers()
            self.wfile.write(data)

    class Server(http.server.HTTPServer):
        request_queue_size = 100

        def process_request(self, request, address):
            def work():
                self.finish_request(request, address)
                self.shutdown_request(request)

            threads.append(threading.Thread(target=work, daemon=True))
            threads[-1].start()

    server = Server(("127.0.0.1", int(os.environ["PORT"])), Handler)

    def leave(*_):
        going.append(True)
        threading.Timer(float(os.environ["DRAIN_SECONDS"]), server.shutdown).start()

    signal.signal(signal.SIGTERM, leave)
    server.serve_forever(0.05)
    server.socket.close()
    end = time.monotonic() + float(os.environ["STOP_SECONDS"])
    for thread in threads:
        thread.join(max(0, end - time.monotonic()))

# %% wrong="12.3" title="SIGTERM is not handled"
# fails in-flight: its client got no answer
# fails ends: it ended by signal 15
# -     signal.signal(signal.SIGTERM, lambda *_: told.set())

# %% wrong="12.3" title="it closes at once"
# fails unready: It stops listening at once
# fails load: requests failed
# -     threading.Event().wait(float(os.environ["DRAIN_SECONDS"]))

# %% wrong="12.3" title="it goes without a word"
# fails unready: after SIGTERM /readyz gave status 200
# -                     self.answer(503 if told.is_set() else 200, b"")
# +                     self.answer(200, b"")

# %% wrong="12.3" title="what is under way goes with it"
# fails in-flight: threads that are daemons end with it
# -     with idle:
# -         idle.wait_for(lambda: under_way == 0, float(os.environ["STOP_SECONDS"]))

# %% wrong="12.3" title="it waits for ever"
# fails bounded: It waits for what is under way without a limit
# -         idle.wait_for(lambda: under_way == 0, float(os.environ["STOP_SECONDS"]))
# +         idle.wait_for(lambda: under_way == 0)

# %% wrong="12.3" title="it never ends"
# fails ends: it was still there
# -     return
# +     return threading.Event().wait()

# %% wrong="12.3" title="it listens until nothing is under way"
# fails closes: it still listened
# -     threading.Event().wait(float(os.environ["DRAIN_SECONDS"]))
# +     threading.Event().wait(float(os.environ["DRAIN_SECONDS"]))
# +     with idle:
# +         idle.wait_for(lambda: under_way == 0, float(os.environ["STOP_SECONDS"]))
#
# -     with idle:
# -         idle.wait_for(lambda: under_way == 0, float(os.environ["STOP_SECONDS"]))

# %% [markdown]
# ## Exercise 12.4: One story out of many logs
#
# The same program runs three times, as `SERVICE` ui, serving and features; each asks the one whose address is in
# `NEXT_URL`. `GET /ask?user=...` asks `NEXT_URL` with the same path and query, and answers with status 200 and what
# came from there (502 if nothing came). Other paths have status 404.
#
# For each request to `/ask` it writes one line of JSON to standard output:
# `service`, `trace_id`, `span_id` (its own), `parent_id` (the span of who asked, or `null`), `user` (decoded) and
# `status`, a number. Whatever a user is called, it stays one line. Requests come at the same time.

# %% [markdown]
# A request brings `traceparent: 00-TRACE-SPAN-01`: 32 hexadecimal digits (in small letters, not all of them 0) that
# name the whole story, 16 that name the step of whoever asks. The program makes a new span id for its own step, and
# sends the header on with the **same trace** and **its own span**. Where no header comes, or one that is not well
# formed, it begins a new trace.

# %% answer="12.4"
import json
import os
import re
import secrets
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit
from urllib.request import Request, urlopen


def traced():
    ### BEGIN SOLUTION
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            came = re.fullmatch(
                "00-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}", self.headers.get("traceparent", "")
            )
            if came and came[1].strip("0"):
                trace, parent = came[1], came[2]
            else:
                trace, parent = secrets.token_hex(16), None
            span, status, text = secrets.token_hex(8), 404, b""
            url = urlsplit(self.path)
            if url.path == "/ask":
                question = Request(
                    os.environ["NEXT_URL"] + self.path, headers={"traceparent": f"00-{trace}-{span}-01"}
                )
                try:
                    with urlopen(question, timeout=60) as answer:
                        status, text = 200, answer.read()
                except OSError:
                    status = 502
            self.send_response(status)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)
            line = {
                "service": os.environ["SERVICE"],
                "trace_id": trace,
                "span_id": span,
                "parent_id": parent,
                "user": parse_qs(url.query).get("user", [""])[0],
                "status": status,
            }
            print(json.dumps(line), flush=True)

    return ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
    ### END SOLUTION
    raise NotImplementedError

# %% checks="12.4"

# %% alternative="12.4" title="coroutines, and the trace in a ContextVar"
import asyncio
import contextvars
import json
import os
import secrets
from urllib.parse import parse_qs, urlsplit


def traced():
    trace = contextvars.ContextVar("trace")

    def begun(header):
        parts = header.split("-")
        digits = all(set(part) <= set("0123456789abcdef") for part in parts)
        if digits and [len(part) for part in parts] == [2, 32, 16, 2] and parts[0] == "00" and set(parts[1]) != {"0"}:
            return parts[1], secrets.token_hex(8), parts[2]
        return secrets.token_hex(16), secrets.token_hex(8), None

    async def fetched(path):
        url, (id, span, _) = urlsplit(os.environ["NEXT_URL"]), trace.get()
        reader, writer = await asyncio.open_connection(url.hostname, url.port)
        writer.write(f"GET {path} HTTP/1.0\r\ntraceparent: 00-{id}-{span}-01\r\n\r\n".encode())
        text = (await reader.read()).partition(b"\r\n\r\n")[2]
        writer.close()
        return text

    async def answer(reader, writer):
        first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        trace.set(begun(headers.get("traceparent", "")))
        path, status, text = first.split()[1], 404, b""
        if path.startswith("/ask?"):
            try:
                status, text = 200, await fetched(path)
            except OSError:
                status = 502
            names = dict(zip(("trace_id", "span_id", "parent_id"), trace.get(), strict=True))
            user = parse_qs(urlsplit(path).query)["user"][0]
            print(json.dumps({"service": os.environ["SERVICE"], **names, "user": user, "status": status}), flush=True)
        writer.write(b"HTTP/1.1 %d x\r\nContent-Length: %d\r\n\r\n%s" % (status, len(text), text))
        await writer.drain()
        writer.close()

    async def serve():
        server = await asyncio.start_server(answer, "127.0.0.1", int(os.environ["PORT"]))
        await server.serve_forever()

    asyncio.run(serve())

# %% alternative="12.4" title="the logging module with a formatter"
import json
import logging
import os
import re
import sys
import threading
import urllib.parse
import urllib.request
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


def traced():
    here = threading.local()

    class Lines(logging.Formatter):
        def format(self, record):
            return json.dumps({"service": os.environ["SERVICE"], **vars(here), **record.args})

    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(Lines())
    log = logging.getLogger("traced")
    log.addHandler(handler)
    log.setLevel("INFO")

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            found = re.match("^00-(?!0{32})([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}$", self.headers["traceparent"] or "")
            here.trace_id, here.parent_id = found.groups() if found else (uuid.uuid4().hex, None)
            here.span_id = uuid.uuid4().hex[:16]
            parts = urllib.parse.urlsplit(self.path)
            if parts.path != "/ask":
                return self.send_error(404)
            header = {"traceparent": f"00-{here.trace_id}-{here.span_id}-01"}
            asked = urllib.request.Request(os.environ["NEXT_URL"] + self.path, headers=header)
            try:
                status, text = 200, urllib.request.urlopen(asked).read()
            except OSError:
                status, text = 502, b""
            user = urllib.parse.unquote(parts.query.partition("user=")[2])
            log.info("request", {"user": user, "status": status})
            self.send_response(status)
            self.end_headers()
            self.wfile.write(text)

    ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()

# %% wrong="12.4" title="every hop begins anew"
# fails hops: Each hop begins a trace of its own
# -                     os.environ["NEXT_URL"] + self.path, headers={"traceparent": f"00-{trace}-{span}-01"}
# +                     os.environ["NEXT_URL"] + self.path

# %% wrong="12.4" title="the header is handed on as it came"
# fails hops: handed on as it came
# -                     os.environ["NEXT_URL"] + self.path, headers={"traceparent": f"00-{trace}-{span}-01"}
# +                     os.environ["NEXT_URL"] + self.path, headers={"traceparent": f"00-{trace}-{parent}-01"}

# %% wrong="12.4" title="a log for people"
# fails logs: has 0 JSON lines about that
# -             print(json.dumps(line), flush=True)
# +             print(" ".join(f"{key}={value}" for key, value in line.items()), flush=True)

# %% wrong="12.4" title="nobody begins a trace"
# fails fresh: the trace id in the log of ui is None
# -                 trace, parent = secrets.token_hex(16), None
# +                 trace, parent = None, None

# %% wrong="12.4" title="one trace for the whole life"
# fails fresh: have the same trace id
# -     ### BEGIN SOLUTION
# +     ### BEGIN SOLUTION
# +     first = secrets.token_hex(16)
# +
#
# -                 trace, parent = secrets.token_hex(16), None
# +                 trace, parent = first, None

# %% wrong="12.4" title="whatever comes is believed"
# fails malformed: believed
# -             came = re.fullmatch(
# -                 "00-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}", self.headers.get("traceparent", "")
# -             )
# -             if came and came[1].strip("0"):
# +             came = self.headers.get("traceparent", "").split("-")
# +             if len(came) == 4:

# %% wrong="12.4" title="a line put together by hand"
# fails forged: put together by hand
# -             print(json.dumps(line), flush=True)
# +             parts = [f'"{key}": ' + (str(value) if key == "status" else f'"{value}"') for key, value in line.items()]
# +             print("{" + ", ".join(parts) + "}", flush=True)

# %% wrong="12.4" title="the good weather is taken for granted"
# fails nothing: An error of the one who is asked
# -                 try:
# -                     with urlopen(question, timeout=60) as answer:
# -                         status, text = 200, answer.read()
# -                 except OSError:
# -                     status = 502
# +                 with urlopen(question, timeout=60) as answer:
# +                     status, text = 200, answer.read()

# %% wrong="12.4" title="whatever the path"
# fails nothing: Every path is answered alike
# -             if url.path == "/ask":
# +             if url.path:

# %% wrong="12.4" title="only what went well is logged"
# fails nothing: the line that is needed most is missing
# -             print(json.dumps(line), flush=True)
# +             if status == 200:
# +                 print(json.dumps(line), flush=True)

# %% wrong="12.4" title="the trace in one place for all"
# fails mixed: two requests at once
# -     ### BEGIN SOLUTION
# +     ### BEGIN SOLUTION
# +     trace = span = parent = None
# +
#
# -         def do_GET(self):
# +         def do_GET(self):
# +             nonlocal trace, span, parent

# %% [markdown]
# ## Exercise 12.5: Counted
#
# `GET /work` (with any query) answers with the status and the text of `GET FEATURES_URL`, or with 502 if features
# cannot be reached. Other paths have status 404. Requests come at the same time. `GET /metrics` tells, as
# `text/plain` in Prometheus' format, about all requests but those to itself:
#
# - `requests_total{path="/work",code="200"}`: how many answers, by path and status. Any path other than `/work`
#   counts as `other`: nobody may invent a series.
# - `request_seconds`, a histogram of how long requests took, all paths together, with one bucket for each bound in
#   `BOUNDS` (such as `0.1,0.4`), each written as it is there, and `+Inf`; with `request_seconds_sum` and
#   `request_seconds_count`.

# %% answer="12.5"
import os
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.error import HTTPError
from urllib.request import urlopen


def measured():
    ### BEGIN SOLUTION
    bounds = [*os.environ["BOUNDS"].split(","), "+Inf"]
    lock, requests, buckets, total = threading.Lock(), Counter(), Counter(), 0.0

    def count(path, code, seconds):
        nonlocal total
        with lock:
            requests[path, code] += 1
            total += seconds
            for bound in bounds:
                buckets[bound] += seconds <= float(bound)

    def metrics():
        with lock:
            lines = ["# TYPE requests_total counter"]
            for (path, code), number in requests.items():
                lines.append(f'requests_total{{path="{path}",code="{code}"}} {number}')
            lines.append("# TYPE request_seconds histogram")
            for bound in bounds:
                lines.append(f'request_seconds_bucket{{le="{bound}"}} {buckets[bound]}')
            lines.append(f"request_seconds_sum {total}")
            lines.append(f"request_seconds_count {sum(requests.values())}")
        return "\n".join(lines) + "\n"

    def work():
        try:
            with urlopen(os.environ["FEATURES_URL"], timeout=60) as answer:
                return 200, answer.read()
        except HTTPError as error:
            return error.code, b""
        except OSError:
            return 502, b""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            if self.path == "/metrics":
                return self.answer(200, metrics().encode())
            began = time.monotonic()
            path = "/work" if self.path.partition("?")[0] == "/work" else "other"
            status, data = work() if path == "/work" else (404, b"")
            self.answer(status, data)
            count(path, status, time.monotonic() - began)

        def answer(self, status, data):
            self.send_response(status)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

    class Server(ThreadingHTTPServer):
        request_queue_size = 64

    return Server(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
    ### END SOLUTION
    raise NotImplementedError

# %% checks="12.5"

# %% alternative="12.5" title="coroutines need no lock"
import asyncio
import math
import os
import time
from urllib.parse import urlsplit


def measured():
    edges, times, counts = os.environ["BOUNDS"].split(",") + ["+Inf"], [], {}

    def told():
        for (path, code), number in sorted(counts.items()):
            yield f'requests_total{{code="{code}",path="{path}"}} {number}'
        for edge in edges:
            limit = math.inf if edge == "+Inf" else float(edge)
            yield f'request_seconds_bucket{{le="{edge}"}} {len([one for one in times if one <= limit])}'
        yield f"request_seconds_sum {sum(times):f}"
        yield f"request_seconds_count {len(times)}"

    async def work():
        url = urlsplit(os.environ["FEATURES_URL"])
        try:
            reader, writer = await asyncio.open_connection(url.hostname, url.port)
            writer.write(b"GET / HTTP/1.0\r\n\r\n")
            head, _, text = (await reader.read()).partition(b"\r\n\r\n")
            writer.close()
            return int(head.split()[1]), text
        except OSError:
            return 502, b""

    async def answer(reader, writer):
        path = (await reader.readuntil(b"\r\n\r\n")).split()[1].decode().split("?")[0]
        began, status, text = time.monotonic(), 404, b""
        if path == "/metrics":
            status, text = 200, "".join(f"{line}\n" for line in told()).encode()
        elif path == "/work":
            status, text = await work()
        kind = b"text/plain; version=0.0.4"
        writer.write(b"HTTP/1.1 %d x\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n" % (status, kind, len(text)))
        writer.write(text)
        await writer.drain()
        writer.close()
        if path != "/metrics":
            key = ("/work" if path == "/work" else "other", status)
            counts[key] = counts.get(key, 0) + 1
            times.append(time.monotonic() - began)

    async def serve():
        server = await asyncio.start_server(answer, "127.0.0.1", int(os.environ["PORT"]), backlog=100)
        await server.serve_forever()

    asyncio.run(serve())

# %% alternative="12.5" title="buckets are added up when they are told"
import bisect
import http.server
import itertools
import os
import threading
import time
import urllib.error
import urllib.request


def measured():
    bounds = os.environ["BOUNDS"].split(",")
    alone, seen = [0] * (len(bounds) + 1), {}
    lock, together = threading.RLock(), [0.0]

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            begin = time.perf_counter()
            path = self.path.split("?")[0]
            if path == "/metrics":
                return self.say(200, self.metrics())
            status, text = 404, ""
            try:
                if path == "/work":
                    status, text = 200, urllib.request.urlopen(os.environ["FEATURES_URL"]).read().decode()
            except urllib.error.HTTPError as error:
                status = error.code
            except urllib.error.URLError:
                status = 502
            try:
                self.say(status, text)
            finally:
                took = time.perf_counter() - begin
                with lock:
                    key = f'path="{path if path == "/work" else "other"}",code="{status}"'
                    seen[key] = seen.get(key, 0) + 1
                    together[0] += took
                    alone[bisect.bisect_left([float(bound) for bound in bounds], took)] += 1

        def metrics(self):
            with lock:
                lines = ["# HELP requests_total Answers.", "# TYPE requests_total counter"]
                lines += [f"requests_total{{{key}}} {number}" for key, number in seen.items()]
                sums = itertools.accumulate(alone)
                lines += [f'request_seconds_bucket{{le="{b}"}} {n}' for b, n in zip([*bounds, "+Inf"], sums)]
                lines += [f"request_seconds_sum {together[0]}", f"request_seconds_count {sum(alone)}", ""]
            return "\n".join(lines)

        def say(self, status, text):
            self.send_response(status)
            self.send_header("Content-Type", "text/plain")
            self.end_headers()
            self.wfile.write(text.encode())

    server = http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler)
    server.socket.listen(64)
    server.serve_forever()

# %% wrong="12.5" title="each request in one bucket"
# fails histogram: Each request is put into one bucket only
# -                 buckets[bound] += seconds <= float(bound)
# +                 if seconds <= float(bound):
# +                     buckets[bound] += 1
# +                     break

# %% wrong="12.5" title="milliseconds"
# fails histogram: the times are no seconds
# -             count(path, status, time.monotonic() - began)
# +             count(path, status, 1000 * (time.monotonic() - began))

# %% wrong="12.5" title="the sum in milliseconds"
# fails sum: milliseconds
# -             total += seconds
# +             total += 1000 * seconds

# %% wrong="12.5" title="no last bucket"
# fails histogram: A bucket is missing
# -     bounds = [*os.environ["BOUNDS"].split(","), "+Inf"]
# +     bounds = os.environ["BOUNDS"].split(",")

# %% wrong="12.5" title="only successes"
# fails counter: requests_total
# -             count(path, status, time.monotonic() - began)
# +             if status == 200:
# +                 count(path, status, time.monotonic() - began)

# %% wrong="12.5" title="questions about the counts are counted"
# fails counter: /metrics is counted too
# -             if self.path == "/metrics":
# +             if self.path == "/metrics":
# +                 count("other", 200, 0.0)

# %% wrong="12.5" title="an error is not counted"
# fails away: requests that matter most are missing
# -         except OSError:
# -             return 502, b""
#
# -             status, data = work() if path == "/work" else (404, b"")
# +             try:
# +                 status, data = work() if path == "/work" else (404, b"")
# +             except OSError:
# +                 return self.answer(502, b"")

# %% wrong="12.5" title="every path is a series"
# fails labels: The path becomes a label as it came
# -             path = "/work" if self.path.partition("?")[0] == "/work" else "other"
# +             path = self.path.partition("?")[0]
# +             path = "other" if path == "/nothing" else path

# %% wrong="12.5" title="numbered at the beginning"
# fails at-once: A count is read, and written back later
# -     def count(path, code, seconds):
# +     def count(path, code, seconds, before):
#
# -             requests[path, code] += 1
# +             requests[path, code] = before[path] + 1
#
# -             path = "/work" if self.path.partition("?")[0] == "/work" else "other"
# +             path = "/work" if self.path.partition("?")[0] == "/work" else "other"
# +             status, before = None, {path: dict(requests)}
#
# -             status, data = work() if path == "/work" else (404, b"")
# +             status, data = work() if path == "/work" else (404, b"")
# +             before = {path: before[path].get((path, status), 0)}
#
# -             count(path, status, time.monotonic() - began)
# +             count(path, status, time.monotonic() - began, before)
