"""What a request must get from an oracle: the whole answer, computed by the client itself."""

from __future__ import annotations

from chaos.record import Answer, Choice
from common import oracle
from lepton.v1 import inference_pb2, types_pb2

__all__ = ["oracle_answer"]


def oracle_answer(
    request: inference_pb2.GenerateRequest,
    *,
    revision: str,
    seed: int,
    max_tokens_default: int = 512,
) -> Answer:
    """`seed` is that of `Started` and counts only with a temperature. Knows no stop ids and no end of the context."""
    prompt = _prompt_ids(request)
    state = oracle.root(revision)
    for token_id in prompt:
        state = oracle.advance(state, token_id)
    drawn = seed if request.sampling.temperature > 0 else None
    choices: list[Choice] = []
    num_tokens = 0
    for index in range(max(1, request.sampling.n)):
        choice, num = _complete(request, state, index, drawn, max_tokens_default)
        choices.append(choice)
        num_tokens += num
    return Answer(choices=tuple(choices), prompt_tokens=len(prompt), completion_tokens=num_tokens)


def _prompt_ids(request: inference_pb2.GenerateRequest) -> list[int]:
    match request.WhichOneof("input"):
        case "text":
            return oracle.encode(request.text)
        case "token_ids":
            return list(request.token_ids.ids)
        case _:
            turns = [
                _Turn(types_pb2.Role.Name(m.role).removeprefix("ROLE_").lower(), m.content)
                for m in request.chat.messages
            ]
            chat = request.chat
            opens = chat.add_generation_prompt if chat.HasField("add_generation_prompt") else True
            return oracle.encode_chat(turns, add_generation_prompt=opens)


class _Turn:
    def __init__(self, role: str, content: str) -> None:
        self.role = role
        self.content = content


def _complete(
    request: inference_pb2.GenerateRequest,
    state: bytes,
    index: int,
    seed: int | None,
    max_tokens_default: int,
) -> tuple[Choice, int]:
    """One choice and its number of tokens, the one that ended it included."""
    stop, output = request.stop, request.output
    most = stop.max_tokens or max_tokens_default
    ids: list[int] = []
    logprobs: list[tuple[int, float, tuple[tuple[int, float], ...]]] = []
    text = ""
    end: tuple[int, str, int] = (types_pb2.FINISH_REASON_LENGTH, "", 0)
    while len(ids) < most:
        may_end = len(ids) >= stop.min_tokens
        banned = frozenset() if stop.ignore_eos or may_end else frozenset({oracle.EOS_ID})
        token_id = oracle.draw(state, choice=index, seed=seed, banned=banned)
        ids.append(token_id)
        if output.HasField("logprobs"):
            top = tuple(oracle.most_likely(state, output.logprobs))
            logprobs.append((token_id, oracle.logprob(state, token_id), top))
        if token_id == oracle.EOS_ID and not stop.ignore_eos:
            end = (types_pb2.FINISH_REASON_STOP, "", 0)
            break
        text += oracle.text_of(token_id).decode()
        hit = _first_stop(text, list(stop.strings)) if len(ids) >= stop.min_tokens else None
        if hit is not None:
            text = text[: hit[0]]
            end = (types_pb2.FINISH_REASON_STOP, hit[1], 0)
            break
        state = oracle.advance(state, token_id)
    choice = Choice(token_ids=tuple(ids), text=text, logprobs=tuple(logprobs), end=end)
    return choice, len(ids)


def _first_stop(text: str, strings: list[str]) -> tuple[int, str] | None:
    """Where the stop string that completes first begins, and which it is. Asked after every token, so it is new."""
    hits = [(text.find(s) + len(s), text.find(s), s) for s in strings if s in text]
    return min(hits)[1:] if hits else None
