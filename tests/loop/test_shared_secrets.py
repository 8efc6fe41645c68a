"""What is searched for, and who holds it: encoded credentials, and registries that are shared."""

from __future__ import annotations

import base64
import threading
import traceback
from collections.abc import Callable
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentkit_loop.credentials import MASK, Credentials, NeedsAuth, Secrets
from agentkit_loop.events import ToolResultReceived
from agentkit_loop.tool_context import ToolContext
from agentkit_loop.tools import tool
from tests.loop.hosts import Opened, Run, asking, both, call
from tests.loop.test_credentials import asked

NUMBER = "918273645546"
ODD = "s3cret?>~\xff-q7w4"
"""Its base64 holds characters that are others for URLs, and padding."""


def holding(*secrets: str) -> Secrets:
    held = Secrets()
    for secret in secrets:
        held.add(secret)
    return held


def encodings(secret: str) -> list[str]:
    raw = secret.encode()
    standard, urls = base64.b64encode(raw).decode(), base64.urlsafe_b64encode(raw).decode()
    return [standard, urls, standard.rstrip("="), urls.rstrip("="), raw.hex(), raw.hex().upper()]


@given(st.text(st.characters(codec="utf-8"), min_size=4, max_size=40))
def test_every_encoding_of_a_secret_is_masked(secret: str) -> None:
    held = holding(secret)
    for shown in (secret, *encodings(secret)):
        assert held.masked_text(shown) == MASK
        assert held.masked({"key": [shown]}) == {held.masked_text("key"): [MASK]}
        assert held.masked({shown: None}) == {MASK: None}


def test_encodings_are_masked_among_other_text() -> None:
    held = holding(ODD)
    standard, urls, bare, *_ = encodings(ODD)
    assert standard != urls
    assert standard != bare
    for shown in encodings(ODD):
        assert held.masked_text(f"Bearer {shown}, and more") == f"Bearer {MASK}, and more"


@pytest.mark.parametrize(
    ("value", "masked"),
    [
        (918273645546, MASK),
        (-918273645546, MASK),
        (19182736455460, MASK),
        (918273645546.0, MASK),
        (918273645546.25, MASK),
        ([1, {"n": 918273645546}], [1, {"n": MASK}]),
        ({"918273645546": 918273645}, {MASK: 918273645}),
        ({"$int": "918273645546" * 9}, {"$int": MASK * 9}),
        (918273645, 918273645),
        (True, True),
        (None, None),
        (0.5, 0.5),
    ],
)
def test_a_number_that_shows_a_secret_is_masked(value: Any, masked: Any) -> None:
    assert holding(NUMBER).masked(value) == masked


def test_a_number_loses_the_zeros_that_its_secret_begins_with() -> None:
    held = holding("00471100")
    assert held.masked([int("00471100"), 4711, 471100.0]) == [MASK, 4711, MASK]
    assert holding("0047").masked(47) == 47  # too short to be told from any number


def test_a_number_beyond_any_decimal_text_is_left_alone() -> None:
    error = ValueError(10**5_000)
    holding(NUMBER).mask_exception(error)
    assert error.args == (10**5_000,)


def test_the_number_in_an_exception_is_masked() -> None:
    held = holding(NUMBER)
    for error in (KeyError(918273645546), SystemExit(918273645546), ValueError([918273645546], 7)):
        held.mask_exception(error)
        assert NUMBER not in f"{error!r}{error!s}{error.args}{vars(error)}{getattr(error, 'code', '')}"
    assert error.args[1] == 7


def test_what_is_too_short_is_not_searched_for_in_any_form() -> None:
    held = holding("abc", "12")
    assert not held.are_given
    assert held.masked(["abc", "YWJj", "616263", 12, 3123]) == ["abc", "YWJj", "616263", 12, 3123]
    assert "abc" not in repr(held)


@both
def test_no_form_of_a_credential_that_a_tool_tells_gets_out(opened: Opened) -> None:
    @tool
    def leak(context: ToolContext) -> Any:
        """Show it in other ways."""
        credential = context.credential("web")
        if credential is None:
            raise NeedsAuth("web")
        secret = credential.reveal()
        context.emit("using", {"n": int(secret), secret: 1})
        return {"number": int(secret), "forms": encodings(secret), secret: "key"}

    run = Run([asking(call("leak")), "done"], tools=[leak])
    with opened(run, "go") as host:
        asked(host).resolve(NUMBER)
        host.finish()
    (result,) = run.of(ToolResultReceived)
    assert result.output == {"number": MASK, "forms": [MASK] * 6, MASK: "key"}
    assert NUMBER not in repr(run.recorder.events)
    assert run.faults == []


# --- exceptions

SECRET = "hunter2/secret"  # noqa: S105 - of nobody


@attrs.frozen
class Quit(SystemExit):
    reason: str = ""


class Slotted(Exception):  # noqa: N818 - no error of a library
    __slots__ = ("__hidden", "said")

    def __init__(self, said: str) -> None:
        self.said = self.__hidden = said

    def __str__(self) -> str:
        return f"{self.said} {self.__hidden}"


class Stubborn(SystemExit):
    def __str__(self) -> str:
        return SECRET


def chained(error: BaseException, cause: BaseException) -> BaseException:
    try:
        raise error from cause  # noqa: TRY301 - so that it has a traceback
    except BaseException as caught:  # noqa: BLE001 - whatever it is
        return caught


EXCEPTIONS: dict[str, Callable[[], BaseException]] = {
    "file names": lambda: OSError(2, f"no {SECRET}", f"/a/{SECRET}", None, f"/b/{SECRET}"),
    "bytes": lambda: OSError(2, "no", f"/a/{SECRET}".encode()),
    "import": lambda: ImportError("no", name=SECRET, path=f"/a/{SECRET}"),
    "syntax": lambda: SyntaxError("no", (SECRET, 1, 1, SECRET)),
    "decoding": lambda: UnicodeDecodeError("utf-8", SECRET.encode() + b"\xff", 14, 15, SECRET),
    "exit": lambda: SystemExit(SECRET),
    "frozen": lambda: Quit(SECRET),
    "slots": lambda: Slotted(SECRET),
    "an argument": lambda: ValueError(OSError(2, "no", SECRET)),
    "stubborn": lambda: Stubborn(3),
    "group": lambda: BaseExceptionGroup(f"with {SECRET}", [KeyboardInterrupt(), OSError(2, "no", SECRET)]),
    "groups": lambda: BaseExceptionGroup("outer", [ExceptionGroup(SECRET, [ValueError(1)]), SystemExit(2)]),
}


@pytest.mark.parametrize("name", list(EXCEPTIONS))
def test_no_traceback_shows_a_secret_by_an_exception_or_its_chain(name: str) -> None:
    held = holding(SECRET)
    for made in (
        EXCEPTIONS[name](),
        chained(SystemExit("bye"), EXCEPTIONS[name]()),
        chained(EXCEPTIONS[name](), SystemExit("bye")),
        chained(SystemExit("bye"), BaseExceptionGroup("several", [EXCEPTIONS[name]()])),
    ):
        raised = held.mask_exception(made)
        told = "".join(traceback.format_exception(raised, chain=True))
        assert SECRET not in f"{told}{raised!r}{raised.args}{vars(raised)}{getattr(raised, 'filename', '')}"
        assert isinstance(raised, type(made)) or type(raised) in type(made).__mro__
        assert "bye" in told or raised.__cause__ is None


def test_what_shows_no_secret_stays_as_it_is() -> None:
    held = holding(SECRET)
    inner = ValueError("a", 3, [1], b"x")
    group = BaseExceptionGroup("several", [inner, SystemExit(3)])
    error = chained(KeyboardInterrupt("stop"), group)
    error.__suppress_context__ = False
    assert held.mask_exception(error) is error
    assert (error.__cause__, error.__suppress_context__, group.exceptions[0]) == (group, False, inner)
    assert inner.args == ("a", 3, [1], b"x")


def test_an_exit_keeps_its_code_and_a_stand_in_its_traceback() -> None:
    held = holding(SECRET)
    raised = held.mask_exception(chained(Stubborn(3), ValueError(SECRET)))
    assert isinstance(raised, SystemExit)
    assert (type(raised), raised.code, raised.__traceback__ is None) == (SystemExit, 3, False)
    assert repr(raised.__cause__) == f"ValueError('{MASK}')"


def test_a_ring_of_exceptions_is_masked_once() -> None:
    one, other = ValueError(SECRET), Stubborn(SECRET)
    one.__context__, other.__context__ = other, one
    raised = holding(SECRET).mask_exception(one)
    assert raised is one
    assert isinstance(one.__context__, SystemExit)
    assert one.__context__.__context__ is one
    assert one.__context__.code == MASK


# --- shared


def test_a_registry_that_is_shared_masks_for_both_and_gives_to_neither() -> None:
    parent = Credentials()
    parent.put("web", "of-the-parent")
    child = Credentials(parent.secrets)
    child.put("web", "of-the-child")
    child.put("hub", "of-the-hub")
    told = "of-the-parent of-the-child of-the-hub"
    for one in (parent, child):
        assert one.masked_text(told) == f"{MASK} {MASK} {MASK}"
        assert one.masked({"of-the-hub": told}) == {MASK: f"{MASK} {MASK} {MASK}"}
        assert one.are_given
        error = ValueError(told)
        one.mask_exception(error)
        assert str(error) == f"{MASK} {MASK} {MASK}"
    assert [held.reveal() for held in (parent.get("web"), child.get("web")) if held is not None] == [
        "of-the-parent",
        "of-the-child",
    ]
    assert parent.get("hub") is None
    assert parent.secrets is child.secrets
    for shown in (repr(parent), repr(child), repr(parent.secrets), repr(vars(parent.secrets))):
        assert "of-the" not in shown


def test_credentials_alone_share_nothing() -> None:
    one, other = Credentials(), Credentials()
    one.put("web", "only-here")
    assert other.masked_text("only-here") == "only-here"
    assert not other.are_given


def test_what_was_replaced_is_still_masked() -> None:
    held = Credentials()
    held.put("web", "the-first")
    held.put("web", "the-second")
    assert held.masked_text("the-first the-second") == f"{MASK} {MASK}"


def test_secrets_that_come_from_many_threads_are_all_masked() -> None:
    shared = Secrets()
    start = threading.Barrier(8)

    def add(number: int) -> None:
        holder = Credentials(shared)
        start.wait(30)
        for count in range(20):
            secret = f"<{number}:{count}>!"
            holder.put("web", secret)
            assert shared.masked_text(secret) == MASK

    failed: list[BaseException] = []

    def guarded(number: int) -> None:
        try:
            add(number)
        except BaseException as error:  # noqa: BLE001 - told by the test's own thread
            failed.append(error)

    threads = [threading.Thread(target=guarded, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert failed == []
    assert all(
        shared.masked_text(f"<{number}:{count}>!") == MASK for number in range(8) for count in range(20)
    )
