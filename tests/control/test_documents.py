"""The documents of the API: valid, complete, and true of a running server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import hypothesis
import jsonschema
import pytest
import schemathesis
from controlled import AGENTS, Control, Serving
from hub_caller import HubCaller
from openapi_spec_validator import validate
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from voisnap_mock.cloud.wire import TARGETS
from voisnap_mock.config import Settings, parse_agents
from voisnap_mock.control.asyncapi import EVENT_SAMPLES
from voisnap_mock.coverage import EVENTS, METHODS
from voisnap_mock.engine.events import AudioArrived
from voisnap_mock.server import MockServer, Server

ASYNCAPI = Path(__file__).parent.parent / "interop/node/node_modules/@asyncapi/specs/schemas/3.0.0-without-$id.json"
README = (Path(__file__).parent.parent.parent / "README.md").read_text(encoding="utf-8")
CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]


async def test_the_openapi_document_is_valid(control: Control) -> None:
    document = (await control.get("openapi.json")).json()
    validate(document)
    assert all(path.startswith("/__voisnap/") or path in ("/livez", "/readyz") for path in document["paths"])


async def test_every_resource_is_in_the_readme(control: Control) -> None:
    document = (await control.get("openapi.json")).json()
    names = {path.split("/")[2] for path in document["paths"] if path.startswith("/__voisnap/")}
    missing = [name for name in sorted(names) if f"`GET {name}`" not in README and f" {name}" not in README]
    assert not missing


@pytest.mark.interop
async def test_the_asyncapi_document_is_valid(control: Control) -> None:
    assert ASYNCAPI.is_file(), "run `npm ci` in tests/interop/node"
    document = (await control.get("asyncapi.json")).json()
    schema = json.loads(ASYNCAPI.read_text(encoding="utf-8"))
    errors = list(jsonschema.validators.validator_for(schema)(schema).iter_errors(document))
    assert not errors, errors[0]


async def test_the_asyncapi_document_has_every_method_and_event(control: Control) -> None:
    document = (await control.get("asyncapi.json")).json()
    for hub in ("voice", "chat", "webrtc"):
        assert set(document["channels"][hub]["messages"]) == {*METHODS[hub], *EVENTS[hub]}
    actions = {name: operation["action"] for name, operation in document["operations"].items()}
    assert (actions["VoiceHub.SendAudioAsync"], actions["VoiceHub.AudioReceived"]) == ("receive", "send")


async def test_an_argument_that_may_be_left_out_is_not_required(control: Control) -> None:
    messages = (await control.get("asyncapi.json")).json()["channels"]["webrtc"]["messages"]
    validator = jsonschema.Draft7Validator(messages["SendIceCandidateAsync"]["payload"])
    for arguments, fits in (([], True), ([None], True), ([None, None], False)):
        assert validator.is_valid({"type": 1, "target": "SendIceCandidateAsync", "arguments": arguments}) is fits


async def test_a_server_without_a_page_is_as_the_document_says(serving: Serving) -> None:
    async with serving(no_ui=True) as (_, control):
        document = (await control.get("openapi.json")).json()
        shown = (await control.get("info")).json()
        jsonschema.Draft202012Validator({**document, "$ref": "#/components/schemas/Info"}).validate(shown)


def test_there_is_a_sample_of_every_event_that_clients_are_told_of() -> None:
    assert {type(sample) for sample in EVENT_SAMPLES} == set(TARGETS) - {AudioArrived}


@pytest.mark.parametrize("hub", ["voice", "chat"])
async def test_what_a_hub_sends_is_as_the_document_says(server: Server, control: Control, hub: str) -> None:
    document = (await control.get("asyncapi.json")).json()
    messages = document["channels"][hub]["messages"]
    async with HubCaller(server, hub, agentId="agt_desk") as caller:
        await caller.wait_for("SessionStarted")
        if hub == "chat":
            await caller.wait_for("MessageReceived", isFinal=True)
            await caller.invoke("SendMessageAsync", {"content": "bye"})
        else:
            await caller.wait_for("TranscriptionOf", isFinal=True)
            await caller.invoke("EndSessionAsync", "user_ended")
        await caller.wait_for("SessionEnded")
    for target, payload in caller.shown():
        # AsyncAPI speaks draft 7 unless it says otherwise.
        validator = jsonschema.Draft7Validator(messages[target]["payload"])
        validator.validate({"type": 1, "target": target, "arguments": [payload]})


@pytest.mark.parametrize(("method", "path"), [("PUT", "agents"), ("POST", "faults"), ("POST", "verify")])
async def test_a_body_without_end_is_not_read(control: Control, method: str, path: str) -> None:
    answer = await control.request(method, path, content=b" " * (5 * 1024 * 1024))
    assert answer.status_code == 413
    assert "larger than 4,194,304 bytes" in answer.json()["detail"]


# --- against a running server ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with MockServer(parse_agents(AGENTS, source="test agents"), settings=Settings(port=0, clock="virtual")) as running:
        yield running.base_url


def operations(url: str) -> Iterator[Any]:
    schema = schemathesis.openapi.from_url(f"{url}/__voisnap/openapi.json")
    for found in schema.get_all_operations():
        yield found.ok()


@pytest.mark.parametrize("mode", list(GenerationMode), ids=str)
def test_every_answer_is_in_the_document(url: str, mode: GenerationMode) -> None:
    """Some requests for each operation, made from the document, right or wrong; the same ones every time."""

    def explore(operation: Any) -> None:
        @hypothesis.given(case=operation.as_strategy(generation_mode=mode))
        @hypothesis.settings(
            max_examples=8,
            derandomize=True,
            database=None,
            deadline=None,
            suppress_health_check=list(hypothesis.HealthCheck),
        )
        def ask(case: Any) -> None:
            # An endless answer is no case for this.
            case.query.pop("follow", None)
            case.call_and_validate(checks=CHECKS, timeout=10)

        ask()

    number = 0
    for operation in operations(url):
        # Where any text will do, nothing can be made that is wrong.
        with suppress(hypothesis.errors.Unsatisfiable):
            explore(operation)
            number += 1
    assert number >= {GenerationMode.POSITIVE: 28, GenerationMode.NEGATIVE: 8}[mode]
