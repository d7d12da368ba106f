"""Which registry is opened, and which settings are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from common.clock import SystemClock
from common.discovery.directory import DirectoryRegistrar, DirectoryWatcher
from common.discovery.etcd.registrar import EtcdRegistrar
from common.discovery.etcd.watcher import EtcdWatcher
from common.discovery.memory import MemoryRegistry
from common.discovery.open import open_registrar, open_watcher
from common.discovery.settings import DiscoverySettings
from common.errors import Conflict, Reason
from common.settings import load


def read(**flags: str) -> DiscoverySettings:
    sections = load(
        {"discovery": DiscoverySettings},
        env={},
        flags={("discovery", key): text for key, text in flags.items()},
    )
    settings = sections["discovery"]
    assert isinstance(settings, DiscoverySettings)
    return settings


@pytest.mark.parametrize(
    ("text", "endpoints"),
    [
        ("127.0.0.1:2379", ("127.0.0.1:2379",)),
        ("a:1, b:2 ,", ("a:1", "b:2")),
        ("http://etcd:2379/", ("etcd:2379",)),
        ("[::1]:2379", ("[::1]:2379",)),
        ("", ()),
    ],
)
def test_endpoints(text: str, endpoints: tuple[str, ...]) -> None:
    assert read(etcd_endpoints=text).etcd_endpoints == endpoints


@pytest.mark.parametrize(
    "text", ["etcd", "etcd:", ":2379", "etcd:0", "etcd:65536", "etcd:x", "a:1,b"]
)
def test_endpoints_that_are_none(text: str) -> None:
    with pytest.raises(Conflict, match=r"discovery\.etcd_endpoints .* is not host:port"):
        read(etcd_endpoints=text)


def test_tls_is_refused_rather_than_left_out() -> None:
    with pytest.raises(Conflict, match="does not speak TLS"):
        read(etcd_endpoints="https://etcd:2379")


@pytest.mark.parametrize(
    ("flags", "registrar", "watcher"),
    [
        ({"etcd_endpoints": "a:1"}, EtcdRegistrar, EtcdWatcher),
        ({"registry_dir": "reg"}, DirectoryRegistrar, DirectoryWatcher),
        ({"etcd_endpoints": "a:1", "registry_dir": "reg"}, EtcdRegistrar, EtcdWatcher),
    ],
)
def test_the_registry_that_is_set_is_opened(
    flags: dict[str, str], registrar: type[Any], watcher: type[Any]
) -> None:
    settings = read(**flags)
    assert isinstance(open_registrar(settings, SystemClock()), registrar)
    assert isinstance(open_watcher(settings, SystemClock()), watcher)


def test_without_a_registry_a_worker_serves_alone_and_a_router_refuses() -> None:
    assert isinstance(open_registrar(read(), SystemClock()), MemoryRegistry)
    with pytest.raises(Conflict, match="registry_dir") as refusal:
        open_watcher(read(), SystemClock())
    assert refusal.value.reason is Reason.SETTING_INVALID


def test_paths_are_paths() -> None:
    assert read(snapshot_file="state/x.json").snapshot_file == Path("state/x.json")
