from __future__ import annotations

from pathlib import Path

import pytest

from podlab.errors import ImageError
from podlab.images.context import Context


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    folder = tmp_path / "tree"
    for name in ("app.py", "a/one.txt", "a/two.md", "a/b/deep.txt", ".git/config", "x.pyc", "a/y.pyc", "keep/z.pyc"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    return folder


def _files(context: Context) -> list[str]:
    return [found.path for found in context.below("") if not found.is_folder]


@pytest.mark.parametrize(
    ("patterns", "left_out"),
    [
        ([], set()),
        (["# comment", "", ".git"], {".git/config"}),
        (["*.pyc"], {"x.pyc"}),
        (["**/*.pyc"], {"x.pyc", "a/y.pyc", "keep/z.pyc"}),
        (["**/*.pyc", "!keep/*.pyc"], {"x.pyc", "a/y.pyc"}),
        (["keep", "!keep/z.pyc"], set()),
        (["/a/"], {"a/one.txt", "a/two.md", "a/b/deep.txt", "a/y.pyc"}),
        (["a/*.txt"], {"a/one.txt"}),
        (["a/**/*.txt"], {"a/one.txt", "a/b/deep.txt"}),
        (["?/one.txt"], {"a/one.txt"}),
        (["[ab]/*.md"], {"a/two.md"}),
        (["*", "!app.py"], {"a/one.txt", "a/two.md", "a/b/deep.txt", ".git/config", "x.pyc", "a/y.pyc", "keep/z.pyc"}),
    ],
)
def test_dockerignore(tree: Path, patterns: list[str], left_out: set[str]) -> None:
    everything = set(_files(Context(tree)))
    assert set(_files(Context(tree, patterns))) == everything - left_out


def test_the_ignore_file_of_the_dockerfile_wins(tree: Path) -> None:
    (tree / ".dockerignore").write_text("a\n")
    (tree / "Other.dockerignore").write_text("app.py\n")
    assert "app.py" in _files(Context.read(tree, tree / "Dockerfile"))
    assert "app.py" not in _files(Context.read(tree, tree / "Other"))


def test_wildcards_match_within_one_folder(tree: Path) -> None:
    context = Context(tree)
    assert [found.path for found in context.sources("a/*.txt")] == ["a/one.txt"]
    assert [found.path for found in context.sources("*/*.txt")] == ["a/one.txt"]
    assert [found.path for found in context.sources("./app.??")] == ["app.py"]


@pytest.mark.parametrize("word", ["../x", "a/../../x", "/../../etc/passwd", "..", "*/../../x"])
def test_a_source_outside_the_context_is_refused(tree: Path, word: str) -> None:
    (tree.parent / "x").write_text("secret")
    with pytest.raises(ImageError):
        Context(tree).sources(word)


@pytest.mark.parametrize("target", ["/etc/passwd", "../x", "link2"])
def test_a_link_out_of_the_context_is_refused(tree: Path, target: str) -> None:
    (tree.parent / "x").write_text("secret")
    (tree / "link2").symlink_to("../x")
    (tree / "link").symlink_to(target)
    with pytest.raises(ImageError, match="leads out of the build context"):
        Context(tree).sources("link")


def test_a_folder_link_out_of_the_context_is_not_gone_through(tree: Path) -> None:
    (tree / "out").symlink_to("/etc")
    with pytest.raises(ImageError, match="leads out of the build context"):
        Context(tree).sources("out/passwd")
    with pytest.raises(ImageError, match="leads out of the build context"):
        Context(tree).sources("out/pass*")


def test_a_link_inside_is_followed_and_keeps_its_name(tree: Path) -> None:
    (tree / "link").symlink_to("a/one.txt")
    (found,) = Context(tree).sources("link")
    assert (found.path, found.name) == ("a/one.txt", "link")


def test_a_missing_source_says_what_there_is(tree: Path) -> None:
    with pytest.raises(ImageError) as missing:
        Context(tree).sources("a/three.txt")
    assert "one.txt" in str(missing.value)
    with pytest.raises(ImageError, match=r"\.dockerignore leaves it out"):
        Context(tree, ["app.py"]).sources("app.py")


def test_a_list_of_what_is_ignored_that_cannot_be_read_is_named(tree: Path) -> None:
    (tree / ".dockerignore").symlink_to(
        "/proc/self/mem"
    )  # a file that nobody can read from its beginning, root neither
    with pytest.raises(ImageError, match=r"\.dockerignore cannot be read"):
        Context.read(tree, tree / "Dockerfile")
