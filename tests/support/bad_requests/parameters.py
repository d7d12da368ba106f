"""Numbers, counts and lengths."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tests.support.bad_requests.row import FINITE, LARGE, MALFORMED, RANGE, TOKEN, Row, Said, row
from tests.support.demo_cluster import CONTEXT, VOCABULARY

__all__ = ["parameters"]


def parameters() -> Iterator[Row]:
    """B01, B02, B04 to B06."""
    yield from _numbers()
    yield from _counts()
    yield from _ids()
    yield from _lengths()


def _numbers() -> Iterator[Row]:
    for name in ("temperature", "top_p", "min_p", "repetition_penalty"):
        for none in ("NaN", "Infinity", "-Infinity"):
            yield row(
                "B01",
                f"{name} is {none}",
                FINITE,
                proto=_proto("sampling", name, none),
                kserve_grpc=_kserve(name, float(none)),  # JSON has no such numbers
            )
        for number in (-0.5, 11.0, 1e38):
            yield _everywhere("B01", "sampling", name, number, RANGE)
        yield _in_json("B01", "sampling", name, 1e308, FINITE)  # beyond what 32 bits hold
        for other in ("0.5", True):
            yield _in_json("B01", "sampling", name, other, MALFORMED)
    for name in ("frequency_penalty", "presence_penalty"):
        yield _everywhere("B01", "sampling", name, 2.5, RANGE)
        yield row("B01", f"{name} is NaN", FINITE, proto=_proto("sampling", name, "NaN"))
    yield _everywhere("B01", "sampling", "top_p", 0.0, RANGE)
    for bias in (101.0, -1e30):
        yield row(
            "B01", f"a bias of {bias:g}", RANGE, proto=_bias("5", bias), rest=_rest_bias("5", bias)
        )
    yield row(
        "B01",
        "a bias beyond 32 bits",
        FINITE,
        websocket=_bias("5", 1e39),
        rest=_rest_bias("5", 1e39),
    )


def _counts() -> Iterator[Row]:
    for count in (0, 9, 2**31, 10**9, 2**32 - 1):
        yield row(
            "B02",
            f"n is {count}",
            RANGE,
            proto=_proto("sampling", "n", count),
            rest=_rest("n", count),
        )
    for count in (-1, 2**32, 10**30):
        yield row(
            "B02",
            f"n is {count}",
            RANGE,
            websocket=_proto("sampling", "n", count),
            rest=_rest("n", count),
        )
    for count in (21, 10**6, 2**32 - 1, -1):
        said = ({"output": {"logprobs": count}}, "output.logprobs")
        yield row(
            "B05",
            f"{count} log-probabilities",
            RANGE,
            proto=said if count > 0 else None,
            websocket=said,
            chat=({"logprobs": True, "top_logprobs": count}, "top_logprobs"),
            text=_rest("logprobs", count),
        )


def _ids() -> Iterator[Row]:
    beyond = str(VOCABULARY)
    yield row(
        "B04",
        "a bias beyond the vocabulary",
        TOKEN,
        proto=_bias(beyond, 1),
        rest=_rest_bias(beyond, 1),
    )
    many = {str(i): 1 for i in range(2000)}
    yield row(
        "B04",
        "2,000 biases",
        LARGE,
        proto=_proto("sampling", "logit_bias", many),
        rest=_rest("logit_bias", many),
    )
    for key in ("-1", "4294967296", "x", "", "1.0", "٣"):
        reason = RANGE if key in {"-1", "4294967296"} else MALFORMED
        yield row(
            "B04",
            f"a bias for the id {key!r}",
            reason,
            websocket=_bias(key, 1),
            rest=_rest_bias(key, 1),
        )
    for ids, reason, where in (
        ([VOCABULARY], TOKEN, "[0]"),
        ([0, 2**32 - 1], TOKEN, "[1]"),
        ([1] * 65, LARGE, ""),
    ):
        yield row(
            "B04",
            f"{len(ids)} stop ids, the last of them {ids[-1]}",
            reason,
            proto=({"stop": {"token_ids": ids}}, f"stop.token_ids{where}"),
            rest=_rest("stop_token_ids", ids),
        )


def _lengths() -> Iterator[Row]:
    for count in (0, CONTEXT + 1, 2**32 - 1):
        yield _everywhere("B06", "stop", "max_tokens", count, RANGE)
    for count in (-1, 2**32):
        yield _in_json("B06", "stop", "max_tokens", count, RANGE)
    yield row("B06", "max_completion_tokens is 0", RANGE, chat=_rest("max_completion_tokens", 0))
    both = {"max_tokens": 3, "min_tokens": 4}
    yield row(
        "B06",
        "min_tokens above max_tokens",
        RANGE,
        proto=({"stop": both}, "stop.min_tokens"),
        rest=(both, "min_tokens"),
        kserve=({"parameters": both}, "parameters.min_tokens"),
    )
    for seed in (2**64, 10**30):
        yield row(
            "B10",
            f"seed is {seed}",
            RANGE,
            websocket=_proto("sampling", "seed", seed),
            rest=_rest("seed", seed),
            kserve_http=_kserve("seed", seed),
        )
    yield row(
        "B10",
        "seed is -1",
        RANGE,
        websocket=_proto("sampling", "seed", -1),
        kserve=_kserve("seed", -1),
    )


def _everywhere(id_: str, group: str, name: str, value: Any, reason: str) -> Row:
    """A parameter that has one name in every dialect."""
    return row(
        id_,
        f"{name} is {value!r}",
        reason,
        proto=_proto(group, name, value),
        rest=_rest(name, value),
        kserve=_kserve(name, value),
    )


def _in_json(id_: str, group: str, name: str, value: Any, reason: str) -> Row:
    """One whose value a GenerateRequest cannot hold."""
    return row(
        id_,
        f"{name} is {value!r}",
        reason,
        websocket=_proto(group, name, value),
        rest=_rest(name, value),
        kserve=_kserve(name, value),
    )


def _proto(group: str, name: str, value: Any) -> Said:
    return {group: {name: value}}, f"{group}.{name}"


def _rest(name: str, value: Any) -> Said:
    return {name: value}, name


def _kserve(name: str, value: Any) -> Said:
    return {"parameters": {name: value}}, f"parameters.{name}"


def _bias(key: str, bias: float) -> Said:
    return {"sampling": {"logit_bias": {key: bias}}}, f"sampling.logit_bias[{key}]"


def _rest_bias(key: str, bias: float) -> Said:
    return {"logit_bias": {key: bias}}, "logit_bias"
