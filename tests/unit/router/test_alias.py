"""Names that stand for weighted models: how they are written, and whom they mean."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

import pytest

from common.errors import Conflict, Reason
from common.settings import load
from router.core.alias import Aliases, AliasTarget, parse_aliases
from router.core.call import RoutingView
from router.core.endpoint import EndpointState
from router.core.pool import PoolSnapshot
from router.settings import RouterSettings
from tests.support.endpoints import make_endpoint
from tests.support.prompts import view_of_chat

STABLE, CANARY = "1a2b3c4d" + "0" * 56, "9f8e7d6c" + "0" * 56
TEXT = "chat=demo@1a2b3c4d:95,demo@9f8e7d6c:5"
CHAT = (
    AliasTarget(model="demo", revision="1a2b3c4d", weight=95),
    AliasTarget(model="demo", revision="9f8e7d6c", weight=5),
)
ENDPOINTS = (
    make_endpoint("w1", model="demo", revision=STABLE),
    make_endpoint("w2", model="demo", revision=CANARY),
)
SERVED = PoolSnapshot(models={"demo": ENDPOINTS})


def make_aliases(seed: int = 1) -> Aliases:
    return Aliases({"chat": CHAT}, Random(seed))


def meant(aliases: Aliases, view: RoutingView, snapshot: PoolSnapshot = SERVED) -> str:
    target = aliases.target_of(view, snapshot)
    assert target is not None
    return target.revision


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (TEXT, {"chat": CHAT}),
        ({"chat": "demo@1a2b3c4d:95, demo@9f8e7d6c:5"}, {"chat": CHAT}),
        (
            " a = m ; b=n:2,",
            {"a": (AliasTarget(model="m"),), "b": (AliasTarget(model="n", weight=2),)},
        ),
        ("", {}),
        ({}, {}),
    ],
)
def test_aliases_are_written_as_text_or_as_a_table(written: Any, expected: Any) -> None:
    assert parse_aliases(written) == expected


@pytest.mark.parametrize(
    ("written", "words"),
    [
        ("chat", "write NAME=MODEL"),
        ("=demo", "1 to 128 characters"),
        ("chat=", "no target"),
        ("chat=demo:0", "weight is 1 to 999999"),
        ("chat=demo:x", "weight is 1 to 999999"),
        ("chat=demo@xyz", "8 to 64 hex digits"),
        ("chat=demo@:5", "8 to 64 hex digits"),
        ("chat=@1a2b3c4d:5", "write MODEL"),
        ({"chat": 5}, "write a text"),
    ],
)
def test_what_is_written_wrongly_is_an_error_that_says_how(written: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        parse_aliases(written)


def test_file_environment_and_flags_say_the_same(tmp_path: Path) -> None:
    file = tmp_path / "lepton.toml"
    file.write_text('[router.aliases]\nchat = "demo@1a2b3c4d:95,demo@9f8e7d6c:5"\n')
    sections = {"router": RouterSettings}
    for loaded in (
        load(sections, file=file, env={}),
        load(sections, env={"LEPTON_ROUTER_ALIASES": TEXT}),
        load(sections, env={}, flags={("router", "aliases"): TEXT}),
    ):
        assert loaded["router"].aliases == {"chat": CHAT}


@pytest.mark.parametrize("wrong", ["chat=demo:0", "chat"])
def test_a_wrong_setting_is_named_with_its_place(wrong: str) -> None:
    with pytest.raises(
        Conflict, match=r"router\.aliases \(environment variable LEPTON_ROUTER_ALIASES\)"
    ) as caught:
        load({"router": RouterSettings}, env={"LEPTON_ROUTER_ALIASES": wrong})
    assert caught.value.reason is Reason.SETTING_INVALID


def test_a_table_that_is_none_is_an_error() -> None:
    with pytest.raises(Conflict, match=r"router\.aliases"):
        load({"router": RouterSettings}, env={}, flags={("router", "aliases"): "5"})


def test_only_aliases_mean_something_else() -> None:
    assert make_aliases().target_of(RoutingView(model="demo"), SERVED) is None
    assert make_aliases().target_of(RoutingView(model=""), SERVED) is None


def test_a_canary_gets_its_share_of_two_thousand_calls() -> None:
    aliases = make_aliases()
    drawn = Counter(meant(aliases, RoutingView(model="chat")) for _ in range(2000))
    assert drawn["9f8e7d6c"] == pytest.approx(100, abs=35)
    keyed = Counter(
        meant(aliases, RoutingView(model="chat", session_key=f"{n}")) for n in range(2000)
    )
    assert keyed["9f8e7d6c"] == pytest.approx(100, abs=35)


def test_a_session_always_means_the_same_in_every_router() -> None:
    for n in range(200):
        view = RoutingView(model="chat", session_key=f"user-{n}")
        assert meant(make_aliases(1), view) == meant(make_aliases(2), view)


def test_all_turns_of_a_chat_mean_the_same() -> None:
    aliases = make_aliases()
    seen = set()
    for n in range(300):
        turns = ["s:be kind", f"u:question {n}"]
        first = meant(aliases, view_of_chat(*turns, model="chat"))
        later = meant(aliases, view_of_chat(*turns, "a:well", "u:more", model="chat"))
        assert first == later
        seen.add(first)
    assert seen == {"1a2b3c4d", "9f8e7d6c"}


def test_when_the_canary_is_away_only_its_calls_go_elsewhere() -> None:
    aliases = make_aliases()
    away = PoolSnapshot(
        models={
            "demo": (
                ENDPOINTS[0],
                make_endpoint("w2", model="demo", revision=CANARY, state=EndpointState.LOST),
            )
        }
    )
    for n in range(200):
        view = RoutingView(model="chat", session_key=f"{n}")
        assert meant(aliases, view, away) == "1a2b3c4d"
        assert meant(aliases, view, PoolSnapshot()) == meant(aliases, view, SERVED)


def test_who_pins_a_revision_gets_it() -> None:
    view = RoutingView(model="chat", revision="9f8e7d6c0")
    target = make_aliases().target_of(view, SERVED)
    assert target is not None
    assert (target.model, target.revision) == ("demo", "9f8e7d6c0")


def test_a_pinned_revision_finds_its_model_among_several() -> None:
    aliases = Aliases({"chat": (AliasTarget(model="gone"), AliasTarget(model="demo"))}, Random(1))
    target = aliases.target_of(RoutingView(model="chat", revision="9f8e7d6c"), SERVED)
    assert target is not None
    assert target.model == "demo"
