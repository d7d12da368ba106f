"""An instance survives the way through a registry, and nothing else passes for one."""

from __future__ import annotations

import json
from dataclasses import fields
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.discovery.api import Instance, InstanceState
from common.discovery.codec import VALUE_BYTES_MAX, BadValue, check_id, decode, encode
from common.errors import Conflict
from tests.support.instances import make_instance

texts = st.text(st.characters(exclude_categories=["C", "Z"]) | st.just(" "), max_size=64)
full_texts = texts.filter(bool)
numbers = st.integers(1, 2**31 - 1)
addresses = st.builds(
    "{}:{}".format, st.sampled_from(["127.0.0.1", "[::1]", "worker-1.local"]), st.integers(1, 65535)
)
instances = st.builds(
    Instance,
    id=st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,20}", fullmatch=True),
    incarnation=full_texts,
    address=addresses,
    model=full_texts,
    revision=texts,
    tasks=st.lists(full_texts, max_size=5).map(tuple),
    context_length=numbers,
    vocab_size=numbers,
    rows_max=numbers,
    fingerprint=texts,
    version=texts,
    state=st.sampled_from(InstanceState),
    tool_format=texts,
    metrics_address=st.just("") | addresses,
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=5,
)


LATER = {"metrics_address", "tool_format"}
"""Fields that workers of older releases do not write."""


def fields_of(instance: Instance) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(encode(instance))
    return content


@settings(deadline=None)  # a busy machine is no failure
@given(instances)
def test_every_field_comes_back(instance: Instance) -> None:
    assert decode(encode(instance)) == instance


def test_the_property_covers_every_field() -> None:
    """Control for the one above: each field is written under its own name."""
    written = set(fields_of(make_instance())) - {"format"}
    assert written == {field.name for field in fields(Instance)}


@settings(deadline=None)  # a busy machine is no failure
@given(instances, st.dictionaries(st.text(min_size=1).map("x-{}".format), json_values, max_size=3))
def test_fields_of_newer_releases_are_ignored(instance: Instance, extra: dict[str, Any]) -> None:
    assert decode(json.dumps({**fields_of(instance), **extra}).encode()) == instance


@settings(deadline=None)  # a busy machine is no failure
@given(st.binary(max_size=200))
def test_bytes_are_refused_typed(value: bytes) -> None:
    with pytest.raises(BadValue):
        decode(value)


@settings(deadline=None)  # a busy machine is no failure
@given(st.data())
def test_a_wrong_field_is_refused_or_read_as_its_type(data: st.DataObject) -> None:
    content = fields_of(make_instance())
    name = data.draw(st.sampled_from(sorted(content)))
    content[name] = data.draw(json_values)
    try:
        instance = decode(json.dumps(content).encode())
    except BadValue as problem:
        assert name in str(problem) or "format" in str(problem)
        return
    for field in fields(Instance):
        assert type(getattr(instance, field.name)) is type(getattr(make_instance(), field.name))
    assert decode(encode(instance)) == instance


@pytest.mark.parametrize("name", sorted(LATER))
def test_a_worker_of_an_older_release_is_read(name: str) -> None:
    content = fields_of(make_instance(tool_format="hermes", metrics_address="h:1"))
    del content[name]
    assert getattr(decode(json.dumps(content).encode()), name) == ""


@pytest.mark.parametrize("name", sorted(set(fields_of(make_instance())) - LATER))
def test_a_missing_field_is_named(name: str) -> None:
    content = fields_of(make_instance())
    del content[name]
    with pytest.raises(BadValue, match=f"{name} is missing"):
        decode(json.dumps(content).encode())


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"format": 2}, "format 2"),
        ({"format": True}, "format"),
        ({"rows_max": 0}, "rows_max is outside"),
        ({"rows_max": 2**31}, "rows_max is outside"),
        ({"rows_max": 1.0}, "rows_max is not a whole number"),
        ({"rows_max": True}, "rows_max is not a whole number"),
        ({"address": "host"}, "not host:port"),
        ({"address": ":1"}, "not host:port"),
        ({"address": "host:0"}, "port outside"),
        ({"address": "host:65536"}, "port outside"),
        ({"address": "host:²"}, "not host:port"),
        ({"address": "host:" + "1" * 900}, "not host:port"),
        ({"address": "unix:/run/x:1"}, "not host:port"),
        ({"address": "unix:x:1"}, "not host:port"),
        ({"address": "dns://1.1.1.1/h:1"}, "not host:port"),
        ({"address": "a b:1"}, "not host:port"),
        ({"address": "[h]:1"}, "not host:port"),
        ({"metrics_address": 5}, "metrics_address is not a string"),
        ({"model": ""}, "model is empty"),
        ({"model": "m" * 1025}, "model has 1025 characters"),
        ({"model": "\ud800"}, "model has characters that cannot be shown"),
        ({"model": "\x1b[2J"}, "model has characters that cannot be shown"),
        ({"version": "1\n2"}, "version has characters that cannot be shown"),
        ({"tasks": ["\u009b"]}, "tasks has characters that cannot be shown"),
        ({"tasks": "generate"}, "tasks is not a list"),
        ({"tasks": ["generate"] * 65}, "tasks has 65 entries"),
        ({"tasks": [1]}, "tasks is not a string"),
        ({"state": "resting"}, "state 'resting' is unknown"),
        ({"id": "../w1"}, "id has characters"),
    ],
)
def test_what_is_wrong_is_told(change: dict[str, Any], told: str) -> None:
    with pytest.raises(BadValue, match=told):
        decode(json.dumps({**fields_of(make_instance()), **change}).encode())


def test_size_and_depth_are_bounded() -> None:
    whole = encode(make_instance())
    room = VALUE_BYTES_MAX - len(whole)
    assert decode(whole + b" " * room) == make_instance()
    with pytest.raises(BadValue, match="65537 bytes"):
        decode(whole + b" " * (room + 1))
    with pytest.raises(BadValue, match="not JSON"):
        decode(b"[" * VALUE_BYTES_MAX)
    with pytest.raises(BadValue, match="not JSON"):
        decode(b'{"format":' + b"9" * 10_000 + b"}")


@pytest.mark.parametrize(
    "change", [{"address": "x"}, {"model": "\ud800"}, {"fingerprint": "f" * 2000}, {"rows_max": 0}]
)
def test_what_could_not_be_read_is_not_written(change: dict[str, Any]) -> None:
    with pytest.raises(Conflict, match="worker w1 cannot be announced"):
        encode(make_instance(**change))


@pytest.mark.parametrize("worker_id", ["w", "W.1_a-b", "9" * 128])
def test_ids_that_are_keys(worker_id: str) -> None:
    assert check_id(worker_id) == worker_id


@pytest.mark.parametrize("worker_id", ["", ".", "..", "-w", "a/b", "a\0", "a\n", "é", "x" * 129])
def test_ids_that_are_not(worker_id: str) -> None:
    with pytest.raises(Conflict, match="worker id"):
        check_id(worker_id)
