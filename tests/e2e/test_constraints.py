"""Constrained answers through the router, from real processes."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from tests.support.processes import ask, until, user

pytestmark = [pytest.mark.e2e, pytest.mark.etcd]

SCHEMA = {
    "type": "object",
    "properties": {"sum": {"type": "integer"}, "ok": {"type": "boolean"}},
    "required": ["sum", "ok"],
    "additionalProperties": False,
}


def trials_of(pid: int) -> list[Path]:
    """The processes that a worker started to try grammars out, as folders of /proc."""
    return [
        entry
        for entry in Path("/proc").glob("[0-9]*")
        if is_trial(entry) and int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1]) == pid
    ]


def is_trial(entry: Path) -> bool:
    """False when it has ended."""
    try:
        return b"grammar.trial" in (entry / "cmdline").read_bytes()
    except OSError:
        return False


async def test_constrained_answers_through_the_router(make_cluster: Any) -> None:
    cluster = await make_cluster(workers=1)
    channel = cluster.channel()
    free = user("What is Lepton?", max_tokens=60)
    alone = await ask(channel, free)

    requests = []
    for seed in range(6):
        request = user("What is 12 + 34?", max_tokens=200)
        request.sampling.seed, request.sampling.temperature = seed, 1.0
        kind = seed % 3
        if kind == 0:
            request.constraint.json_schema = json.dumps(SCHEMA)
        elif kind == 1:
            request.constraint.regex = r"\d\d?( apples)?"
        else:
            request.constraint.literals.texts.extend(["yes", "no"])
        requests.append(request)
    answers = await asyncio.gather(*(ask(channel, one) for one in (free, *requests)))
    assert all(answer.whole for answer in answers)
    assert answers[0].token_ids == alone.token_ids
    for request, answer in zip(requests, answers[1:], strict=True):
        kind = request.constraint.WhichOneof("kind")
        if kind == "json_schema":
            Draft202012Validator(SCHEMA).validate(json.loads(answer.text))
        elif kind == "regex":
            assert re.fullmatch(r"[0-9]{1,2}( apples)?", answer.text)
        else:
            assert answer.text in {"yes", "no"}


async def test_the_process_that_tries_grammars_out_ends_with_its_worker(make_cluster: Any) -> None:
    """Also when the worker is killed: nobody is left to close its pipe but the kernel."""
    cluster = await make_cluster(workers=1)
    request = user("Yes?", max_tokens=5)
    request.constraint.regex = "yes"
    assert (await ask(cluster.channel(), request)).text == "yes"
    (worker,) = cluster.workers
    trials = trials_of(worker.pid)
    assert trials
    worker.kill()
    await until(lambda: not any(map(is_trial, trials)), what="the trial process has ended")
