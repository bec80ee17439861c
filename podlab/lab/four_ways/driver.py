"""The program of Spark's driver in pods: it counts when it is asked to by HTTP. Beside it lie words.py and lines."""

import json
import sys
import time
from http.server import BaseHTTPRequestHandler, HTTPServer

from measured import measured
from pyspark.sql import SparkSession
from words import counted

with open("/program/lines.json") as file:  # noqa: PTH123
    lines = json.load(file)
workers, splits, reducers = map(int, sys.argv[1:])
context = SparkSession.builder.getOrCreate().sparkContext
context.addPyFile("/program/words.py")


def run(kill):
    """Count, when all executors are there."""
    while context._jsc.sc().getExecutorMemoryStatus().size() < workers + 1:  # the driver is one of them
        time.sleep(0.1)
    began = time.perf_counter()
    found = measured(context, counted(context, lines, splits, reducers, kill).collect)
    told = {"seconds": time.perf_counter() - began, "bytes": found.shuffled, "tasks": found.tasks}
    return told | {"lost": list(found.lost), "pairs": found.value, "stages": found.stage_sizes}


class Door(BaseHTTPRequestHandler):
    """POST /calm or /killed."""

    def do_POST(self):
        """Answer with what was measured."""
        answer = json.dumps(run(self.path == "/killed")).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_words):
        """Say nothing: the log is the program's own."""


context.parallelize(range(workers), workers).map(str).collect()
server = HTTPServer(("", 8099), Door)
print("ready", flush=True)
server.serve_forever()
