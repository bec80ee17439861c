"""The learner's side of a program that answers what his code asks; the checker's side is outside.py. Imports little."""

from __future__ import annotations

import json
import socket
from dataclasses import dataclass
from typing import Any

#: Bytes of an answer.
_LARGEST = 60_000
#: Exceptions of an answer that are raised as such where it was asked for.
_RAISED: dict[str, type[Exception]] = {each.__name__: each for each in (ConnectionError, TimeoutError, ValueError)}


class CutOff(BaseException):
    """Raised where an answer was refused: no code of a learner's should catch it."""


@dataclass(frozen=True)
class Way:
    """The way from a learner's process to the program; it can be sent to further processes."""

    address: str

    def ask(self, *question: Any) -> Any:
        """The answer to a question of JSON, whenever it comes; raises what the program raised for an answer."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as program:
            program.connect("\0" + self.address)
            program.send(json.dumps(question).encode())
            answer = json.loads(program.recv(_LARGEST) or '{"error": "", "text": "nobody answers"}')
        if "value" in answer:
            return answer["value"]
        raise _RAISED.get(answer["error"], CutOff)(answer["text"])
