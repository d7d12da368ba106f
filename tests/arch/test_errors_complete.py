"""Every error has a code, every reason a row in docs/errors.md that tells the truth."""

from __future__ import annotations

import re
from pathlib import Path

import grpc

from common import errors
from common.errors import LeptonError, Reason
from common.rpc.status import DETAILS_KEY, TABLE, details_of, from_rpc_error

PAGE = Path(__file__).resolve().parents[2] / "docs" / "errors.md"
ROW = re.compile(r"^\| `([A-Z_]+)` \| (\w+) \| (\w+) \| (.+) \| (.+) \|$", re.MULTILINE)


def test_every_error_class_has_codes() -> None:
    classes = {
        cls
        for name in errors.__all__
        if isinstance(cls := getattr(errors, name), type)
        and issubclass(cls, LeptonError)
        and cls is not LeptonError
    }
    assert classes == set(TABLE)


def test_the_page_lists_every_reason_once() -> None:
    listed = [row[0] for row in ROW.findall(PAGE.read_text("utf-8"))]
    assert sorted(listed) == sorted(reason.value for reason in Reason)


def test_the_page_gives_the_codes_of_the_table() -> None:
    codes = {cls.__name__: table.grpc.name for cls, table in TABLE.items()}
    wrong = [row[0] for row in ROW.findall(PAGE.read_text("utf-8")) if codes.get(row[1]) != row[2]]
    assert wrong == []


def test_default_reasons_stand_under_their_own_class() -> None:
    class_of = {row[0]: row[1] for row in ROW.findall(PAGE.read_text("utf-8"))}
    wrong = [cls.__name__ for cls in TABLE if class_of[cls.default_reason.value] != cls.__name__]
    assert wrong == []


def test_every_reason_comes_back_from_a_peer_under_its_class() -> None:
    for reason, name, *_ in ROW.findall(PAGE.read_text("utf-8")):
        sent = getattr(errors, name)("what", reason=Reason(reason))
        details = grpc.aio.Metadata((DETAILS_KEY, details_of(sent)))
        got = from_rpc_error(
            grpc.aio.AioRpcError(TABLE[type(sent)].grpc, grpc.aio.Metadata(), details, "what")
        )
        assert (type(got), got.reason) == (type(sent), sent.reason)
