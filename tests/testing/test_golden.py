"""Golden files: what is in them, when they are written, and what is said when a call is another one."""

from __future__ import annotations

from pathlib import Path

import pytest

from voisnap_mock.errors import ExpectationFailed
from voisnap_mock.journal import JournalEntry
from voisnap_mock.testing.golden import GoldenFiles, golden_text, is_ci
from voisnap_mock.testing.story import story, timeline


def entry(kind: str, t: float, **details: object) -> JournalEntry:
    return JournalEntry(1, 0.0, kind, "ten_dev", "conv_1", t, details)


CALL = [
    entry("session.started", 0.0, agent_name="Support"),
    entry("agent.transcript", 0.5, text="Hi, this", is_final=False, begin=0.0, end=0.5),
    entry("agent.transcript", 2.5, text="Hi, this is Acme.", is_final=True, begin=0.0, end=2.5, interrupted=True),
    entry("lint", 2.6, rule="chunk_size", message="512 bytes came at once"),
    entry(
        "caller.transcript",
        3.0,
        text="I want\na refund",
        is_final=True,
        begin=2.5,
        end=3.0,
        ear="vosk",
        confidence=0.87,
    ),
    entry("caller.digit", 4.0, digit="0"),
    entry("event.pushed", 4.1, target="ShowPage", arguments=[{"page": "hours", "at": 1}]),
    entry("session.failed", 4.2, code="LLM_PROVIDER_ERROR", message="it was so", recoverable=True),
    entry("transfer.started", 4.3, to="+15550100", type="warm", summary="Asked for a person"),
    entry("session.ended", 4.3, reason="transfer_complete", duration=4.3),
]
GOLDEN = """\
# A call as a test expects it. Rewritten by: pytest --voisnap-update
agent     Hi, this is Acme. [interrupted]
caller    I want a refund
keys      0
event     ShowPage {"at": 1, "page": "hours"}
error     LLM_PROVIDER_ERROR (recoverable)
transfer  warm to +15550100: Asked for a person
ended     transfer_complete
"""


def test_it_holds_the_conversation_and_nothing_that_differs_between_machines() -> None:
    assert golden_text(story(CALL)) == GOLDEN


def test_times_are_in_it_when_they_are_asked_for() -> None:
    lines = golden_text(story(CALL), times=True).splitlines()
    assert lines[1] == "   2.500  agent     Hi, this is Acme. [interrupted]"


def test_a_timeline_for_people_has_what_a_golden_file_leaves_out() -> None:
    lines = timeline(story(CALL)).splitlines()
    assert lines[0] == "     0.000  started   Support"
    assert lines[1] == "     2.500  agent     Hi, this is Acme. (interrupted)"
    assert lines[2] == "     2.600  lint      512 bytes came at once"
    assert lines[3] == "     3.000  caller    I want a refund  (vosk 0.87)"


def test_the_same_call_passes_whatever_its_line_ends_and_comments(tmp_path: Path) -> None:
    path = tmp_path / "refund.txt"
    path.write_bytes(b"# mine\r\n" + GOLDEN.replace("\n", "\r\n").encode())
    before = path.read_bytes()
    GoldenFiles(tmp_path, update=True).check("refund.txt", GOLDEN)
    assert path.read_bytes() == before, "what is right is not rewritten"


def test_a_different_call_fails_with_the_difference(tmp_path: Path) -> None:
    (tmp_path / "refund.txt").write_text(GOLDEN.replace("a refund", "an apple"))
    with pytest.raises(ExpectationFailed) as failure:
        GoldenFiles(tmp_path).check("refund.txt", GOLDEN)
    assert "-caller    I want an apple" in str(failure.value)
    assert "+caller    I want a refund" in str(failure.value)
    assert "pytest --voisnap-update" in str(failure.value)


def test_a_missing_file_fails_and_is_written_only_by_an_update(tmp_path: Path) -> None:
    with pytest.raises(ExpectationFailed, match=r"is not there: pytest --voisnap-update writes it"):
        GoldenFiles(tmp_path).check("golden/refund.txt", GOLDEN)
    assert list(tmp_path.iterdir()) == []
    GoldenFiles(tmp_path, update=True).check("golden/refund.txt", GOLDEN)
    assert (tmp_path / "golden" / "refund.txt").read_bytes() == GOLDEN.encode()


@pytest.mark.parametrize("there", [None, "agent  Something else.\n"])
def test_on_ci_nothing_is_ever_written(tmp_path: Path, there: str | None) -> None:
    if there is not None:
        (tmp_path / "refund.txt").write_text(there)
    with pytest.raises(ExpectationFailed, match=r"on CI .* nothing is written"):
        GoldenFiles(tmp_path, update=True, is_ci=True).check("refund.txt", GOLDEN)
    assert [path.read_text() for path in tmp_path.iterdir()] == ([] if there is None else [there])


def test_a_file_that_cannot_be_read_or_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "refund.txt").mkdir()
    with pytest.raises(ExpectationFailed, match=r"refund\.txt cannot be read"):
        GoldenFiles(tmp_path).check("refund.txt", GOLDEN)
    (tmp_path / "file").write_text("")
    with pytest.raises(ExpectationFailed, match="cannot be"):
        GoldenFiles(tmp_path, update=True).check("file/refund.txt", GOLDEN)


@pytest.mark.parametrize(
    ("value", "expected"), [("true", True), ("1", True), ("", False), ("false", False), ("0", False)]
)
def test_the_variable_ci_tells_where_we_are(value: str, expected: bool) -> None:
    assert is_ci({"CI": value}) is expected
    assert is_ci({}) is False
