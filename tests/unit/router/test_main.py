"""Settings and help of the command `lepton-router`."""

from __future__ import annotations

import pytest
from pydantic import BaseModel

from router.__main__ import main
from router.app import SECTIONS, Config
from router.settings import RouterSettings


def test_help_prints_every_setting_with_its_meaning(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    for section, cls in SECTIONS.items():
        prefix = "" if section == "router" else f"{section}."
        assert issubclass(cls, BaseModel)
        for key, field in cls.model_fields.items():
            assert f"--{prefix}{key.replace('_', '-')}  (default" in text
            assert field.description, f"{section}.{key} has no docstring"
            assert " ".join(field.description.split()) in text


def test_refusal_is_one_line_and_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--retries-max", "1000"]) == 2
    told = capsys.readouterr().err
    assert told.startswith("error: setting router.retries_max (flag --router.retries-max)")
    assert told.endswith("(SETTING_INVALID)\n")
    assert told.count("\n") == 1


def test_router_without_an_id_gets_one_and_keeps_it() -> None:
    made = Config().with_id()
    assert made.router.id.startswith("router-")
    assert made.with_id() is made
    assert Config(router=RouterSettings(id="r1")).with_id().router.id == "r1"


@pytest.mark.parametrize("bad", ["a b", "ä", "x" * 65])
def test_id_is_a_plain_name(bad: str) -> None:
    with pytest.raises(ValueError, match="id"):
        RouterSettings(id=bad)
