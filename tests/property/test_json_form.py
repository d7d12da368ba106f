"""Our JSON form is protobuf's: its own library reads what we write, and we read what it writes."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from google.protobuf import json_format
from hypothesis import given
from hypothesis import strategies as st

from common.errors import InvalidRequest
from gateway.json_form import as_json, from_json
from lepton.v1 import inference_pb2
from tests.support.random_messages import messages
from tests.support.socket_client import validator_of

Request, Event = inference_pb2.GenerateRequest, inference_pb2.Event

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from([field.name for field in Request.DESCRIPTOR.fields])
            | st.text(max_size=3),
            inner,
            max_size=4,
        )
    ),
    max_leaves=8,
)


@pytest.mark.parametrize("cls", [Request, Event])
def test_protobuf_reads_what_we_write(cls: Any) -> None:
    @given(messages(cls))
    def check(message: Any) -> None:
        text = msgspec.json.encode(as_json(message))
        assert json_format.Parse(text, cls()) == message
        assert from_json(cls, json.loads(text)) == message

    check()


@pytest.mark.parametrize("keeps_names", [True, False])
def test_we_read_what_protobuf_writes(keeps_names: bool) -> None:
    @given(messages(Request))
    def check(message: Any) -> None:
        text = json_format.MessageToJson(message, preserving_proto_field_name=keeps_names)
        assert from_json(Request, json.loads(text)) == message

    check()


@given(JSON)
def test_any_value_is_read_or_refused_with_a_path(value: Any) -> None:
    try:
        message = from_json(Request, value)
    except InvalidRequest as refusal:
        assert refusal.field is not None or not isinstance(value, dict)
    else:
        # We are the stricter ones: what we take, protobuf takes, and means the same.
        assert json_format.ParseDict(value, Request()) == message


@pytest.mark.parametrize("cls", [Request, Event])
def test_the_schema_holds_for_what_we_write(cls: Any) -> None:
    validator = validator_of(cls.DESCRIPTOR.name)

    @given(messages(cls))
    def check(message: Any) -> None:
        validator.validate(json.loads(msgspec.json.encode(as_json(message))))

    check()
