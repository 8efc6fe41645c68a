"""Files that by their names may hold secrets: named, and neither read nor searched unless that is wanted."""

from __future__ import annotations

from pathlib import Path

import pytest

from agentkit_loop.file_viewing import file_tools
from tests.loop.file_samples import Tools, make_root

SECRETS = (
    ".env",
    ".env.local",
    ".ENV.Production",
    "src/.Env",
    "server.pem",
    "src/deep/Server.KEY",
    "id_rsa",
    "id_rsa.pub",
    "id_ed25519_work",
    ".netrc",
    ".npmrc",
    ".pypirc",
    ".ssh/known",
    ".aws/credentials",
    "src/.GnuPG/ring",
)
OPEN = (".env.example", ".environment", "key.py", "pem", "my_id_rsa", "aws/x")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = make_root(tmp_path)
    for name in (*SECRETS, *OPEN):
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_text("password hunter2\n")
    return root


@pytest.mark.parametrize("path", SECRETS)
def test_what_may_hold_secrets_is_not_read_and_not_searched(root: Path, path: str) -> None:
    tools = Tools(root)
    for name, more in (("read_file", {}), ("search_files", {"query": "hunter2"}), ("list_files", {})):
        assert tools.refusal(name, path=path, **more) == (
            f"{path!r} is kept out because it may hold secrets; look at other files"
        )


def test_it_is_named_in_listings_and_left_out_of_searches(root: Path) -> None:
    tools = Tools(root)
    listed = tools.ls()
    kept = {line.removesuffix(" (kept out: may hold secrets)") for line in listed if "kept out" in line}
    alone = {path for path in SECRETS if "/" not in path or path in ("src/.Env", "src/deep/Server.KEY")}
    assert kept == alone | {".ssh", ".aws", "src/.GnuPG"}
    assert {line.split(":")[0] for line in tools.search("hunter2")[1:]} == set(OPEN)


def test_a_link_to_it_and_a_link_of_its_name_are_out_of_reach(root: Path) -> None:
    (root / "way").symlink_to(".env")
    (root / "keys").symlink_to(".ssh")
    (root / "x.pem").symlink_to("notes.txt")
    tools = Tools(root)
    for path in ("way", "keys/known", "x.pem"):
        assert "may hold secrets" in tools.refusal("read_file", path=path)
    assert {
        "way (a link out of reach)",
        "keys (a link out of reach)",
        "x.pem (kept out: may hold secrets)",
    } < set(tools.ls())


def test_a_directory_that_holds_secrets_is_read_where_it_is_the_root(root: Path) -> None:
    assert Tools(root / ".ssh").read("known")[1:] == ["password hunter2"]


def test_with_secrets_they_are_files_like_others(root: Path) -> None:
    tools = {tool.name: tool for tool in file_tools(root, secrets=True)}
    read, search, ls = (tools[name] for name in ("read_file", "search_files", "list_files"))
    for path in SECRETS:
        assert str(read(**read.bind({"path": path}))).endswith("\npassword hunter2")
    found = str(search(**search.bind({"query": "hunter2"}))).splitlines()
    assert {line.split(":")[0] for line in found[1:]} == {*SECRETS, *OPEN}
    assert "kept out" not in str(ls(**ls.bind({})))


def test_the_model_is_told_of_it(root: Path) -> None:
    assert all("may hold secrets" in " ".join(tool.description.split()) for tool in file_tools(root)[:2])
