"""The list of providers. A new one is a file beside this and a line here."""

from __future__ import annotations

from typing import Final

from common.errors import BadModel, Reason
from worker.runtime.providers.cpu import CPU
from worker.runtime.providers.cuda import CUDA
from worker.runtime.providers.spec import ProviderSpec
from worker.runtime.providers.tensorrt import TENSORRT

__all__ = ["PROVIDERS", "provider_named"]

PROVIDERS: Final = {spec.name: spec for spec in (CPU, CUDA, TENSORRT)}


def provider_named(name: str) -> ProviderSpec:
    """The provider of that name; raises `BadModel(PROVIDER_UNAVAILABLE)` for one we do not know."""
    try:
        return PROVIDERS[name]
    except KeyError:
        raise BadModel(
            f"provider {name!r} is not known; providers are {', '.join(PROVIDERS)}",
            reason=Reason.PROVIDER_UNAVAILABLE,
        ) from None
