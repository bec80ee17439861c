"""The resolver that a cluster's DNS asks for names that are not the cluster's, where its user names one."""

from __future__ import annotations

import ipaddress
import os
import re

from podlab.errors import UsageError

VARIABLE = "PODLAB_RESOLVER"
_DNS_PORT = 53
_WITH_PORT = re.compile(r"(?:\[(.+)\]|([^:]+)):([0-9]{1,5})")


def resolver() -> list[str | int]:
    """Address and port from VARIABLE (`192.0.2.1`, `127.0.0.1:5353`, `[::1]:5353`); [] without one; UsageError."""
    given = os.environ.get(VARIABLE, "").strip()
    if not given:
        return []
    try:
        if match := _WITH_PORT.fullmatch(given):
            if not 1 <= (port := int(match[3])) <= 65535:
                raise ValueError(f"{port} is not a port")
            return [str(ipaddress.ip_address(match[1] or match[2])), port]
        return [str(ipaddress.ip_address(given)), _DNS_PORT]
    except ValueError as error:
        hint = "Write the address of a resolver, with a port if it is not 53: 192.0.2.1 or 127.0.0.1:5353."
        raise UsageError(f"{VARIABLE} names no resolver: {error}.", hint=hint) from error
