"""Where a settings file wants the router."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.listen import Listen, listen_of
from common.errors import Conflict


def test_no_file_wants_nothing() -> None:
    assert listen_of(None) == Listen()


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("[worker]\nport = 1", Listen()),
        ("[router]\nport = 6000\npolicy = 'x'", Listen(port=6000)),
        (
            "[router]\nhost = '::1'\nport = 0\nmetrics_port = 9\n[gateway]\nport = 7",
            Listen(host="::1", port=0, http_port=7, metrics_port=9),
        ),
    ],
)
def test_a_file_says_where(tmp_path: Path, text: str, found: Listen) -> None:
    (tmp_path / "x.toml").write_text(text)
    assert listen_of(tmp_path / "x.toml") == found


@pytest.mark.parametrize("text", ["port = '1'", "port = true", "host = 4", "metrics_port = 1.5"])
def test_a_value_of_the_wrong_type_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.toml").write_text(f"[router]\n{text}")
    with pytest.raises(Conflict, match="setting router"):
        listen_of(tmp_path / "x.toml")
