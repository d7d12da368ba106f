from __future__ import annotations

import pytest

from worker.transport.call_context import deadline_of, facts_of


class Context:
    def __init__(self, *metadata: tuple[str, str | bytes], remaining: float | None = None) -> None:
        self._metadata = metadata
        self._remaining = remaining

    def invocation_metadata(self) -> tuple[tuple[str, str | bytes], ...]:
        return self._metadata

    def peer(self) -> str:
        return "ipv4:127.0.0.1:1"

    def time_remaining(self) -> float | None:
        return self._remaining

    async def send_initial_metadata(self, metadata: object) -> None:
        raise AssertionError

    def set_trailing_metadata(self, metadata: object) -> None:
        raise AssertionError


@pytest.mark.parametrize(
    ("metadata", "message", "expected"),
    [
        ((("lepton-request-id", "router"),), "client", "router"),
        ((), "client", "client"),
        ((("lepton-request-id", "with space"),), "client", "client"),
        ((("lepton-request-id", "x" * 129),), "client", "client"),
    ],
)
def test_the_request_id_is_the_first_clean_one(
    metadata: tuple[tuple[str, str], ...], message: str, expected: str
) -> None:
    assert facts_of(Context(*metadata), request_id=message).request_id == expected


def test_a_request_id_is_made_when_there_is_none() -> None:
    made = {facts_of(Context(), request_id="bad id\n").request_id for _ in range(10)}
    assert len(made) == 10
    assert all(name.startswith("req-") for name in made)


@pytest.mark.parametrize(
    ("remaining", "expected"), [(None, 110.0), (3.0, 103.0), (1e9, 110.0), (-1.0, 100.0)]
)
def test_the_deadline_is_the_callers_within_the_limit(
    remaining: float | None, expected: float
) -> None:
    assert deadline_of(Context(remaining=remaining), now=100.0, deadline_s_max=10.0) == expected
