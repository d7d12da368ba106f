"""What a process begins with is not looked through again; what comes later still is."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator

import pytest

from common.collector import YOUNG_MAX, settle_collector


@pytest.fixture(autouse=True)
def _as_it_was() -> Iterator[None]:
    threshold = gc.get_threshold()
    yield
    gc.set_threshold(*threshold)
    gc.unfreeze()


class Knot:
    def __init__(self) -> None:
        self.itself = self


def test_old_objects_are_left_alone_and_new_rubbish_is_not() -> None:
    settle_collector()
    assert gc.get_freeze_count() > 1000
    assert gc.get_threshold()[0] == YOUNG_MAX
    assert gc.isenabled()
    gone = weakref.ref(Knot())
    gc.collect()
    assert gone() is None
