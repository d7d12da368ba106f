"""Settings and help of the command `lepton-router`."""

from __future__ import annotations

import pytest

from common.process import run_process
from router.config import Config
from router.process import PROCESS
from router.settings import RouterSettings


def test_every_setting_has_a_meaning_that_help_prints(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_process(PROCESS, ["--help"]) == 0
    text = capsys.readouterr().out
    for key, field in RouterSettings.model_fields.items():
        assert f"--{key.replace('_', '-')}  (" in text
        assert field.description, f"router.{key} has no docstring"


def test_refusal_is_one_line_and_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_process(PROCESS, ["--retries-max", "1000"], {}) == 2
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
