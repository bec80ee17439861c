"""fetch: get a URL and print the body. Exits as curl does: 0, 22 (HTTP 400 and above with -f), 6, 7, 28."""

from __future__ import annotations

import argparse
import http.client
import socket
import ssl
import sys
from collections.abc import Sequence
from urllib.parse import SplitResult, urlsplit

UNKNOWN_HOST, NOT_CONNECTED, HTTP_ERROR, TIMED_OUT, BROKEN = 6, 7, 22, 28, 56


def main(arguments: Sequence[str]) -> int:
    """Run with command-line arguments; returns the exit status."""
    options = _parser().parse_args(arguments)
    url = urlsplit(options.url if "://" in options.url else f"http://{options.url}")
    if url.scheme not in ("http", "https") or not url.hostname:
        print(f"fetch: {options.url}: only http:// and https:// URLs with a host", file=sys.stderr)
        return 3
    try:
        return _get(options, url)
    except socket.gaierror as error:
        return _say(UNKNOWN_HOST, f"no address for {url.hostname}: {error.strerror}")
    except TimeoutError:
        return _say(TIMED_OUT, f"no answer from {url.netloc} within {options.timeout:g} s")
    except ConnectionRefusedError:
        return _say(NOT_CONNECTED, f"connection refused by {url.netloc}")
    except (OSError, http.client.HTTPException) as error:
        return _say(BROKEN, f"{url.netloc}: {error or type(error).__name__}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="fetch", description="Get a URL and print the body.")
    parser.add_argument("url")
    parser.add_argument("-t", "--timeout", type=float, default=10.0, metavar="SECONDS")
    parser.add_argument("-i", "--include", action="store_true", help="print status and headers first")
    parser.add_argument("-f", "--fail", action="store_true", help="exit with 22 on status 400 and above")
    parser.add_argument("-H", "--header", action="append", default=[], metavar="NAME:VALUE")
    parser.add_argument("-d", "--data", help="send this text by POST")
    parser.add_argument("-k", "--insecure", action="store_true", help="do not verify certificates")
    return parser


def _get(options: argparse.Namespace, url: SplitResult) -> int:
    connection = _connection(options, url)
    target = (url.path or "/") + (f"?{url.query}" if url.query else "")
    headers = dict(line.partition(":")[::2] for line in options.header)
    method = "GET" if options.data is None else "POST"
    body = None if options.data is None else options.data.encode()
    connection.request(method, target, body, {name: value.strip() for name, value in headers.items()})
    response = connection.getresponse()
    out = sys.stdout.buffer
    if options.include:
        lines = [f"HTTP/{response.version / 10:.1f} {response.status} {response.reason}"]
        lines += [f"{name}: {value}" for name, value in response.getheaders()]
        out.write("\r\n".join([*lines, "", ""]).encode())
    while chunk := response.read(65536):
        out.write(chunk)
    out.flush()
    return HTTP_ERROR if options.fail and response.status >= 400 else 0


def _connection(options: argparse.Namespace, url: SplitResult) -> http.client.HTTPConnection:
    host = url.hostname or ""
    if url.scheme == "http":
        return http.client.HTTPConnection(host, url.port, timeout=options.timeout)
    context = ssl._create_unverified_context() if options.insecure else ssl.create_default_context()
    return http.client.HTTPSConnection(host, url.port, timeout=options.timeout, context=context)


def _say(status: int, message: str) -> int:
    print(f"fetch: {message}", file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
