"""Names for Python programs in a pod of the plain runtime: /etc/hosts and the cluster's DNS. Standard library only."""

import os
import struct

_TIMEOUT = 5.0
#: Types of records (RFC 1035, 3.2.2).
_A, _PTR = 1, 12


def install(socket, fiction, described):
    """Give the module `socket` the pod's addresses, names and host name."""
    whole = fiction.Fiction(
        loopback=described["loopback"],
        own=described["address"],
        pod=True,
        fixed={(a, p): (b, q) for a, p, b, q in described["fixed"]},
        kept=frozenset((a, p) for a, p in described["kept"]),
        tables=fiction.Tables(lambda: [described["services"]]),
        nodes=fiction.Tables(lambda: _beside(described["services"])),
    )
    original, plain = socket.getaddrinfo, socket.socket
    fiction.install(whole)

    def look_up(name):
        for address, names in _hosts(described["hosts"]):
            if name in names:
                return [address]
        for full in _candidates(name, described["resolver"]):
            found = _ask(plain, whole.fixed[described["dns"], 53], full)
            if found:
                return found
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    def getaddrinfo(host, port, family=0, type=0, proto=0, flags=0):
        if isinstance(host, bytes):
            host = host.decode()
        family = family or socket.AF_INET
        if not host or host == "localhost" or ":" in host or _is_number(host):
            return original(host, port, family, type, proto, flags)
        return [one for each in look_up(host.lower()) for one in original(each, port, family, type, proto, flags)]

    def gethostbyname(name):
        return name if _is_number(name) else getaddrinfo(name, None)[0][4][0]

    def gethostbyaddr(address):
        address = gethostbyname(address)
        known = [names for found, names in _hosts(described["hosts"]) if found == address]
        reverse = ".".join([*reversed(address.split(".")), "in-addr.arpa."])
        names = known[0] if known else _ask(plain, whole.fixed[described["dns"], 53], reverse, _PTR)
        if not names:
            raise socket.herror(1, "Unknown host")
        return names[0], names[1:], [address]

    socket.getaddrinfo = getaddrinfo
    socket.gethostbyname = gethostbyname
    socket.gethostbyaddr = gethostbyaddr
    socket.gethostbyname_ex = lambda name: (name, [], sorted({one[4][0] for one in getaddrinfo(name, None)}))
    socket.gethostname = lambda: described["hostname"]


def _beside(table):
    """The tables of all nodes: they are in one folder, and end alike."""
    folder, name = os.path.split(table)
    return [entry.path for entry in os.scandir(folder) if entry.name.endswith(name[name.rindex("-") :])]


def _is_number(host):
    return host.replace(".", "").isdigit()


def _hosts(path):
    try:
        with open(path, encoding="utf-8") as file:
            lines = [line.partition("#")[0].split() for line in file]
    except OSError:
        return []
    return [(words[0], words[1:]) for words in lines if words and ":" not in words[0]]


def _candidates(name, path):
    """The names to ask for, in order, as resolv.conf says (resolv.conf(5))."""
    search, dots = [], 1
    try:
        with open(path, encoding="utf-8") as file:
            for words in map(str.split, file):
                if words[:1] == ["search"]:
                    search = words[1:]
                for option in words[1:] if words[:1] == ["options"] else ():
                    if option.startswith("ndots:"):
                        dots = int(option.partition(":")[2])
    except OSError:
        pass
    if name.endswith("."):
        return [name]
    found = [f"{name}.{domain}" for domain in search]
    return [name, *found] if name.count(".") >= dots else [*found, name]


def _ask(plain, server, name, kind=_A):
    """The addresses that the DNS gives for a name, or the names for a reversed address, by one TCP question."""
    import _socket

    labels = [label.encode("idna") for label in name.strip(".").split(".")]
    question = b"".join(bytes([len(label)]) + label for label in labels) + b"\0" + struct.pack("!HH", kind, 1)
    message = os.urandom(2) + struct.pack("!HHHHH", 0x0100, 1, 0, 0, 0) + question
    connection = plain(_socket.AF_INET, _socket.SOCK_STREAM)
    try:
        connection.settimeout(_TIMEOUT)
        plain.connect(connection, server)
        connection.sendall(struct.pack("!H", len(message)) + message)
        answer = _read(connection, struct.unpack("!H", _read(connection, 2))[0])
    finally:
        connection.close()
    questions, answers = struct.unpack_from("!HH", answer, 4)
    at = 12
    for _ in range(questions):
        at = _past_name(answer, at) + 4
    found = []
    for _ in range(answers):
        at = _past_name(answer, at)
        type_, _, _, length = struct.unpack_from("!HHIH", answer, at)
        at += 10
        if type_ == kind:
            found.append(".".join(map(str, answer[at : at + 4])) if kind == _A else _name(answer, at))
        at += length
    return found


def _read(connection, count):
    data = b""
    while len(data) < count:
        piece = connection.recv(count - len(data))
        if not piece:
            raise ConnectionError("the DNS ended the connection early")
        data += piece
    return data


def _name(message, at):
    labels = []
    while message[at]:
        if message[at] & 0xC0:  # the rest of it stands earlier in the message
            at = struct.unpack_from("!H", message, at)[0] & 0x3FFF
            continue
        labels.append(message[at + 1 : at + 1 + message[at]].decode("idna"))
        at += message[at] + 1
    return ".".join(labels)


def _past_name(message, at):
    while message[at]:
        if message[at] & 0xC0:
            return at + 2
        at += message[at] + 1
    return at + 1
