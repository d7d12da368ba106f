"""Whatever client and cluster do, in whatever order: each generation ends once, and nothing follows its end."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from common.errors import InvalidRequest, NotFound, Unavailable
from gateway.websocket.session import Begin, Generation, Leave, Refuse, Say, Session, State
from lepton.v1 import inference_pb2
from tests.support.socket_client import checked

GENERATIONS_MAX = 3
FAULTS_MAX = 5
IDS = st.sampled_from("abcde")
REQUESTS = st.sampled_from(
    [
        {"text": "hello"},
        {"text": "hello", "request_id": "mine"},
        {"tokenIds": {"ids": [1]}},
        {"txt": "hello"},
        [],
        None,
    ]
)
ERRORS = st.sampled_from([None, Unavailable("lost"), NotFound("gone", field="model")])


class Conversation(RuleBasedStateMachine):
    """Follows by itself what the client has been told."""

    def __init__(self) -> None:
        super().__init__()
        numbers = iter(range(1_000_000))
        self.session = Session(
            generations_max=GENERATIONS_MAX,
            depth_max=100,
            values_max=1000,
            faults_max=FAULTS_MAX,
            new_request_id=lambda: f"request-{next(numbers)}",
        )
        self.running: dict[str, Generation] = {}
        self.num_faults = 0
        self.told: dict[str, list[str]] = {}
        """Types of messages since the last start with this id."""

    def tell(self, text: str) -> dict[str, Any]:
        message: dict[str, Any] = checked("ServerMessage", json.loads(text))
        if name := message.get("id"):
            so_far = self.told[name]
            assert not so_far or so_far[-1] == "event", "something after the end"
            so_far.append(message["type"])
        return message

    @rule(name=IDS, request=REQUESTS, kind=st.sampled_from(["start", "resume"]))
    def start(self, name: str, request: Any, kind: str) -> None:
        said = {"type": kind, "id": name, "request": request}
        if kind == "resume":
            said |= {"resume_token": "t", "after_seq": "7"}
        if name in self.running:
            self.is_no_message(json.dumps(said), field="id")
            return
        self.told[name] = []
        asked = self.session.receive(json.dumps(said))
        if isinstance(asked, Refuse):
            message = self.tell(asked.text)
            assert message["type"] == "error"
            assert message["error"]["request_id"] == asked.request_id
            full = len(self.running) == GENERATIONS_MAX
            assert full == (message["error"]["reason"] == "CALLER_QUEUE_FULL")
        else:
            assert isinstance(asked, Begin)
            assert len(self.running) < GENERATIONS_MAX
            assert asked.request.request_id == asked.generation.request_id
            assert asked.request.HasField("resume") == (kind == "resume")
            self.running[name] = asked.generation

    @rule(
        text=st.sampled_from(
            ["", "x", "[]", "{}", '{"type": "start"}', '{"type": "stop", "id": "a"}']
        )
    )
    def nonsense(self, text: str) -> None:
        self.is_no_message(text)

    def is_no_message(self, text: str, *, field: str | None = None) -> None:
        """It is told, as often as may be, and changes nothing."""
        self.num_faults += 1
        try:
            asked = self.session.receive(text)
        except InvalidRequest:
            assert self.num_faults > FAULTS_MAX
            return
        assert self.num_faults <= FAULTS_MAX
        assert isinstance(asked, Refuse)
        message = self.tell(asked.text)
        assert message["type"] == "fault"
        assert field in (None, message["error"]["field"])

    @rule(name=IDS)
    def cancel(self, name: str) -> None:
        known = self.running.get(name)
        was_running = known is not None and known.state is State.RUNNING
        asked = self.session.receive(json.dumps({"type": "cancel", "id": name}))
        assert asked == (Leave(known) if was_running and known else None)

    @rule()
    def ping(self) -> None:
        asked = self.session.receive('{"type": "ping"}')
        assert isinstance(asked, Say)
        assert self.tell(asked.text) == {"type": "pong"}

    @precondition(lambda self: self.running)
    @rule(data=st.data(), num_events=st.integers(0, 3), token=st.sampled_from(["", "t1", "t2"]))
    def events(self, data: st.DataObject, num_events: int, token: str) -> None:
        generation = self.running[data.draw(st.sampled_from(sorted(self.running)))]
        event = inference_pb2.Event(started=inference_pb2.Started(resume_token=token))
        response = inference_pb2.GenerateResponse(events=[event] * num_events)
        text = self.session.events(generation, response.SerializeToString())
        assert (text is None) == (num_events == 0)
        if text is not None:
            self.tell(text)
            assert generation.resume_token == token

    @precondition(lambda self: self.running)
    @rule(data=st.data(), error=ERRORS)
    def end(self, data: st.DataObject, error: Any) -> None:
        name = data.draw(st.sampled_from(sorted(self.running)))
        generation = self.running.pop(name)
        message = self.tell(self.session.end(generation, error))
        assert message["type"] == ("error" if error else "end")
        for too_late in (
            lambda: self.session.end(generation, None),
            lambda: self.session.events(generation, b""),
        ):
            try:
                too_late()
            except RuntimeError:
                continue
            raise AssertionError("something after the end")

    @invariant()
    def both_know_the_same(self) -> None:
        assert self.session.running == self.running


TestConversation = Conversation.TestCase
