"""The directory registry, its directory mistreated."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from common.clock import SystemClock
from common.discovery.api import Instance, Registration, Snapshot
from common.discovery.codec import encode
from common.discovery.open import open_registrar, open_watcher
from common.discovery.settings import DiscoverySettings
from common.errors import Conflict
from tests.support.instances import make_instance
from tests.support.watching import until_announced, watching


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "workers"


def settings_for(folder: Path) -> DiscoverySettings:
    return DiscoverySettings(registry_dir=folder, poll_s=0.03)


async def register(folder: Path, instance: Instance | None = None) -> Registration:
    registrar = open_registrar(settings_for(folder), SystemClock())
    return await registrar.register(instance or make_instance())


def follow(folder: Path) -> Any:
    return watching(open_watcher(settings_for(folder), SystemClock()))


def fresh(*instances: Instance) -> Callable[[Snapshot], bool]:
    return lambda s: dict(s.instances) == {it.id: it for it in instances} and not s.stale


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def replace_by_file(folder: Path) -> None:
    """So that nobody can make it anew."""
    shutil.rmtree(folder)
    folder.write_text("in the way")


def remove_file(path: Path) -> None:
    path.unlink()


def leave_dead(folder: Path, worker_id: str) -> None:
    """What a killed worker leaves: both files, the lock free."""
    folder.mkdir(exist_ok=True)
    (folder / f"{worker_id}.json").write_bytes(encode(make_instance(worker_id)))
    (folder / f"{worker_id}.lock").touch()


def is_written(path: Path, value: bytes) -> bool:
    return path.is_file() and path.read_bytes() == value


async def until_written(path: Path, value: bytes) -> None:
    clock = SystemClock()
    deadline = clock.now() + 5
    while not is_written(path, value):
        assert clock.now() < deadline, f"not written: {path}"
        await clock.sleep(0.01)


async def test_a_worker_makes_a_directory_anew_that_vanished(folder: Path) -> None:
    registration = await register(folder)
    async with follow(folder) as before:
        await before.until(fresh(make_instance()))
        shutil.rmtree(folder)
        await until_written(folder / "w1.json", encode(make_instance()))
        async with follow(folder) as after:
            await after.until(fresh(make_instance()))
        await before.until(fresh(make_instance()))
    await until_announced(registration)
    await registration.close()


async def test_a_router_alone_keeps_what_it_knew_when_the_directory_vanishes(folder: Path) -> None:
    registration = await register(folder)
    async with follow(folder) as seen:
        await seen.until(fresh(make_instance()))
        replace_by_file(folder)
        stale = await seen.until(lambda s: s.stale)
        assert set(stale.instances) == {"w1"}
        await seen.never(lambda s: "w1" not in s.instances, for_s=0.3)
        assert not registration.announced
        remove_file(folder)
        await seen.until(fresh(make_instance()))
    await registration.close()


async def test_what_dead_workers_left_is_not_seen_and_swept_by_the_next(folder: Path) -> None:
    for number in range(5):
        leave_dead(folder, f"dead{number}")
    (folder / "strange.json").write_text("{")
    async with follow(folder) as seen:
        first = await seen.until(lambda s: True)
        assert first.instances == {}
        assert set(first.problems) == {"strange"}
        registration = await register(folder)
        await seen.until(lambda s: set(s.instances) == {"w1"})
    # A file that is no worker's is left for people to look at.
    assert names_in(folder) == ["strange.json", "w1.json", "w1.lock"]
    await registration.close()
    assert names_in(folder) == ["strange.json"]


async def test_an_id_left_by_a_dead_worker_is_free(folder: Path) -> None:
    leave_dead(folder, "w1")
    second = make_instance(incarnation="second")
    registration = await register(folder, second)
    async with follow(folder) as seen:
        await seen.until(fresh(second))
    await registration.close()


async def test_links_pipes_and_folders_are_passed_over(folder: Path) -> None:
    registration = await register(folder)
    os.mkfifo(folder / "pipe.json")  # opening one would wait for ever
    os.mkfifo(folder / "w2.lock")
    (folder / "w2.json").write_bytes(encode(make_instance("w2")))
    (folder / "link.json").symlink_to(folder / "w1.json")
    (folder / "folder.json").mkdir()
    (folder / ".hidden.json").write_text("{}")
    (folder / "notes.txt").write_text("not an entry")
    async with follow(folder) as seen:
        await seen.until(fresh(make_instance()))
        assert dict(seen.last.problems) == {}
    await registration.close()


async def test_a_closed_worker_leaves_nothing(folder: Path) -> None:
    registration = await register(folder)
    assert names_in(folder) == ["w1.json", "w1.lock"]
    await registration.update(make_instance(rows_max=3))
    assert names_in(folder) == ["w1.json", "w1.lock"]
    await registration.close()
    assert names_in(folder) == []


async def test_a_value_that_someone_overwrote_is_mended(folder: Path) -> None:
    registration = await register(folder)
    (folder / "w1.json").write_text("{")
    await until_written(folder / "w1.json", encode(make_instance()))
    await until_announced(registration)
    await registration.close()


async def test_a_lock_file_that_someone_removed_is_made_anew(folder: Path) -> None:
    registration = await register(folder)
    remove_file(folder / "w1.lock")
    await until_written(folder / "w1.lock", b"")
    with pytest.raises(Conflict):  # and it is held, not only there
        await register(folder, make_instance(incarnation="second"))
    await registration.close()
