"""The clients of exercise 10.4: real requests over HTTP, whose answers are judged where the service cannot reach."""

import http.client
import json
import threading

import outside  # noqa: F401 - nobody looks into this process

HOST = "127.0.0.1"


def ask(port, clients, count, patience):
    """So many requests of each client; how many models have answered, how many failed, and the first failures.

    A client that has waited in vain for `patience` seconds asks no more.
    """
    versions, failures, lock = set(), [], threading.Lock()

    def client(number):
        link = http.client.HTTPConnection(HOST, port, timeout=patience)
        for turn in range(count):
            user = number * 100 + turn % 100
            try:
                link.request("GET", f"/{user}")
                told = right(json.loads(link.getresponse().read()), user)
            except Exception as error:
                told = f"{type(error).__name__}: {str(error)[:100]}"
                link.close()
            with lock:
                versions.add(told) if isinstance(told, int) else failures.append(told)
            if isinstance(told, str) and told.startswith("TimeoutError"):
                break
        link.close()

    threads = [threading.Thread(target=client, args=[number]) for number in range(clients)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    return {"versions": len(versions), "failed": len(failures), "failures": failures[:3]}


def right(answer, user):
    """The version of an answer if it is one of a single model, else what is wrong with it."""
    if not isinstance(answer, dict) or set(answer) != {"version", "titles"} or type(answer["version"]) is not int:
        return f"{answer!r} is no {{'version': ..., 'titles': [...]}}"[:300]
    first = answer["version"] * 1000 + user
    if answer["titles"] != [f"title {number}" for number in (first, first + 1)]:
        return f"version {answer['version']!r} with {answer['titles']!r}"[:300]
    return answer["version"]
