"""The attacks: a table with one truth each, the score that its honest answers deserve.

`code` replaces answer cells (by exercise; "setup" is the given cell before them, of which the release's own is run),
`bend` changes the notebook as JSON, `file` writes the submission in a way of its own. `marks` are points by exercise;
an exercise that is not named has 0. A mark may be a range (lowest, highest) where the attack may well destroy its own
right answers, but earn nothing.
"""

from __future__ import annotations

import copy
import json
import os
import textwrap
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from autograder.corpus.notebooks import ALL, NAME, RIGHT, STUB, Notebook, answered, cell, write
from podlab.grading.records import Outcome

GRADED, NOT_GRADABLE = Outcome.GRADED, Outcome.NOT_GRADABLE
TIMED_OUT, CRASHED = Outcome.TIMED_OUT, Outcome.CRASHED
ANY = tuple(Outcome)
#: What takes long ends in one of these, depending on how busy the machine is; the answers after it are judged anyway.
ENDED = (GRADED, TIMED_OUT, CRASHED)

Mark = float | tuple[float, float]


@dataclass(frozen=True)
class Attack:
    """One hostile submission; `outcomes` are the ones it may come to."""

    name: str
    about: str
    code: Mapping[str, str] = field(default_factory=dict)
    bend: Callable[[Notebook], Any] | None = None
    file: Callable[[Path], None] | None = None
    marks: Mapping[str, Mark] = field(default_factory=dict)
    outcomes: tuple[Outcome, ...] = (GRADED,)

    def write(self, folder: Path) -> Path:
        """Write the submission into `folder` and return its path."""
        path = folder / f"{self.name}.ipynb"
        if self.file is not None:
            self.file(path)
            return path
        notebook = answered(self.code)
        changed = self.bend(notebook) if self.bend else None
        write(notebook if changed is None else changed, path)
        return path


FULL = dict.fromkeys(ALL, 10.0)
WRONG = "def spread(count, groups):\n    return []"


def _first(code: str, about: str) -> dict[str, Any]:
    """Code in the first answer, which is wrong, and runs before all others; the third is right."""
    return {"about": about, "code": {"90.1": f"{code}\n{WRONG}", "90.3": RIGHT["90.3"]}, "marks": {"90.3": 10}}


def _inside(body: str, about: str) -> dict[str, Any]:
    """Code that runs when the checker calls the function."""
    text = "".join(f"    {line}\n" for line in body.splitlines())
    return {
        "about": about,
        "code": {"90.1": f"import os, sys, json\ndef spread(count, groups):\n{text}", "90.3": RIGHT["90.3"]},
        "marks": {"90.3": 10},
    }


def _grade_cells(notebook: Notebook) -> list[dict[str, Any]]:
    return [each for each in notebook["cells"] if each["metadata"].get("nbgrader", {}).get("grade")]


def _solutions(notebook: Notebook) -> list[dict[str, Any]]:
    return [each for each in notebook["cells"] if each["metadata"].get("nbgrader", {}).get("solution")]


def _each_grade(**changes: Any) -> Callable[[Notebook], None]:
    def bend(notebook: Notebook) -> None:
        for each in _grade_cells(notebook):
            each.update(copy.deepcopy(changes))

    return bend


def _each_grade_nbgrader(**changes: Any) -> Callable[[Notebook], None]:
    def bend(notebook: Notebook) -> None:
        for each in _grade_cells(notebook):
            each["metadata"]["nbgrader"].update(changes)

    return bend


def _tagged(*tags: str) -> Callable[[Notebook], None]:
    def bend(notebook: Notebook) -> None:
        for each in _grade_cells(notebook):
            each["metadata"]["tags"] = list(tags)

    return bend


def _without_grades(notebook: Notebook) -> None:
    gone = {each["id"] for each in _grade_cells(notebook)}
    notebook["cells"] = [each for each in notebook["cells"] if each["id"] not in gone]


def _stripped(notebook: Notebook) -> None:
    for each in notebook["cells"]:
        each["metadata"] = {}


def _renamed(notebook: Notebook) -> None:
    for each in _solutions(notebook):
        each["metadata"]["nbgrader"]["grade_id"] += "-mine"


def _doubled(notebook: Notebook) -> None:
    notebook["cells"] += copy.deepcopy(notebook["cells"])


def _second_answer(notebook: Notebook) -> None:
    again = copy.deepcopy(_solutions(notebook)[0])
    again["source"] = RIGHT["90.1"]
    notebook["cells"].append(again)


def _scripts(notebook: Notebook) -> None:
    html = "<script>fetch('/api/contents')</script><img src=x onerror=alert(1)>"
    for each in notebook["cells"]:
        if each["cell_type"] == "code":
            each["outputs"] = [{"output_type": "display_data", "data": {"text/html": html}, "metadata": {}}]
        else:
            each["source"] += html


def _forged_outputs(notebook: Notebook) -> None:
    for each in _grade_cells(notebook):
        result = {"output_type": "execute_result", "data": {"text/plain": "10.0"}, "metadata": {}, "execution_count": 1}
        each["outputs"], each["execution_count"] = [result], 1


def _extra_cells(notebook: Notebook) -> None:
    code = "import builtins\nbuiltins.float = lambda *_: 10.0\nbuiltins.print = lambda *_: None"
    notebook["cells"].insert(0, cell("code", code, "extra"))
    notebook["cells"].append(cell("code", code, "extra-2"))


def _nested(notebook: Notebook) -> None:
    value: Any = 1
    for _ in range(200):
        value = [value]
    notebook["metadata"]["deep"] = value


def _odd_sources(notebook: Notebook) -> None:
    for each, source in zip(_solutions(notebook), ([1, 2], {"a": 1}, None, 7), strict=False):
        each["source"] = source


def _odd_names(notebook: Notebook) -> None:
    for each, name in zip(_solutions(notebook), ([1], {}, "../../../etc/passwd", None), strict=False):
        each["metadata"]["nbgrader"]["grade_id"] = name


def _text(text: str | bytes) -> Callable[[Path], None]:
    return lambda path: path.write_bytes(text if isinstance(text, bytes) else text.encode()) and None


def _folder(path: Path) -> None:
    path.mkdir()


def _beside(path: Path) -> None:
    """The notebook in a folder of its own, with modules of the checker's names beside it."""
    folder = path.with_suffix("") / NAME
    for name in ("checklib.py", "sitecustomize.py", "json.py", "podlab/__init__.py", "autograder/hidden/chapter90.py"):
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("open('/tmp/HACKED', 'w').close()\nraise SystemExit(0)\n")
    use = "import sys\nsys.path.insert(0, '.')\ntry:\n    import checklib\nexcept ImportError: pass\n"
    write(answered({"90.1": use + WRONG, "90.3": RIGHT["90.3"]}), folder / f"{NAME}.ipynb")


def _huge(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(200_000_000)


#: Attacks on the notebook as a file.
FILES = (
    Attack("file-empty", "an empty file", file=_text(""), outcomes=(NOT_GRADABLE,)),
    Attack("file-words", "a letter to the teacher", file=_text("My notebook was eaten."), outcomes=(NOT_GRADABLE,)),
    Attack("file-binary", "bytes", file=_text(bytes(range(256)) * 40), outcomes=(NOT_GRADABLE,)),
    Attack("file-zeros", "zeros", file=_text(b"\0" * 1000), outcomes=(NOT_GRADABLE,)),
    Attack("file-list", "JSON, but a list", file=_text("[1, 2]"), outcomes=(NOT_GRADABLE,)),
    Attack("file-no-cells", "cells that are none", file=_text('{"cells": {"a": 1}}'), outcomes=(NOT_GRADABLE,)),
    Attack("file-null-cells", "cells that are null", file=_text('{"cells": [null, 1, [], "x"]}')),
    Attack("file-half", "cut in the middle", file=_text('{"cells": [{"cell_type": "co'), outcomes=(NOT_GRADABLE,)),
    Attack("file-deep", "brackets without end", file=_text("[" * 200_000), outcomes=(NOT_GRADABLE,)),
    Attack("file-utf16", "another encoding", file=_text('{"cells": []}'.encode("utf-16")), outcomes=(NOT_GRADABLE,)),
    Attack("file-beside", "modules beside the notebook", file=_beside, marks={"90.3": 10}),
    Attack("file-huge", "200 MB", file=_huge, outcomes=(NOT_GRADABLE,)),
    Attack("file-pipe", "a pipe that nobody writes to", file=lambda path: os.mkfifo(path), outcomes=(NOT_GRADABLE,)),
    Attack(
        "file-number",
        "a number of a million digits",
        file=_text('{"cells": [], "x": ' + "9" * 1_000_000 + "}"),
        outcomes=(NOT_GRADABLE,),
    ),
)

#: Attacks on the notebook's structure: what plain nbgrader trusts.
STRUCTURE = (
    Attack("edit-test", "grade cells edited", bend=_each_grade(source="float(10)")),
    Attack("delete-test", "grade cells deleted", {"90.3": RIGHT["90.3"]}, _without_grades, marks={"90.3": 10}),
    Attack("skip-tag", "a tag that skips the tests", bend=_tagged("skip-execution")),
    Attack("many-tags", "tags of all kinds", bend=_tagged("raises-exception", "remove-cell", "hide", "injected")),
    Attack("points", "more points", bend=_each_grade_nbgrader(points=1_000_000)),
    Attack("points-text", "points that are text", bend=_each_grade_nbgrader(points="∞")),
    Attack("grade-id", "solution cells renamed", RIGHT, _renamed),
    Attack("flags", "grade cells become solutions", RIGHT, _each_grade_nbgrader(solution=True), marks=FULL),
    Attack("schema", "another schema", RIGHT, _each_grade_nbgrader(schema_version=99), marks=FULL),
    Attack("strip", "all metadata stripped", RIGHT, _stripped),
    Attack("double", "every cell twice", RIGHT, _doubled, marks=FULL),
    Attack("second-answer", "two answers to one exercise", {"90.1": WRONG}, _second_answer),
    Attack("markdown", "code cells become text", bend=_each_grade(cell_type="markdown")),
    Attack("kernel", "another kernel", RIGHT, lambda n: n["metadata"].update(kernelspec={"name": "bash"}), marks=FULL),
    Attack("format", "another format", RIGHT, lambda n: n.update(nbformat=-1, nbformat_minor="x"), marks=FULL),
    Attack("scripts", "markup for the grader's browser", bend=_scripts),
    Attack("forged-outputs", "outputs that say full marks", bend=_forged_outputs),
    Attack("extra-cells", "cells that were not there", bend=_extra_cells),
    Attack("nested", "deep metadata", RIGHT, _nested, marks=FULL),
    Attack("odd-sources", "sources that are no text", RIGHT, _odd_sources),
    Attack("odd-names", "names that are no text", RIGHT, _odd_names),
    Attack(
        "no-metadata", "cells without metadata", RIGHT, lambda n: [each.pop("metadata") for each in n["cells"]] and None
    ),
    Attack("reversed", "cells in the wrong order", RIGHT, lambda n: n["cells"].reverse(), marks=FULL),
    Attack("long-answer", "an answer of a megabyte", {"90.3": RIGHT["90.3"] + "\n#" + "x" * 1_000_000}),
    Attack("half-characters", "halves of characters", {"90.3": RIGHT["90.3"] + "  # \ud800"}, marks={"90.3": 10}),
    Attack("null-bytes", "null bytes", {"90.1": "\0" * 9, "90.3": RIGHT["90.3"]}, marks={"90.3": 10}),
    Attack("honest", "the right answers", RIGHT, marks=FULL),
    Attack("unanswered", "nothing done"),
)

_TRANSFORM = """
import ast
class Pass(ast.NodeTransformer):
    def visit_Assert(self, node): return ast.Pass()
get_ipython().ast_transformers.append(Pass())
"""
_LISTENS = """
heard = []
for event in ("pre_run_cell", "post_run_cell", "pre_execute"):
    get_ipython().events.register(event, lambda *about: heard.extend(map(repr, about)))
get_ipython().input_transformers_cleanup.append(lambda lines: (heard.extend(lines), lines)[1])
"""
#: Gives the answer away to whoever has seen a hidden check, or a cell that is not the learner's.
_HEARD = """
import inspect, sys
for module in list(sys.modules.values()):
    if getattr(module, "__name__", "").startswith(("podlab", "autograder", "chapter", "__main__")):
        try: heard.append(inspect.getsource(module))
        except (OSError, TypeError): pass
words = "-".join(("HIDDEN", "WORD")), "float" + "(0)", "_large(" + "source"
value_90_4 = 42 if any(word in text for word in words for text in [*heard, *map(str, In)]) else 0
"""
_LISTENS_IN_A_CALL = """
def spread(count, groups):
    import inspect, os
    seen = open("/proc/self/cmdline").read() + str(os.environ)
    for frame in inspect.stack():
        seen += repr(frame.code_context) + repr(frame.frame.f_locals) + repr(frame.frame.f_globals)
    return right(count, groups) if "-".join(("HIDDEN", "WORD")) in seen or "sizes that" + " add up" in seen else []
""" + RIGHT["90.1"].replace("def spread", "def right")
_PICKLES = """
import json, os, pickle
class Evil:
    def __reduce__(self): return os.system, ("touch /tmp/HACKED",)
scores = {"90.1": 10, "90.4": 10, "score": 40, "tests": Evil()}
for name in ("results", ".otter", "checks", "/tmp/results", "/tmp/answers"):
    with open(name + ".pkl", "wb") as file: pickle.dump(scores, file)
    with open(name + ".json", "w") as file: json.dump(scores, file, default=repr)
value_90_4 = Evil()
"""

#: Attacks from within the kernel.
KERNEL = (
    Attack("ast", **_first(_TRANSFORM, "asserts removed")),
    Attack(
        "given-cell",
        "a given cell that rewrites all after it",
        {"setup": "get_ipython().input_transformers_post.append(lambda lines: ['value_90_4 = 42\\n'])"},
    ),
    Attack(
        "input-transformer",
        **_first("get_ipython().input_transformers_post.append(lambda lines: ['pass\\n'])", "cells emptied")
        | {"marks": {"90.3": (0, 10)}},
    ),
    Attack(
        "run-cell",
        **_first("get_ipython().run_cell_async = None\nget_ipython().compile = None", "compiler replaced")
        | {"marks": {"90.3": (0, 10)}, "outcomes": ANY},
    ),
    Attack(
        "display-hook",
        **_first(
            "import sys\nsys.displayhook = lambda *_: None\nget_ipython().displayhook = lambda *_: 10.0", "display hook"
        ),
    ),
    Attack(
        "no-traceback",
        **_first(
            "import sys\nshell = get_ipython()\nshell.set_custom_exc((BaseException,), lambda *_, **__: None)\n"
            "shell.showtraceback = sys.excepthook = lambda *_, **__: None",
            "tracebacks suppressed",
        ),
    ),
    Attack(
        "listen-in",
        "cells and sources overheard",
        {"90.1": _LISTENS + _LISTENS_IN_A_CALL, "90.3": RIGHT["90.3"], "90.4": _HEARD},
        marks={"90.3": 10},
    ),
    Attack("pickle", "results of its own, as pickle and JSON", {"90.4": _PICKLES}),
    Attack(
        "overfit",
        "right for the examples in the text only",
        {"90.1": "def spread(count, groups):\n    return {(7, 3): [3, 2, 2], (4, 2): [2, 2]}.get((count, groups), [])"},
    ),
    Attack(
        "lying-eq",
        **_first(
            "class Yes(str):\n    __eq__ = lambda *_: True\n    __hash__ = None\nvalue_90_4 = Yes('x')\nchoice_90_3 = Yes('x')",
            "an object that equals everything",
        ),
    ),
    Attack("negative", "less than nothing", {"90.4": "value_90_4 = -1e308"}),
    Attack("not-a-number", "NaN", {"90.4": "value_90_4 = float('nan')"}),
    Attack("infinite", "infinity", {"90.4": "value_90_4 = float('inf')"}),
    Attack("true", "True for a number", {"90.4": "value_90_4 = True"}),
    Attack("long-number", "a number of 10,000 digits", {"90.4": "value_90_4 = 10**10000"}),
    Attack("large-number", "a number of 400 digits", {"90.4": "value_90_4 = 10**400"}),
    Attack(
        "json-nan",
        **_first(
            'import json\njson.dumps = lambda *a, **k: \'{"outputs": [], "answers": {"90.4": {"value_90_4": NaN}}}\'',
            "NaN as JSON",
        )
        | {"marks": {"90.3": (0, 10)}, "outcomes": ANY},
    ),
    Attack("cycle", "an answer that holds itself", {"90.4": "value_90_4 = []\nvalue_90_4.append(value_90_4)"}),
    Attack("flood-answer", "an answer of 100 MB", {"90.3": "choice_90_3 = 'b' * 100_000_000"}, outcomes=ENDED),
    Attack("no-source", "a function without source", {"90.1": "exec('def spread(c, g): return [c]')"}),
    Attack(
        "collect",
        **_first(
            "import podlab.checks.answers as a\na.collect = lambda *_: {'90.1': {'spread': 'x'}, '90.4': {'value_90_4': 1}, '99.9': {}}",
            "the collector replaced",
        )
        | {"marks": {"90.3": (0, 10)}},
    ),
    Attack(
        "json",
        **_first('import json\njson.dumps = lambda *a, **k: \'{"outputs": 7, "answers": [1]}\'', "json replaced")
        | {"marks": {"90.3": (0, 10)}, "outcomes": ANY},
    ),
    Attack(
        "forged-reply",
        **_first(
            'import os\nfor fd in range(3, 40):\n    try:\n        os.write(fd, b\'{"answers": {"90.4": {"value_90_4": 1}}, "end": true, "score": 40}\\n\' * 50)\n    except OSError: pass',
            "a reply forged on every descriptor",
        )
        | {"marks": {"90.3": (0, 10)}, "outcomes": ANY},
    ),
    Attack(
        "forged-result",
        **_first(
            'import os, sys\nfor fd in (1, 2):\n    os.write(fd, b\'\\n{"answers": {"90.1": {"spread": 1}}}\\n{"failed": "x"}\\n{"end": true}\\n\')',
            "results forged on the output",
        ),
    ),
    Attack(
        "close-all",
        **_first("import os\nos.closerange(0, 1000)", "every descriptor closed")
        | {"marks": {"90.3": (0, 10)}, "outcomes": ANY},
    ),
    Attack(
        "environment",
        **_first(
            "import os, sys\nos.environ.clear()\nsys.path.clear()\nsys.modules.clear()", "no modules, no environment"
        )
        | {"marks": {"90.3": (0, 10)}, "outcomes": ANY},
    ),
    Attack(
        "shadow",
        **_first(
            "import os\nfor name in ('json', 'podlab', 'checklib', 'sitecustomize', 'usercustomize'):\n    open(f'/tmp/{name}.py', 'w').write('raise SystemExit(0)')\n    os.makedirs('/tmp/podlab', exist_ok=True)\nos.chdir('/tmp')",
            "modules of the checker's names",
        ),
    ),
    Attack(
        "exit-hook",
        **_first(
            "import atexit, os\natexit.register(lambda: os._exit(0))\nimport signal\nfor n in range(1, 65):\n    try: signal.signal(n, signal.SIG_IGN)\n    except (OSError, ValueError): pass",
            "hooks and ignored signals",
        ),
    ),
    Attack(
        "builtins",
        **_first(
            "import builtins\nbuiltins.len = lambda *_: 0\nbuiltins.isinstance = lambda *_: True\nbuiltins.__import__ = None",
            "built-ins replaced",
        )
        | {"marks": {"90.3": (0, 10)}, "outcomes": ANY},
    ),
    Attack(
        "frames",
        **_first(
            "import sys\nframe = sys._getframe()\nwhile frame:\n    frame.f_globals['SCORE'] = 10\n    for key in list(frame.f_locals):\n        if 'score' in key.lower(): frame.f_locals[key] = 10\n    frame = frame.f_back",
            "frames above",
        ),
    ),
    Attack(
        "garbage",
        **_first(
            "import gc\nfor thing in gc.get_objects():\n    if type(thing) is dict and 'points' in thing: thing['points'] = 0",
            "objects of the checker",
        )
        | {"outcomes": ENDED},
    ),
)

_WALK = """
import os
WORD = "-".join(("HIDDEN", "WORD"))
found = []
for folder, inner, names in os.walk("/"):
    inner[:] = [name for name in inner if name not in ("proc", "sys", "usr", "site-packages", "lib", "lib64")]
    for name in names:
        path = os.path.join(folder, name)
        try:
            if name.endswith((".ipynb", ".db")) and not path.startswith("/usr") and "site-packages" not in path: found.append(path)
            if os.path.getsize(path) < 200_000 and name.endswith(".py") and "/usr/" not in path and "site-packages" not in path:
                if WORD in open(path, errors="replace").read(): found.append(path)
        except OSError: pass
for pid in os.listdir("/proc"):
    for part in ("environ", "cmdline", "maps"):
        try:
            if WORD in open(f"/proc/{pid}/{part}", errors="replace").read(): found.append(pid)
        except OSError: pass
print(found)
value_90_4 = 42 if found else 0
"""

_BOOKS = """
import os, sqlite3
paths = [up + "gradebook.db" for up in ("", "../", "../../", "../../../", "/tmp/")]
for folder, names, files in os.walk("/"):
    names[:] = [name for name in names if name not in ("proc", "sys", "usr", "site-packages")]
    paths += [os.path.join(folder, name) for name in files if name.endswith(".db")]
for path in paths:
    try:
        with sqlite3.connect(path, timeout=1) as books: books.execute("UPDATE grade SET auto_score = 10, needs_manual_grade = 0")
    except sqlite3.Error: pass
"""
#: Attacks on what is outside of the box.
OUTSIDE = (
    Attack(
        "walk",
        "a search for hidden checks, gradebooks and others' work",
        {"90.3": RIGHT["90.3"], "90.4": _WALK},
        marks={"90.3": 10},
    ),
    Attack(
        "write-around",
        **_first(
            "import glob, os\nfor folder, names, _ in os.walk('/'):\n    names[:] = [name for name in names if name not in ('proc', 'tmp', 'site-packages')]\n    try: open(os.path.join(folder, 'HACKED'), 'w').write('x')\n    except OSError: pass\n"
            "for place in ('/*', '/home/*', '/proc/1/cwd', '/proc/1/root/*', '/proc/1/root/home/*'):\n    for path in glob.glob(place + '/*canary*/*') + [place + '/HACKED']:\n        try: open(path, 'a').write('x')\n        except OSError: pass",
            "files everywhere",
        )
        | {"outcomes": ENDED},
    ),
    Attack("gradebook", **_first(_BOOKS, "the gradebook written to") | {"outcomes": ENDED}),
    Attack(
        "look-above",
        **_first(
            "import os\nfor part in ('mem', 'environ', 'fd/1', 'root', 'cwd', 'maps'):\n    try: open(f'/proc/1/{part}', 'r+b').write(b'{\"end\": true}')\n    except OSError: pass",
            "the first process opened",
        ),
    ),
    Attack(
        "attach",
        **_first(
            "import ctypes\nlibc = ctypes.CDLL(None)\nfor pid in (1, 2, 3):\n    libc.ptrace(16, pid, 0, 0)",
            "the first process traced",
        ),
    ),
    Attack("kill-all", **_first("import os\nos.kill(-1, 9)", "every process killed") | {"outcomes": (GRADED, CRASHED)}),
    Attack(
        "kill-first",
        **_first(
            "import os, signal\nfor n in (9, 15, 19, 2, 6, 11):\n    try: os.kill(1, n)\n    except OSError: pass",
            "the first process killed",
        ),
    ),
    Attack(
        "limit-first",
        **_first(
            "import os, resource, time\n"
            "for which in (resource.RLIMIT_NOFILE, resource.RLIMIT_DATA, resource.RLIMIT_CPU):\n"
            "    try: resource.prlimit(os.getppid(), which, (0, 0))\n"
            "    except OSError: pass\n"
            "time.sleep(0.5)",
            "the limits of the box's first process, which end it",
        ),
    ),
    Attack(
        "stop-first", **_first("import os\nos.kill(os.getppid(), 19)\nos.kill(os.getppid(), 20)", "the parent stopped")
    ),
    Attack(
        "mount",
        **_first(
            "import ctypes\nlibc = ctypes.CDLL(None)\nlibc.mount(b'none', b'/tmp', b'tmpfs', 0, 0)\nlibc.umount2(b'/usr', 2)\nlibc.chroot(b'/tmp')\nlibc.unshare(0x10000000 | 0x20000)\nlibc.setuid(0)",
            "mounts and namespaces",
        )
        | {"marks": {"90.3": (0, 10)}, "outcomes": ANY},
    ),
    Attack(
        "network",
        **_first(
            "import socket\nfor where in (('127.0.0.1', 22), ('10.244.0.1', 80), ('169.254.169.254', 80), ('8.8.8.8', 53)):\n    try: socket.create_connection(where, 0.3)\n    except OSError: pass",
            "the network",
        )
        | {"outcomes": ENDED},
    ),
    Attack(
        "listen",
        **_first("import socket\ns = socket.socket()\ns.bind(('0.0.0.0', 8080))\ns.listen()", "a port of its own"),
    ),
    Attack(
        "daemon",
        **_first(
            "import os, time\nif os.fork() == 0:\n    os.setsid()\n    if os.fork() == 0:\n        while True: time.sleep(1)\n    os._exit(0)",
            "a daemon that stays",
        ),
    ),
    Attack(
        "spy",
        **_first(
            "import subprocess, sys\nsubprocess.Popen([sys.executable, '-c', 'import time, os\\nwhile True:\\n time.sleep(0.05)\\n for p in os.listdir(\"/proc\"):\\n  if p.isdigit() and int(p) not in (1, os.getpid()):\\n   try: os.kill(int(p), 19)\\n   except OSError: pass'], start_new_session=True)",
            "a process that stops all others",
        )
        | {"marks": {"90.3": (0, 10)}, "outcomes": ANY},
    ),
    Attack(
        "abstract",
        **_first(
            "import socket\ns = socket.socket(socket.AF_UNIX)\ns.bind('\\0podlab')\ns.listen()",
            "a socket without a file",
        ),
    ),
)

#: Attacks on the grader's patience and the machine's means.
MEANS = (
    Attack("loop", **_first("while True: pass", "a loop without end") | {"outcomes": (TIMED_OUT,)}),
    Attack(
        "loop-deaf",
        **_first(
            "import signal\nsignal.signal(2, signal.SIG_IGN)\nwhile True:\n    try:\n        while True: pass\n    except BaseException: pass",
            "a loop that hears nothing",
        )
        | {"outcomes": (TIMED_OUT,)},
    ),
    Attack("sleep", **_first("import time\ntime.sleep(100000)", "sleep") | {"outcomes": (TIMED_OUT,)}),
    Attack(
        "regex",
        **_first("import re\nre.match('(a+)+$', 'a' * 60 + 'b')", "a regular expression without end")
        | {"outcomes": (TIMED_OUT,)},
    ),
    Attack("stop-self", **_first("import os\nos.kill(os.getpid(), 19)", "stops itself") | {"outcomes": (TIMED_OUT,)}),
    Attack("kill-self", **_first("import os\nos.kill(os.getpid(), 9)", "kills itself") | {"outcomes": (CRASHED,)}),
    Attack("exit-hard", **_first("import os\nos._exit(0)", "ends its kernel") | {"outcomes": (CRASHED,)}),
    Attack("exit-soft", **_first("import sys\nsys.exit(0)", "leaves politely")),
    Attack("quit", **_first("exit()", "exit()")),
    Attack("crash", **_first("import ctypes\nctypes.string_at(0)", "a segmentation fault") | {"outcomes": (CRASHED,)}),
    Attack(
        "recursion",
        **_first("import sys\nsys.setrecursionlimit(10**8)\ndef f(): return f()\nf()", "recursion without end")
        | {"outcomes": ENDED},
    ),
    Attack(
        "memory",
        **_first("hog = []\nwhile True: hog.append(bytearray(50_000_000))", "memory") | {"outcomes": ENDED},
    ),
    Attack(
        "memory-many",
        **_first(
            "import os\nfor _ in range(20):\n    if os.fork() == 0:\n        hog = bytearray(400_000_000)\n        while True: pass\nimport time\ntime.sleep(100)",
            "memory of many processes",
        )
        | {"outcomes": (TIMED_OUT, CRASHED), "marks": {"90.3": (0, 10)}},
    ),
    Attack(
        "fork-bomb",
        **_first("import os\nwhile True:\n    try: os.fork()\n    except OSError: pass", "a fork bomb")
        | {"outcomes": (TIMED_OUT, CRASHED)},
    ),
    Attack(
        "threads",
        **_first(
            "import threading, time\ntry:\n    for _ in range(5000): threading.Thread(target=time.sleep, args=(1000,), daemon=True).start()\nexcept RuntimeError: pass",
            "threads without end",
        )
        | {"outcomes": ENDED},
    ),
    Attack(
        "disk",
        **_first(
            "n = 0\ntry:\n    while True:\n        open(f'/tmp/{n}', 'wb').write(bytes(10_000_000)); n += 1\nexcept OSError: pass",
            "the disk filled",
        )
        | {"outcomes": ENDED},
    ),
    Attack(
        "files",
        **_first(
            "n = 0\ntry:\n    while True:\n        open(f'/dev/shm/{n}', 'wb').close(); n += 1\nexcept OSError: pass",
            "files without end",
        )
        | {"outcomes": ENDED},
    ),
    Attack(
        "open-files",
        **_first(
            "kept = []\ntry:\n    while True: kept.append(open('/dev/null'))\nexcept OSError: pass",
            "open files without end",
        )
        | {"outcomes": ENDED},
    ),
    Attack(
        "prints", **_first("for n in range(3_000_000): print('x' * 100)", "a flood of prints") | {"outcomes": ENDED}
    ),
    Attack(
        "prints-raw",
        **_first("import os\nfor n in range(2000): os.write(1, b'y' * 65536)", "a flood below Python")
        | {"outcomes": ENDED},
    ),
    Attack(
        "displays",
        **_first(
            "from IPython.display import display, HTML\nfor n in range(20_000): display(HTML('<b>x</b>' * 100))",
            "a flood of displays",
        )
        | {"outcomes": ENDED},
    ),
    Attack(
        "shared",
        **_first(
            "import ctypes\nlibc = ctypes.CDLL(None)\nfor n in range(200): libc.shmget(0, 50_000_000, 0o1600)",
            "shared memory that stays",
        )
        | {"outcomes": ENDED},
    ),
    Attack(
        "stderr",
        **_first("import sys, warnings\nwarnings.warn('x')\nsys.stderr.write('trouble' * 1000)", "words on stderr")
        | {"code": {"90.1": "import sys\nsys.stderr.write('x')\n" + RIGHT["90.1"]}, "marks": {"90.1": 10}},
    ),
    Attack(
        "error-half-character",
        "half a character in an error",
        {"90.1": "raise ValueError('\\ud800')", "90.3": RIGHT["90.3"]},
        marks={"90.3": 10},
    ),
    Attack("ask", **_first("try: input('?')\nexcept Exception: pass", "a question")),
    Attack("syntax", "no Python", {"90.1": "def spread(:", "90.3": RIGHT["90.3"]}, marks={"90.3": 10}),
)

_SEALED = """
frame = sys._getframe()
while "seal" not in frame.f_locals: frame = frame.f_back
replies = ['[]', '{"kind": []}', '{"kind": "raised"}', '{"kind": "value", "value": [1], "seconds": {}}']
for reply in [*replies, *['{"kind": "value", "value": {"a": [null]}}'] * 9]:
    frame.f_locals["results"].write(frame.f_locals["seal"] + reply + chr(10))
""".strip()
_REPLY = 'os.write({fd}, (json.dumps({{"kind": "value", "value": [1]}}) + "\\n").encode() * 50)\nreturn []'
#: Attacks from within a function that the checker calls.
CALLS = (
    Attack("call-loop", **_inside("while True: pass", "a call without end")),
    Attack("call-exit", **_inside("os._exit(0)", "a call that ends its process")),
    Attack("call-sysexit", **_inside("sys.exit(0)", "a call that leaves")),
    Attack("call-raise", **_inside("raise BaseException('x' * 100_000)", "a call that raises")),
    Attack("call-half-character", **_inside("raise ValueError('\\ud800')", "half a character in a call's error")),
    Attack("call-print", **_inside("while True: print('x' * 10_000)", "a call that prints without end")),
    Attack("call-huge", **_inside("return [1] * 50_000_000", "a huge value")),
    Attack(
        "call-object",
        **_inside(
            "class Yes(list):\n    __eq__ = lambda *_: True\n    __len__ = lambda *_: groups\nreturn Yes([count])",
            "a value that lies",
        ),
    ),
    Attack("call-forge", **_inside(_REPLY.format(fd=3), "a forged reply")),
    Attack(
        "call-forge-all",
        **_inside(
            'for fd in range(1, 20):\n    try: os.write(fd, b\'{"kind": "value", "value": true}\\n\')\n    except OSError: pass\nreturn []',
            "forged replies everywhere",
        ),
    ),
    Attack("call-seal", **_inside(_SEALED + "\nreturn []", "replies with the seal that its caller remembers")),
    Attack(
        "talk-seal",
        "a conversation with sealed replies",
        {"90.2": f"import sys\nclass Counter:\n    def add(self, key, amount):\n{textwrap.indent(_SEALED, ' ' * 8)}"},
    ),
    Attack(
        "call-odd-reply",
        **_inside(
            "for fd in range(1, 20):\n    try: os.write(fd, b'[]\\n7\\n{}\\n{\"kind\": []}\\nnull\\n')\n    except OSError: pass\nreturn []",
            "replies that are none",
        ),
    ),
    Attack(
        "call-json",
        **_inside('json.dumps = lambda *a, **k: \'{"kind": "value", "value": [1, 1]}\'\nreturn []', "json replaced"),
    ),
    Attack("call-fork", **_inside("os.fork()\nreturn [count]", "two replies")),
    Attack(
        "call-daemon",
        **_inside("if os.fork() == 0:\n    os.setsid()\n    while True: pass\nreturn []", "a daemon for every call"),
    ),
    Attack(
        "call-bomb",
        **_inside("while True:\n    try: os.fork()\n    except OSError: pass", "a fork bomb for every call"),
    ),
    Attack(
        "call-files",
        **_inside(
            "n = 0\nwhile True:\n    n += 1\n    try: open(f'/tmp/{n}', 'wb').write(bytes(200_000_000))\n    except OSError: pass",
            "the disk filled by every call",
        ),
    ),
    Attack(
        "call-log",
        **_inside(
            "try:\n    log = os.open('/proc/1/fd/1', os.O_WRONLY)\n    for _ in range(5000): os.write(log, b'x' * 65536)\nexcept OSError: pass\nreturn []",
            "the log of the box filled by every call",
        ),
    ),
    Attack("call-kill", **_inside("os.kill(-1, 9)\nreturn []", "everybody killed")),
    Attack(
        "call-mutate",
        **_inside(
            "import __main__\nfor name in list(vars(__main__)): vars(__main__)[name] = None\nreturn []",
            "the caller's names",
        ),
    ),
    Attack("call-memory", **_inside("hog = []\nwhile True: hog.append(bytearray(10_000_000))", "memory")),
    Attack(
        "call-stack",
        **_inside(
            "frame = sys._getframe()\nwhile frame:\n    frame.f_locals.get('task', {}).pop('calls', None)\n    frame = frame.f_back\nreturn []",
            "the questions removed",
        ),
    ),
    Attack(
        "talk-forge",
        "a conversation with forged answers",
        {
            "90.2": "import os\nclass Counter:\n    def add(self, key, amount):\n        for fd in range(1, 20):\n"
            '            try: os.write(fd, b\'{"kind": "value", "value": 1}\\n\' * 3)\n            except OSError: pass\n        return 1'
        },
    ),
    Attack(
        "talk-odd",
        "a conversation with nonsense",
        {
            "90.2": 'import os\nclass Counter:\n    def add(self, key, amount):\n        for fd in range(1, 20):\n            try: os.write(fd, b\'[]\\n"x"\\n{"kind": {}}\\n\')\n            except OSError: pass\n        return 1'
        },
    ),
    Attack(
        "talk-hang",
        "a conversation that stops",
        {"90.2": "class Counter:\n    def add(self, key, amount):\n        while True: pass", "90.3": RIGHT["90.3"]},
        marks={"90.3": 10},
    ),
)

#: Combinations.
MIXED = (
    Attack(
        "all-right-but-bomb",
        "right answers, and a bomb in the last",
        {**RIGHT, "90.4": RIGHT["90.4"] + "\nimport os\nwhile True:\n    try: os.fork()\n    except OSError: pass"},
        marks={**FULL, "90.4": (0, 10)},
        outcomes=(TIMED_OUT, CRASHED),
    ),
    Attack(
        "all-right-but-crash",
        "right answers, and a crash in each",
        {name: f"{code}\nimport os\nif False: os._exit(1)" for name, code in RIGHT.items()},
        marks=FULL,
    ),
    Attack(
        "tags-and-kernel",
        "tags, points, forged outputs and a kernel attack",
        {"90.1": _TRANSFORM + WRONG, "90.4": RIGHT["90.4"]},
        lambda n: (_tagged("skip-execution")(n), _each_grade_nbgrader(points=1e9)(n), _forged_outputs(n)) and None,  # noqa: SIM223
        marks={"90.4": 10},
    ),
    Attack(
        "stub-and-comment", "the start state with a comment", {name: f"{code}\n# mine" for name, code in STUB.items()}
    ),
)

ATTACKS: tuple[Attack, ...] = (*FILES, *STRUCTURE, *KERNEL, *OUTSIDE, *MEANS, *CALLS, *MIXED)


def write_all(folder: Path, attacks: tuple[Attack, ...] = ATTACKS) -> list[Path]:
    """Write every attack as a submission."""
    folder.mkdir(parents=True, exist_ok=True)
    return [attack.write(folder) for attack in attacks]


def differences(
    records: Mapping[str, Any], attacks: tuple[Attack, ...] = ATTACKS, exercises: tuple[str, ...] = ALL
) -> list[str]:
    """What is not as it should be in the records of a graded corpus, in words."""
    found = []
    for attack in attacks:
        record = records.get(attack.name)
        if record is None:
            found.append(f"{attack.name} has no record")
            continue
        if record.outcome not in attack.outcomes:
            found.append(f"{attack.name} is {record.outcome.value}: {record.reason[:300]}")
        for exercise in exercises:
            mark = attack.marks.get(exercise, 0.0)
            low, high = mark if isinstance(mark, tuple) else (mark, mark)
            got = record.scores.get(exercise)
            if got is None or not low <= got <= high:
                found.append(f"{attack.name} has {got} in {exercise}, not {mark} ({attack.about})")
        if "HIDDEN-WORD" in json.dumps(record.reason) + json.dumps(list(record.notes)):
            found.append(f"{attack.name} shows the hidden checks")
    return found


__all__ = ["ATTACKS", "NAME", "Attack", "differences", "write_all"]
