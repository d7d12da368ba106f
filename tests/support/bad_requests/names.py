"""Names, keys and ids, stop strings, fields that there are not."""

from __future__ import annotations

from collections.abc import Iterator

from common.errors import Forbidden, NotFound, Unsupported
from tests.support.bad_requests.row import LARGE, MALFORMED, RANGE, Row, row

__all__ = ["names"]

UNSUPPORTED = "PARAMETER_UNSUPPORTED"


def names() -> Iterator[Row]:
    """B09 to B12, B23, B28."""
    yield from _stop_strings()
    yield from _keys()
    yield from _unknown()
    yield from _models()


def _stop_strings() -> Iterator[Row]:
    for strings, reason, where in (
        (["a"] * 17, LARGE, ""),
        (["x"] * 100_000, LARGE, ""),
        (["a", ""], RANGE, "[1]"),
        (["é" * 129], RANGE, "[0]"),
        (["a" * 1_000_000], RANGE, "[0]"),
    ):
        alone = ({"parameters": {"stop": strings[0]}}, "parameters.stop")
        yield row(
            "B09",
            f"{len(strings)} stop strings, the last of {len(strings[-1])} characters",
            reason,
            proto=({"stop": {"strings": strings}}, f"stop.strings{where}"),
            rest=({"stop": strings}, "stop"),
            kserve=alone if len(strings) == 1 else None,
        )


def _keys() -> Iterator[Row]:
    for name in ("a b", "a\nb", "\x1b[2J", "é", "x" * 129, "x" * 1_000_000):
        about = f"a request id of {len(name)} characters, {name[:3]!r}"
        yield row("B10", about, MALFORMED, proto=({"request_id": name}, "request_id"))
    for key in ("session_key", "idempotency_key"):
        yield row(
            "B10",
            f"a {key} of 129 characters",
            LARGE,
            proto=({key: "x" * 129}, key),
            rest=({"lepton": {key: "x" * 129}}, f"lepton.{key}"),
        )
    yield row(
        "B10",
        "a salt of 65 bytes",
        LARGE,
        proto=({"cache": {"salt": "x" * 65}}, "cache.salt"),
        rest=({"cache_salt": "x" * 65}, "cache_salt"),
    )


def _unknown() -> Iterator[Row]:
    for id_, name in (
        ("B11", "__proto__"),
        ("B11", "Temperature"),
        ("B11", "trust_remote_code"),
        ("B11", "a\r\n\x1b[2J"),
        ("B23", "chat_template"),
        ("B23", "chat_template_kwargs"),
        ("B28", "prompt_embeds"),
    ):
        value = "{{ ''.__class__.__mro__ }}"
        yield row(id_, f"{name!r} in the proto", MALFORMED, websocket=({name: value}, name))
        yield row(id_, f"{name!r} in REST", UNSUPPORTED, Unsupported, rest=({name: value}, name))
        said = ({"parameters": {name: value}}, f"parameters.{name}")
        yield row(id_, f"{name!r} in KServe", UNSUPPORTED, kserve=said)
    yield row(
        "B11",
        "a field for routers",
        "ROUTER_ONLY_FIELD",
        Forbidden,
        proto=({"continuation": {}}, "continuation"),
    )
    yield row(
        "B11",
        "a reserved field",
        "ADAPTER_UNSUPPORTED",
        Unsupported,
        proto=({"adapter": "../x"}, "adapter"),
    )


def _models() -> Iterator[Row]:
    for name in ("../x", "x/../../y", "a\x00b", "tïny", "tiny ", "TINY", "$(id)", "tiny\n"):
        said = ({"model": name}, "model")
        yield row("B12", f"the model {name!r}", "MODEL_NOT_FOUND", NotFound, proto=said, rest=said)
    said = ({"model": "x" * 65_536}, "model")
    yield row("B12", "a model's name of 64 KB", LARGE, proto=said, rest=said)
    path = "../../etc"
    yield row(
        "B12",
        "a revision that is a path",
        MALFORMED,
        proto=({"revision": path}, "revision"),
        rest=({"lepton": {"revision": path}}, "lepton.revision"),
    )
