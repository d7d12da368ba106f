"""Settings come from flags, environment and file; a typo is an error that names key and place."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import Field

from common.cluster import ClusterSettings
from common.discovery.settings import DiscoverySettings
from common.errors import Conflict, Reason
from common.settings import Section, StrTuple, load, parse_flags, to_env
from common.telemetry.settings import TelemetrySettings
from router.settings import RouterSettings


class RouterLike(Section):
    """A section."""

    port: int = Field(default=1, ge=0)
    """A number."""
    share: float = 0.5
    """A fraction."""
    verbose: bool = False
    """A switch."""
    endpoints: StrTuple = ()
    """A list."""
    folder: Path | None = None
    """A path."""


def _load(
    *,
    file: Path | None = None,
    env: dict[str, str] | None = None,
    flags: dict[tuple[str, str], str] | None = None,
) -> RouterLike:
    section: RouterLike = load({"router": RouterLike}, file=file, env=env or {}, flags=flags)[
        "router"
    ]
    return section


def test_flags_outweigh_environment_outweighs_file_outweighs_default(tmp_path: Path) -> None:
    file = tmp_path / "lepton.toml"
    file.write_text("[router]\nport = 2\nshare = 0.1\nverbose = true\n")
    section = _load(
        file=file,
        env={"LEPTON_ROUTER_PORT": "3", "LEPTON_ROUTER_SHARE": "0.2"},
        flags={("router", "port"): "4"},
    )
    assert (section.port, section.share, section.verbose) == (4, 0.2, True)
    assert section.endpoints == ()


def test_lists_are_comma_separated_outside_the_file(tmp_path: Path) -> None:
    file = tmp_path / "lepton.toml"
    file.write_text('[router]\nendpoints = ["a:1", "b:2"]\n')
    assert _load(file=file).endpoints == ("a:1", "b:2")
    assert _load(env={"LEPTON_ROUTER_ENDPOINTS": "a:1, b:2"}).endpoints == ("a:1", "b:2")


def test_other_processes_sections_and_other_programs_variables_are_left_alone(
    tmp_path: Path,
) -> None:
    file = tmp_path / "lepton.toml"
    file.write_text("[worker]\nanything = 1\n[router]\nport = 9\n")
    env = {"LEPTON_WORKER_ANYTHING": "1", "PATH": "/bin", "LEPTON_CONFIG": str(file)}
    assert _load(file=file, env=env).port == 9


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("[router]\nprot = 1\n", ["router.prot", "port"]),
        ("[router]\nport = 'x'\n", ["router.port", "integer"]),
        ("[router]\nport = -1\n", ["router.port"]),
        ("[rooter]\nport = 1\n", ["rooter", "router"]),
        ("router = 1\n", ["router"]),
        ("[router\n", ["not TOML"]),
        ("[router]\nshare = nan\n", ["router.share", "finite"]),
    ],
)
def test_a_bad_file_is_an_error_that_names_key_and_file(
    tmp_path: Path, text: str, names: list[str]
) -> None:
    file = tmp_path / "lepton.toml"
    file.write_text(text)
    with pytest.raises(Conflict) as caught:
        _load(file=file)
    assert caught.value.reason is Reason.SETTING_INVALID
    for name in names:
        assert name in caught.value.message


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(Conflict, match=r"nowhere\.toml"):
        _load(file=tmp_path / "nowhere.toml")


@pytest.mark.parametrize(
    "env",
    [
        {"LEPTON_ROUTER_PROT": "1"},
        {"LEPTON_ROUTER_PORT": "many"},
        {"LEPTON_PORT": "1"},
        {"LEPTON_ROOTER_PORT": "1"},
        {"LEPTON_ROUTER": "1"},
    ],
)
def test_a_bad_variable_is_an_error_that_names_it(env: dict[str, str]) -> None:
    with pytest.raises(Conflict) as caught:
        _load(env=env)
    assert next(iter(env)) in caught.value.message


def test_flags_in_all_their_spellings() -> None:
    arguments = ["--port", "1", "--share=0.25", "--verbose", "--discovery.etcd-endpoints", "a,b"]
    assert parse_flags(arguments, own="router") == {
        ("router", "port"): "1",
        ("router", "share"): "0.25",
        ("router", "verbose"): "true",
        ("discovery", "etcd_endpoints"): "a,b",
    }


@pytest.mark.parametrize("arguments", [["port"], ["-p", "1"], ["--"], ["--nowhere.key", "1"]])
def test_what_is_no_flag_is_an_error(arguments: list[str]) -> None:
    with pytest.raises(Conflict) as caught:
        parse_flags(arguments, own="router")
    assert caught.value.reason is Reason.SETTING_INVALID


def test_settings_survive_the_way_through_an_environment() -> None:
    """What a parent hands to its children is what it has itself, secrets included."""
    sections: dict[str, Section] = {
        "router": RouterLike(
            port=7,
            share=1e-7,
            verbose=True,
            endpoints=("a:1", "b:2"),
            folder=Path("/tmp/x"),  # noqa: S108
        ),
        "cluster": ClusterSettings(token="se same", insecure=True),
    }
    env = to_env(sections)
    assert env["LEPTON_CLUSTER_TOKEN"] == "se same"
    assert load({name: type(section) for name, section in sections.items()}, env=env) == sections


def test_default_settings_survive_it_too() -> None:
    sections: dict[str, Section] = {
        "router": RouterSettings(),
        "discovery": DiscoverySettings(),
        "telemetry": TelemetrySettings(),
    }
    env = to_env(sections)
    assert load({name: type(section) for name, section in sections.items()}, env=env) == sections
