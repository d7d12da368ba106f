"""Clients leave files for everything else."""

from __future__ import annotations

import resource

import pytest

from router.open_files import FILES_KEPT, connections_within

Limits = tuple[int, int]


@pytest.mark.parametrize(
    ("before", "wanted", "allowed", "after"),
    [
        ((1024, 4096), 500, 500, (1024, 4096)),
        ((1024, 4096), 2000, 2000, (2000 + FILES_KEPT, 4096)),
        ((1024, 4096), 10_000, 4096 - FILES_KEPT, (4096, 4096)),
        ((1024, resource.RLIM_INFINITY), 9000, 9000, (9256, resource.RLIM_INFINITY)),
        ((resource.RLIM_INFINITY,) * 2, 9000, 9000, (resource.RLIM_INFINITY,) * 2),
        ((64, 64), 10, 1, (64, 64)),
    ],
)
def test_limit_is_raised_as_far_as_it_may(
    monkeypatch: pytest.MonkeyPatch, before: Limits, wanted: int, allowed: int, after: Limits
) -> None:
    limits = [before]
    monkeypatch.setattr(resource, "getrlimit", lambda _: limits[-1])
    monkeypatch.setattr(resource, "setrlimit", lambda _, new: limits.append(new))
    assert connections_within(wanted) == allowed
    assert limits[-1] == after
