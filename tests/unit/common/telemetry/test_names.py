"""The data that docs/telemetry.md and the instruments are made from."""

from __future__ import annotations

import re

import pytest
from prometheus_client import CollectorRegistry

from common.telemetry import names
from common.telemetry.gateway_metrics import GATEWAY_METRICS
from common.telemetry.instruments import ModelLabels, RouterInstruments, WorkerInstruments
from common.telemetry.metric_spec import MetricSpec
from common.telemetry.router_metrics import ROUTER_METRICS
from common.telemetry.worker_metrics import WORKER_METRICS

SETS = pytest.mark.parametrize(
    ("cls", "specs"), [(RouterInstruments, ROUTER_METRICS), (WorkerInstruments, WORKER_METRICS)]
)


@SETS
def test_instruments_and_names_are_the_same_set(
    cls: type[RouterInstruments | WorkerInstruments], specs: tuple[MetricSpec, ...]
) -> None:
    registry = CollectorRegistry()
    instruments = cls(registry)
    attributes = {f"lepton_{name}" for name in vars(instruments) if name != "models"}
    assert attributes == {spec.name for spec in specs}
    families = {family.name: family for family in registry.collect()}
    for spec in specs:
        family = families[spec.name.removesuffix("_total")]
        assert (family.type, family.documentation) == (spec.kind, spec.help)


@SETS
def test_labels_and_buckets_are_those_of_the_spec(
    cls: type[RouterInstruments | WorkerInstruments], specs: tuple[MetricSpec, ...]
) -> None:
    registry = CollectorRegistry()
    instruments = cls(registry)
    for spec in specs:
        metric = getattr(instruments, spec.name.removeprefix("lepton_"))
        child = metric.labels(*("x" for _ in spec.labels)) if spec.labels else metric
        if spec.kind == "histogram":
            child.observe(0.01)
            bounds = [
                float(sample.labels["le"])
                for family in registry.collect()
                for sample in family.samples
                if sample.name == f"{spec.name}_bucket"
            ]
            assert tuple(bounds[:-1]) == spec.buckets
            assert bounds[-1] == float("inf")


@pytest.mark.parametrize(
    "spec",
    {spec.name: spec for spec in (*ROUTER_METRICS, *WORKER_METRICS, *GATEWAY_METRICS)}.values(),
)
def test_names_follow_the_conventions(spec: MetricSpec) -> None:
    assert re.fullmatch(r"lepton_[a-z0-9_]+", spec.name)
    assert (spec.kind == "counter") == spec.name.endswith("_total")
    assert (spec.kind == "histogram") == bool(spec.buckets)
    assert list(spec.buckets) == sorted(set(spec.buckets))
    assert spec.unit != "s" or "_seconds" in spec.name
    assert spec.help.endswith(".")


def test_every_attribute_constant_is_described() -> None:
    constants = {
        value
        for name, value in vars(names).items()
        if name.startswith(("RPC_", "HTTP_", "GEN_AI_", "LEPTON_", "SERVER_", "CLIENT_", "ERROR_"))
    }
    assert constants == set(names.ATTRIBUTES)


def test_every_span_constant_is_described() -> None:
    constants = {value for name, value in vars(names).items() if name.endswith("_SPAN")}
    assert constants < set(names.SPANS)


def test_models_that_nobody_serves_share_one_label() -> None:
    models = ModelLabels()
    assert models.of("demo") == "unknown"
    models.set_served(["demo"])
    assert [models.of(name) for name in ("demo", "x" * 10_000, "")] == [
        "demo",
        "unknown",
        "unknown",
    ]
    models.set_served([])
    assert models.of("demo") == "unknown"
