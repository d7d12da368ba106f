"""Tokenising away from the event loop: a megabyte of text takes a second, and nobody else should wait for it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from threading import BoundedSemaphore
from typing import Final, TypeVar, final

from common.errors import Overloaded, Reason, Unavailable
from worker.tasks.api import ChatPrompt, Prompt, TextPrompt, TokenPrompt
from worker.tasks.ports import Tokenizer

__all__ = ["TokenizerPool"]

_RETRY_AFTER_S: Final = 0.5

ResultT = TypeVar("ResultT")


@final
class TokenizerPool:
    """A bounded number of threads and a bounded number of prompts that wait for one.

    Resources: owns the threads until `close`. Errors: `Overloaded(QUEUE_FULL)`, `Unavailable(DRAINING)` once it is
    closed, and what the tokenizer raises. Cancellation: the caller goes on at once; a prompt that a thread has begun is
    finished and dropped, one that waits gives its place and its memory back.
    """

    def __init__(self, tokenizer: Tokenizer, *, threads: int, waiting_max: int) -> None:
        self.tokenizer = tokenizer
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix="tokenizer")
        self._places = BoundedSemaphore(threads + waiting_max)
        self._is_closed = False

    async def prompt_ids(self, prompt: Prompt, *, is_bounded: bool = True) -> tuple[int, ...]:
        """The token ids of a prompt. `is_bounded` as in `run`."""
        match prompt:
            case TokenPrompt(ids):
                return ids
            case TextPrompt(text):
                return tuple(
                    await self.run(lambda: self.tokenizer.encode(text), is_bounded=is_bounded)
                )
            case ChatPrompt():
                return tuple(
                    await self.run(
                        lambda: self.tokenizer.encode_chat(
                            prompt.turns,
                            add_generation_prompt=prompt.add_generation_prompt,
                            tools=prompt.tools,
                        ),
                        is_bounded=is_bounded,
                    )
                )

    async def token_bytes(self, token_ids: tuple[int, ...]) -> list[bytes]:
        """The bytes of each id."""
        return await self.run(lambda: [self.tokenizer.token_bytes(i) for i in token_ids])

    async def text(self, token_ids: tuple[int, ...]) -> str:
        """What ids stand for as text, control tokens left out."""

        def decode() -> str:
            detokenizer = self.tokenizer.new_detokenizer()
            return "".join(map(detokenizer.push, token_ids)) + detokenizer.flush()

        return await self.run(decode)

    def close(self) -> None:
        """Waits for the prompts that threads have begun; those that wait are dropped, with an error each."""
        self._is_closed = True
        self._executor.shutdown(cancel_futures=True)

    async def run(self, job: Callable[[], ResultT], *, is_bounded: bool = True) -> ResultT:
        """What `job` returns or raises, on a thread. Without `is_bounded` it waits beside those that are counted."""
        if is_bounded and not self._places.acquire(blocking=False):
            raise Overloaded(
                "too many prompts wait to be tokenized; try again later",
                reason=Reason.QUEUE_FULL,
                retry_after_s=_RETRY_AFTER_S,
            )
        # The executor keeps what was cancelled until a thread comes by; it must not keep the prompt as well.
        jobs = [job]
        del job
        try:
            future: Future[ResultT] = self._executor.submit(lambda: jobs.pop()())
        except RuntimeError as error:
            if is_bounded:
                self._places.release()
            raise _closed() from error
        future.add_done_callback(lambda _: jobs.clear())
        if is_bounded:
            future.add_done_callback(lambda _: self._places.release())
        try:
            return await asyncio.wrap_future(future)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if self._is_closed and task is not None and not task.cancelling():
                raise _closed() from None
            raise


def _closed() -> Unavailable:
    return Unavailable("this worker is draining; ask another", reason=Reason.DRAINING)
