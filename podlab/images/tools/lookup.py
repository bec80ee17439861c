"""lookup: print the addresses of a name as this container's resolver gives them, one a line; exits 2 if none."""

from __future__ import annotations

import socket
import sys
from collections.abc import Sequence


def main(arguments: Sequence[str]) -> int:
    """Run with command-line arguments; returns the exit status."""
    if len(arguments) != 1 or arguments[0].startswith("-"):
        print("usage: lookup NAME", file=sys.stderr)
        return 64
    try:
        found = socket.getaddrinfo(arguments[0], None, proto=socket.IPPROTO_TCP)
    except socket.gaierror as error:
        print(f"lookup: {arguments[0]}: {error.strerror}", file=sys.stderr)
        return 2
    for address in dict.fromkeys(entry[4][0] for entry in found):
        print(address)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
