"""The command line: quick, lazy, and with errors that say what to do."""

from __future__ import annotations

import errno
import os
import re
import subprocess
import sys

import pytest
import typer
from typer.testing import CliRunner

from podlab import cli
from podlab.errors import EnvironmentUnsuitable, PodlabError, UsageError, disk_errors


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "podlab", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, **environment},
    )


def test_help_lists_the_commands_without_loading_them():
    """Typer and Rich are all that the list needs; clusters, notebooks and numbers are not imported for it."""
    program = "import sys, podlab.cli\ntry: podlab.cli.main()\nfinally: print(*sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", program, "--help"], capture_output=True, text=True, timeout=60)
    assert "binaries" in done.stdout and "doctor" in done.stdout
    loaded = set(done.stderr.split())
    assert not [name for name in loaded if name.startswith("podlab.") and name not in _NEEDED]
    assert not loaded & {"aiohttp", "kubernetes", "cryptography", "nbformat", "numpy", "IPython"}


_NEEDED = {"podlab.cli", "podlab.errors", "podlab.proxies", "podlab.commands"}


def test_each_command_that_is_listed_can_be_loaded_and_has_help():
    runner = CliRunner()
    for name, lazy in cli.COMMANDS.items():
        if cli._exists(lazy):
            result = runner.invoke(cli.app, [name, "--help"])
            assert result.exit_code == 0, (name, result.output)


def test_a_module_that_is_missing_breaks_only_its_own_command(monkeypatch):
    monkeypatch.setitem(cli.COMMANDS, "ghost", cli.Lazy("podlab.commands.ghost", "Not there."))
    runner = CliRunner()
    assert "ghost" not in runner.invoke(cli.app, ["--help"]).output
    with pytest.raises(UsageError, match="no `podlab ghost`"):
        cli.load("ghost")


def test_a_missing_extra_is_named_with_the_way_to_install_it(monkeypatch, tmp_path):
    (tmp_path / "needs_more.py").write_text("import not_installed_anywhere")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(cli.COMMANDS, "more", cli.Lazy("needs_more", "Needs more."))
    with pytest.raises(UsageError, match=r"not_installed_anywhere.*\.\[course\]"):
        cli.load("more")


def test_the_version_names_kubernetes_too():
    done = run("--version")
    assert done.returncode == 0
    assert re.fullmatch(r"podlab \S+, Kubernetes v1\.37\.2, etcd v3\.7\.0\n", done.stdout)


@pytest.mark.parametrize("arguments", [["nothing-like-that"], ["binaries", "where"], ["--nothing"]])
def test_what_cannot_be_meant_has_status_2(arguments):
    done = run(*arguments)
    assert done.returncode == 2 and done.stdout == "" and "podlab" in done.stderr


def test_an_error_is_two_plain_lines_and_a_status_without_a_traceback():
    done = run("binaries", "where", "etcd", PODLAB_ETCD="/nowhere/etcd")
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr.splitlines() == [
        "PODLAB_ETCD is /nowhere/etcd, which is no file.",
        "Correct or unset PODLAB_ETCD.",
    ]


@pytest.mark.parametrize(("error", "status"), [(PodlabError, 1), (UsageError, 2), (EnvironmentUnsuitable, 3)])
def test_each_kind_of_error_has_its_own_status(monkeypatch, capsys, error, status):
    def fail(**_: object) -> None:
        raise error("It [b]broke[/b].", hint="Mend it.")

    monkeypatch.delenv("PODLAB_DEBUG", raising=False)
    monkeypatch.setattr(cli, "app", fail)
    with pytest.raises(SystemExit) as caught:
        cli.main()
    assert caught.value.code == status
    assert capsys.readouterr().err == "It [b]broke[/b].\nMend it.\n"


@pytest.mark.parametrize(
    ("number", "name", "said"),
    [
        (errno.ENOSPC, "/full/x", "/full/x cannot be used: No space left on device.\nMake room there"),
        (errno.EDQUOT, None, "A file cannot be written: Disk quota exceeded.\nMake room there"),
        (errno.EROFS, "/clone/release/x", "/clone/release/x cannot be used: Read-only file system.\nGive a place"),
        (errno.EACCES, b"/other/x", "/other/x cannot be used: Permission denied.\nGive a place"),
        (errno.ENOTDIR, "/file/x", "/file/x cannot be used: Not a directory.\nIs it the right place?"),
    ],
)
def test_a_file_that_cannot_be_used_is_said_without_a_traceback(monkeypatch, capsys, number, name, said):
    def fail(**_: object) -> None:
        raise OSError(number, os.strerror(number), name)

    monkeypatch.delenv("PODLAB_DEBUG", raising=False)
    monkeypatch.setattr(cli, "app", fail)
    with pytest.raises(SystemExit) as caught:
        cli.main()
    assert caught.value.code == 3
    assert capsys.readouterr().err.startswith(said)
    monkeypatch.setenv("PODLAB_DEBUG", "1")
    with pytest.raises(OSError, match=r"\[Errno"):
        cli.main()


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM])
def test_where_podlab_cannot_write_its_own_files_the_cure_is_said(tmp_path, number):
    with pytest.raises(EnvironmentUnsuitable) as caught, disk_errors(tmp_path):
        raise OSError(number, os.strerror(number))
    assert caught.value.message == f"{tmp_path} cannot be used: {os.strerror(number)}."
    assert "PODLAB_HOME" in caught.value.hint
    with pytest.raises(EnvironmentUnsuitable, match=r"^/else cannot be used"), disk_errors(tmp_path):
        raise OSError(number, os.strerror(number), "/else")


def test_other_errors_are_not_blamed_on_the_disk(tmp_path):
    with pytest.raises(FileNotFoundError), disk_errors(tmp_path):
        (tmp_path / "none").read_text()


def test_an_error_of_the_system_that_is_about_no_file_keeps_its_traceback(monkeypatch):
    def fail(**_: object) -> None:
        raise ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused")

    monkeypatch.setattr(cli, "app", fail)
    with pytest.raises(ConnectionRefusedError):
        cli.main()


def test_a_choice_that_cannot_be_written_is_said_by_its_name(tmp_path):
    """As root, too: where the choice of cluster should be is a folder."""
    (tmp_path / "data" / "clusters" / "mine").mkdir(parents=True)
    (tmp_path / "data" / "clusters" / "mine" / "cluster.json").write_text('{"provider": "embedded"}')
    (tmp_path / "data" / "cluster-in-use").mkdir()
    done = run("cluster", "use", "mine", PODLAB_HOME=str(tmp_path))
    assert done.returncode == 3 and "Traceback" not in done.stderr
    assert "cluster-in-use" in done.stderr.splitlines()[0]


def test_a_proxy_is_not_asked_for_this_machines_addresses_by_what_is_started(monkeypatch):
    seen = {}
    monkeypatch.setattr(cli, "app", lambda **_: seen.update(os.environ))
    for name, value in {"HTTPS_PROXY": "http://p:1", "NO_PROXY": "a.example, localhost", "no_proxy": ""}.items():
        monkeypatch.setenv(name, value)
    cli.main()
    assert seen["NO_PROXY"] == seen["no_proxy"] == "a.example,localhost,127.0.0.1,::1"


def test_an_app_with_one_command_is_that_command(monkeypatch, tmp_path):
    (tmp_path / "single.py").write_text(
        "import typer\napp = typer.Typer()\n@app.command()\ndef anything(word: str): typer.echo(f'said {word}')\n"
    )
    (tmp_path / "several.py").write_text(
        "import typer\napp = typer.Typer()\n@app.command()\ndef one(): typer.echo('1')\n"
        "@app.command()\ndef two(): typer.echo('2')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(cli.COMMANDS, "single", cli.Lazy("single", ""))
    monkeypatch.setitem(cli.COMMANDS, "two", cli.Lazy("several", ""))
    monkeypatch.setitem(cli.COMMANDS, "several", cli.Lazy("several", ""))
    runner = CliRunner()
    assert runner.invoke(cli.app, ["single", "hello"]).output == "said hello\n"
    assert runner.invoke(cli.app, ["two"]).output == "2\n"
    assert runner.invoke(cli.app, ["several", "one"]).output == "1\n"
    assert isinstance(cli.app, typer.Typer)
