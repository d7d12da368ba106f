"""The served demo model is right on held-out questions, through router, batching and two workers."""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict
from typing import Any

import pytest

from lepton.v1 import inference_pb2, types_pb2
from tests.support.processes import DEMO_MODEL, ask

pytestmark = [pytest.mark.e2e, pytest.mark.etcd]

AT_ONCE = 24
"""Streams at a time, so that batches are full and ragged."""

SHARE_MIN = {
    # About three standard deviations (40 questions a task) below what the model card measured without batching, router
    # or cluster: serving must not cost accuracy.
    "arithmetic": 0.95,
    "sentiment": 0.97,
    "extraction": 0.95,
    "facts": 0.80,
    "second_turn": 0.86,
    "system_prompt": 0.94,
}

ROLES = {
    "system": types_pb2.ROLE_SYSTEM,
    "user": types_pb2.ROLE_USER,
    "assistant": types_pb2.ROLE_ASSISTANT,
}


def _request(messages: list[dict[str, str]]) -> inference_pb2.GenerateRequest:
    return inference_pb2.GenerateRequest(
        chat=types_pb2.ChatInput(
            messages=[
                types_pb2.ChatMessage(role=ROLES[m["role"]], content=m["content"]) for m in messages
            ]
        ),
        stop=types_pb2.StopConditions(max_tokens=120),
    )


async def test_the_served_model_answers_held_out_questions(make_cluster: Any) -> None:
    cluster = await make_cluster(workers=2)
    channel = cluster.channel()
    lines = (DEMO_MODEL / "eval" / "heldout.jsonl").read_text("utf-8").splitlines()
    items = [item for item in map(json.loads, lines) if item["task"] in SHARE_MIN]
    slots = asyncio.Semaphore(AT_ONCE)
    right: dict[str, list[bool]] = defaultdict(list)
    workers = set()

    async def run(item: dict[str, Any]) -> None:
        async with slots:
            answer = await ask(channel, _request(item["messages"]))
        assert answer.whole, answer.error
        workers.add(answer.worker_id)
        right[item["task"]].append(answer.text == item["expected"])

    async with asyncio.TaskGroup() as group:
        for item in items:
            group.create_task(run(item))

    shares = {task: sum(marks) / len(marks) for task, marks in right.items()}
    too_low = {task: share for task, share in shares.items() if share < SHARE_MIN[task]}
    assert shares.keys() == SHARE_MIN.keys()
    assert too_low == {}
    assert workers == {"worker-1", "worker-2"}
