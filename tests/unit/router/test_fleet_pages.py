"""Several metrics pages as one."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from common.telemetry.instruments import RouterInstruments
from router.fleet.pages import Pages, merged


def page(requests: int, seconds: float) -> str:
    registry = CollectorRegistry()
    instruments = RouterInstruments(registry)
    instruments.models.set_served(["tiny"])
    instruments.requests_total.labels(model="tiny", code="OK").inc(requests)
    instruments.route_seconds.observe(seconds)
    return generate_latest(registry).decode()


def values(text: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


class _Two:
    """A collector of two pages, as the parent's registry asks it."""

    def collect(self) -> object:
        return merged({"0": page(3, 0.001), "1": page(5, 0.1)})


def test_every_sample_of_every_process_is_there_once_with_its_label() -> None:
    registry = CollectorRegistry()
    registry.register(_Two())  # type: ignore[arg-type]
    got = values(generate_latest(registry).decode())
    wanted = {
        (name, tuple(sorted((*labels, ("process", process))))): value
        for process, text in (("0", page(3, 0.001)), ("1", page(5, 0.1)))
        for (name, labels), value in values(text).items()
    }
    assert got == wanted
    assert got["lepton_requests_total", (("code", "OK"), ("model", "tiny"), ("process", "1"))] == 5


def test_process_that_has_just_ended_is_left_out() -> None:
    pages = Pages(lambda: {"0": 1})  # nobody listens on port 1
    assert list(pages.collect()) == []
    assert not pages.any_ready()
