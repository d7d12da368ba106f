"""Lists and changes fold into what the registry holds, whatever order they arrive in."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from common.discovery.api import Snapshot
from common.discovery.codec import encode
from common.discovery.picture import Picture
from tests.support.instances import make_instance

ONE, TWO = encode(make_instance("w1")), encode(make_instance("w2"))


def test_a_list_replaces_everything() -> None:
    picture = Picture()
    assert picture.replace({"w1": ONE, "bad": b"?"}, revision=5)
    assert picture.replace({"w2": TWO}, revision=6)
    assert picture.snapshot() == Snapshot(instances={"w2": make_instance("w2")})


def test_the_same_list_again_is_no_change() -> None:
    picture = Picture()
    picture.replace({"w1": ONE, "bad": b"?"}, revision=5)
    assert not picture.replace({"w1": ONE, "bad": b"?"}, revision=9)
    assert picture.revision == 9


def test_an_older_list_counts_too() -> None:
    """A wiped store begins at revision 1: what it says is the truth now."""
    picture = Picture()
    picture.replace({"w1": ONE}, revision=900)
    assert picture.replace({}, revision=2)
    assert picture.put("w2", TWO, revision=3)
    assert set(picture.snapshot().instances) == {"w2"}


def test_late_and_repeated_changes_do_nothing() -> None:
    picture = Picture()
    picture.replace({"w1": ONE}, revision=10)
    assert not picture.delete("w1", revision=9)
    assert not picture.put("w2", TWO, revision=4)
    assert not picture.put("w1", ONE, revision=10)
    assert set(picture.snapshot().instances) == {"w1"}


def test_changes_of_one_revision_all_count() -> None:
    """One transaction writes several keys at one revision, and a fragmented answer tells them apart."""
    picture = Picture()
    picture.replace({}, revision=10)
    assert picture.put("w1", ONE, revision=11)
    assert picture.put("w2", TWO, revision=11)


def test_a_value_goes_bad_and_good_again() -> None:
    picture = Picture()
    picture.replace({"w1": ONE}, revision=1)
    assert picture.put("w1", TWO, revision=2)
    assert picture.snapshot().instances == {}
    assert picture.snapshot().problems == {"w1": "id differs from the key"}
    assert picture.put("w1", ONE, revision=3)
    assert picture.snapshot() == Snapshot(instances={"w1": make_instance("w1")})
    assert picture.delete("w1", revision=4)
    assert not picture.delete("w1", revision=5)


def test_a_snapshot_does_not_change_later() -> None:
    picture = Picture()
    picture.replace({"w1": ONE}, revision=1)
    snapshot = picture.snapshot(stale=True)
    picture.delete("w1", revision=2)
    assert set(snapshot.instances) == {"w1"}
    assert snapshot.stale


def test_a_restored_picture_yields_to_the_first_list() -> None:
    picture = Picture()
    picture.restore(Snapshot(instances={"w1": make_instance("w1")}))
    assert set(picture.snapshot().instances) == {"w1"}
    assert not picture.replace({"w1": ONE}, revision=1)  # the same worker: nothing changed
    assert picture.replace({"w2": TWO}, revision=2)
    assert set(picture.snapshot().instances) == {"w2"}


names = st.sampled_from(["w1", "w2", "w3"])
changes = st.lists(st.tuples(names, st.none() | st.integers(1, 9)), min_size=1, max_size=30)


@settings(deadline=None)  # a busy machine is no failure
@given(changes, st.data())
def test_a_replayed_history_ends_in_the_same_picture(
    history: list[tuple[str, int | None]], data: st.DataObject
) -> None:
    """Whatever part of the past a server repeats, and wherever a list cuts in, the end is the truth."""
    truth: dict[str, bytes] = {}
    picture = Picture()
    picture.replace({}, revision=0)
    for revision, (name, rows) in enumerate(history, start=1):
        if rows is None:
            truth.pop(name, None)
        else:
            truth[name] = encode(make_instance(name, rows_max=rows))
        if data.draw(st.booleans()):
            picture.replace(truth, revision=revision)
        for at in range(data.draw(st.integers(1, revision)), revision + 1):
            then_name, then_rows = history[at - 1]
            if then_rows is None:
                picture.delete(then_name, revision=at)
            else:
                value = encode(make_instance(then_name, rows_max=then_rows))
                picture.put(then_name, value, revision=at)
    expected = Picture()
    expected.replace(truth, revision=1)
    assert picture.snapshot() == expected.snapshot()
