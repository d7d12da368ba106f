"""The list of providers. A new one is a file beside this and a line here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from common.errors import BadModel, Conflict, Reason
from worker.runtime.providers.cpu import CPU
from worker.runtime.providers.cuda import cuda
from worker.runtime.providers.spec import DeviceOptions, ProviderSpec
from worker.runtime.providers.tensorrt import tensorrt

__all__ = ["PROVIDERS", "provider_named"]

PROVIDERS: Final[Mapping[str, Callable[[DeviceOptions], ProviderSpec]]] = {
    "cpu": lambda _: CPU,
    "cuda": cuda,
    "tensorrt": tensorrt,
}

_NOTHING_SAID: Final = DeviceOptions()


def provider_named(name: str, options: DeviceOptions = _NOTHING_SAID) -> ProviderSpec:
    """The provider of that name, with what is said of its device.

    Raises `BadModel(PROVIDER_UNAVAILABLE)` for one we do not know, `Conflict(SETTING_INVALID)` for options that mean
    nothing to it.
    """
    if name not in PROVIDERS:
        raise BadModel(
            f"provider {name!r} is not known; providers are {', '.join(PROVIDERS)}",
            reason=Reason.PROVIDER_UNAVAILABLE,
        )
    spec = PROVIDERS[name](options)
    if not spec.has_device and options != _NOTHING_SAID:
        raise _useless("worker.device_id, device_memory_mib and engine_cache_dir", name)
    if options.engine_cache_dir and name != "tensorrt":
        raise _useless("worker.engine_cache_dir", name)
    return spec


def _useless(settings: str, provider: str) -> Conflict:
    return Conflict(
        f"{settings} mean nothing to worker.provider {provider}; leave them out, or choose another provider",
        reason=Reason.SETTING_INVALID,
    )
