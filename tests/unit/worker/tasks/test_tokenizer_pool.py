from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from collections.abc import Iterator

import pytest

from common.errors import InvalidRequest, Overloaded, Reason, Unavailable
from tests.support.patience import PATIENCE_S
from tests.support.worker import ByteTokenizer
from worker.tasks.api import ChatPrompt, ChatTurn, TextPrompt, TokenPrompt
from worker.tasks.tokenizer_pool import TokenizerPool


class HeldTokenizer(ByteTokenizer):
    """Waits in `encode` until it is let go."""

    def __init__(self) -> None:
        self.begun = threading.Semaphore(0)
        self.go = threading.Event()

    def encode(self, text: str) -> list[int]:
        self.begun.release()
        assert self.go.wait(10)
        if text == "bad":
            raise InvalidRequest("bad text")
        return super().encode(text)


class WeakText(str):
    """Text that can be watched."""

    __slots__ = ("__weakref__",)


@pytest.fixture
def tokenizer() -> Iterator[HeldTokenizer]:
    held = HeldTokenizer()
    yield held
    held.go.set()


@pytest.fixture
def pool(tokenizer: HeldTokenizer) -> Iterator[TokenizerPool]:
    pool = TokenizerPool(tokenizer, threads=1, waiting_max=1)
    yield pool
    tokenizer.go.set()
    pool.close()


async def test_prompts_of_all_kinds_become_ids(
    pool: TokenizerPool, tokenizer: HeldTokenizer
) -> None:
    tokenizer.go.set()
    chat = ChatPrompt(turns=(ChatTurn(role="user", content="x"),), add_generation_prompt=False)
    assert await pool.prompt_ids(TokenPrompt((1, 2))) == (1, 2)
    assert await pool.prompt_ids(TextPrompt("ab")) == (97, 98)
    assert await pool.prompt_ids(chat) == tuple(b"user:x\n")
    assert await pool.token_bytes((97, 98)) == [b"a", b"b"]


async def test_what_the_tokenizer_refuses_reaches_the_caller(
    pool: TokenizerPool, tokenizer: HeldTokenizer
) -> None:
    tokenizer.go.set()
    with pytest.raises(InvalidRequest, match="bad text"):
        await pool.prompt_ids(TextPrompt("bad"))
    assert await pool.prompt_ids(TextPrompt("a")) == (97,)


async def test_more_prompts_than_places_are_refused_with_a_hint(
    pool: TokenizerPool, tokenizer: HeldTokenizer
) -> None:
    running = asyncio.ensure_future(pool.prompt_ids(TextPrompt("a")))
    waiting = asyncio.ensure_future(pool.prompt_ids(TextPrompt("b")))
    assert await asyncio.to_thread(tokenizer.begun.acquire, timeout=PATIENCE_S)
    with pytest.raises(Overloaded) as caught:
        await pool.prompt_ids(TextPrompt("c"))
    assert caught.value.reason is Reason.QUEUE_FULL
    assert caught.value.retry_after_s
    owed = asyncio.ensure_future(pool.prompt_ids(TextPrompt("e"), is_bounded=False))
    tokenizer.go.set()
    assert [await running, await waiting, await owed] == [(97,), (98,), (101,)]
    assert await pool.prompt_ids(TextPrompt("d")) == (100,)


async def test_a_caller_that_leaves_the_queue_frees_its_place(
    pool: TokenizerPool, tokenizer: HeldTokenizer
) -> None:
    running = asyncio.ensure_future(pool.prompt_ids(TextPrompt("a")))
    leaving = asyncio.ensure_future(pool.prompt_ids(TextPrompt("b")))
    assert await asyncio.to_thread(tokenizer.begun.acquire, timeout=PATIENCE_S)
    leaving.cancel()
    await asyncio.wait([leaving])
    waiting = asyncio.ensure_future(pool.prompt_ids(TextPrompt("c")))
    tokenizer.go.set()
    assert [await running, await waiting] == [(97,), (99,)]


async def test_a_caller_that_leaves_takes_its_prompt_along(
    pool: TokenizerPool, tokenizer: HeldTokenizer
) -> None:
    """Or whoever asks and leaves, again and again, fills the memory while the threads are busy."""
    running = asyncio.ensure_future(pool.prompt_ids(TextPrompt("a")))
    assert await asyncio.to_thread(tokenizer.begun.acquire, timeout=PATIENCE_S)
    text = WeakText("b")
    watched = weakref.ref(text)
    leaving = asyncio.ensure_future(pool.prompt_ids(TextPrompt(text)))
    await asyncio.wait([leaving], timeout=0.01)
    leaving.cancel()
    await asyncio.wait([leaving])
    del text, leaving
    gc.collect()
    assert watched() is None
    tokenizer.go.set()
    assert await running == (97,)


async def test_closing_refuses_those_that_wait_and_those_that_come() -> None:
    tokenizer = HeldTokenizer()
    pool = TokenizerPool(tokenizer, threads=1, waiting_max=1)
    running = asyncio.ensure_future(pool.prompt_ids(TextPrompt("a")))
    assert await asyncio.to_thread(tokenizer.begun.acquire, timeout=PATIENCE_S)
    waiting = asyncio.ensure_future(pool.prompt_ids(TextPrompt("b")))
    await asyncio.wait([waiting], timeout=0.01)
    closing = asyncio.ensure_future(asyncio.to_thread(pool.close))
    async with asyncio.timeout(PATIENCE_S):
        with pytest.raises(Unavailable) as dropped:
            await waiting
        with pytest.raises(Unavailable) as refused:
            await pool.prompt_ids(TextPrompt("c"))
    tokenizer.go.set()
    await closing
    assert await running == (97,)
    assert dropped.value.reason is refused.value.reason is Reason.DRAINING


async def test_a_caller_that_is_cancelled_while_the_pool_closes_stays_cancelled() -> None:
    tokenizer = HeldTokenizer()
    pool = TokenizerPool(tokenizer, threads=1, waiting_max=1)
    running = asyncio.ensure_future(pool.prompt_ids(TextPrompt("a")))
    assert await asyncio.to_thread(tokenizer.begun.acquire, timeout=PATIENCE_S)
    running.cancel()
    closing = asyncio.ensure_future(asyncio.to_thread(pool.close))
    with pytest.raises(asyncio.CancelledError):
        await running
    tokenizer.go.set()
    await closing
