"""proto → domain, once: what leaves here is right by type and nobody asks again.

`common.request.validate` has checked what can be known without the model; this module checks the rest of it, except for
lengths, which only the tokenizer knows (`worker.tasks.lengths`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any, Final

from common.errors import InvalidRequest, NotFound, Reason, Unsupported
from common.limits import Limits
from common.request.prefix_of import prefix_of
from lepton.v1 import inference_pb2, types_pb2
from worker.engine.grammar import Constraint, ConstraintKind
from worker.engine.sampling_params import SamplingParams
from worker.engine.sequence import FinishReason
from worker.tasks.api import (
    ChatPrompt,
    ChatTurn,
    ChoiceEnd,
    Continuation,
    ContinuedChoice,
    GenerateRequest,
    ModelFacts,
    Prompt,
    TextPrompt,
    TokenPrompt,
    Tool,
    ToolCall,
)

__all__ = ["check_model", "parse_detokenize", "parse_generate", "parse_prompt"]

_ROLES: Final = {
    types_pb2.ROLE_SYSTEM: "system",
    types_pb2.ROLE_USER: "user",
    types_pb2.ROLE_ASSISTANT: "assistant",
    types_pb2.ROLE_TOOL: "tool",
}

_PREFIX_HASHES_MAX: Final = 1024
"""Of one prompt: half a mebibyte of text. What is longer is not told to routers."""
_NO_PARAMETERS: Final = '{"type": "object", "properties": {}}'

_FINISH_REASONS: Final = {
    types_pb2.FINISH_REASON_STOP: FinishReason.STOP,
    types_pb2.FINISH_REASON_LENGTH: FinishReason.LENGTH,
}

_PRIORITIES: Final = {
    types_pb2.PRIORITY_UNSPECIFIED: 0,
    types_pb2.PRIORITY_LOW: -1,
    types_pb2.PRIORITY_NORMAL: 0,
    types_pb2.PRIORITY_HIGH: 1,
}


def parse_generate(
    request: inference_pb2.GenerateRequest,
    *,
    model: ModelFacts,
    limits: Limits,
    request_id: str,
    arrived_at: float,
    deadline: float,
    new_seed: Callable[[], int],
) -> GenerateRequest:
    """The domain form of a request that `validate_generate` let pass.

    `arrived_at` and `deadline` are seconds on the clock of the process. Raises `NotFound` for another model or
    revision, `InvalidRequest(TOKEN_ID_OUT_OF_RANGE)` for ids that the model does not have.
    """
    check_model(model, request.model, request.revision)
    stop = request.stop
    _check_ids(stop.token_ids, model, "stop.token_ids")
    return GenerateRequest(
        request_id=request_id,
        prompt=parse_prompt(request, model),
        sampling=_sampling(request, model, new_seed),
        n=request.sampling.n if request.sampling.HasField("n") else 1,
        max_tokens=stop.max_tokens if stop.HasField("max_tokens") else None,
        max_tokens_default=limits.max_tokens_default,
        min_tokens=stop.min_tokens,
        stop_strings=tuple(stop.strings),
        stop_ids=frozenset(stop.token_ids),
        ignore_eos=stop.ignore_eos,
        salt=None if request.cache.bypass else request.cache.salt.encode(),
        prefix=prefix_of(request, _PREFIX_HASHES_MAX),
        priority=_PRIORITIES[request.priority],
        arrived_at=arrived_at,
        deadline=deadline,
        constraint=_constraint(request),
        start_by=_start_by(request.service_level, arrived_at),
        continuation=_continuation(request, model),
    )


def parse_prompt(
    request: inference_pb2.GenerateRequest
    | inference_pb2.TokenizeRequest
    | inference_pb2.CountTokensRequest,
    model: ModelFacts,
) -> Prompt:
    """The input of a request that the validator let pass."""
    kind = request.WhichOneof("input")
    if kind == "text":
        return TextPrompt(request.text)
    if kind == "chat":
        return _chat(request.chat, model)
    assert isinstance(request, inference_pb2.GenerateRequest)  # noqa: S101 - narrows for mypy
    num_ids = len(request.token_ids.ids)
    if num_ids >= model.context_length:
        # Before anything is done per id; the task would say the same.
        raise InvalidRequest(
            f"the prompt has {num_ids} tokens; the context of the model holds {model.context_length}, "
            "of which the completion needs at least 1",
            reason=Reason.PROMPT_TOO_LONG,
            field="token_ids.ids",
        )
    ids = tuple(request.token_ids.ids)
    _check_ids(ids, model, "token_ids.ids")
    return TokenPrompt(ids)


def parse_detokenize(
    request: inference_pb2.DetokenizeRequest, model: ModelFacts
) -> tuple[int, ...]:
    """The ids of a request that the validator let pass."""
    ids = tuple(request.token_ids)
    _check_ids(ids, model, "token_ids")
    return ids


def _chat(chat: types_pb2.ChatInput, model: ModelFacts) -> ChatPrompt:
    if not model.tool_format:
        _refuse_tools(chat, model)
    return ChatPrompt(
        turns=tuple(
            ChatTurn(
                role=_ROLES[message.role],
                content=message.content,
                name=message.name,
                tool_calls=tuple(
                    ToolCall(id=call.id, name=call.name, arguments=_object(call.arguments_json))
                    for call in message.tool_calls
                ),
                tool_call_id=message.tool_call_id,
            )
            for message in chat.messages
        ),
        add_generation_prompt=(
            chat.add_generation_prompt if chat.HasField("add_generation_prompt") else True
        ),
        tools=tuple(
            Tool(
                name=tool.name,
                description=tool.description,
                parameters=_object(tool.parameters_json or _NO_PARAMETERS),
            )
            for tool in chat.tools
        ),
    )


def _refuse_tools(chat: types_pb2.ChatInput, model: ModelFacts) -> None:
    """A template that knows no tools would leave them out, and nobody would be told."""
    calls = (
        f"chat.messages[{index}].tool_calls"
        for index, message in enumerate(chat.messages)
        if message.tool_calls
    )
    field = "chat.tools" if chat.tools else next(calls, None)
    if field is not None:
        raise Unsupported(
            f"the chat template of {model.name!r} knows no tools; leave them out, or ask a model that "
            "has a tool_format (`lepton models`, ListModels, /v1/models)",
            reason=Reason.TOOLS_UNSUPPORTED,
            field=field,
        )


def _object(text: str) -> dict[str, Any]:
    """Validated before."""
    value: dict[str, Any] = json.loads(text or "{}")
    return value


def check_model(model: ModelFacts, name: str, revision: str = "") -> None:
    """Raises `NotFound` when `name` or `revision` (a prefix; empty: any) is not what this worker serves."""
    if name and name != model.name:
        raise NotFound(
            f"this worker serves the model {model.name!r}, not {name!r}",
            reason=Reason.MODEL_NOT_FOUND,
            field="model",
        )
    if not model.revision.startswith(revision):
        raise NotFound(
            f"this worker serves revision {model.revision} of {model.name!r}, not {revision}",
            reason=Reason.REVISION_NOT_FOUND,
            field="revision",
        )


def _sampling(
    request: inference_pb2.GenerateRequest, model: ModelFacts, new_seed: Callable[[], int]
) -> SamplingParams:
    sampling = request.sampling
    for token_id in sampling.logit_bias:
        _check_ids((token_id,), model, f"sampling.logit_bias[{token_id}]", indexed=False)
    return SamplingParams(
        temperature=sampling.temperature,
        top_p=sampling.top_p if sampling.HasField("top_p") else 1.0,
        top_k=sampling.top_k,
        min_p=sampling.min_p,
        repetition_penalty=(
            sampling.repetition_penalty if sampling.HasField("repetition_penalty") else 1.0
        ),
        frequency_penalty=sampling.frequency_penalty,
        presence_penalty=sampling.presence_penalty,
        logit_bias=dict(sampling.logit_bias),
        seed=_seed(request, new_seed),
        logprobs=request.output.logprobs if request.output.HasField("logprobs") else None,
    )


def _constraint(request: inference_pb2.GenerateRequest) -> Constraint | None:
    if not request.HasField("constraint"):
        return None
    constraint = request.constraint
    match constraint.WhichOneof("kind"):
        case "json_schema":
            return Constraint(ConstraintKind.JSON_SCHEMA, (constraint.json_schema,))
        case "regex":
            return Constraint(ConstraintKind.REGEX, (constraint.regex,))
        case "grammar":
            return Constraint(ConstraintKind.LARK, (constraint.grammar,))
        case "literals":
            return Constraint(ConstraintKind.LITERALS, tuple(constraint.literals.texts))
        case _:
            return Constraint(ConstraintKind.JSON_OBJECT)


def _seed(request: inference_pb2.GenerateRequest, new_seed: Callable[[], int]) -> int:
    if request.HasField(
        "continuation"
    ):  # the one that was chosen, should the caller have brought none
        return request.continuation.seed
    return request.sampling.seed if request.sampling.HasField("seed") else new_seed()


def _continuation(request: inference_pb2.GenerateRequest, model: ModelFacts) -> Continuation | None:
    if not request.HasField("continuation"):
        return None
    sent = request.continuation
    for index, choice in enumerate(sent.choices):
        field = f"continuation.choices[{index}].token_ids"
        if len(choice.token_ids) >= model.context_length:  # before anything is done per id
            raise InvalidRequest(
                f"the choice has {len(choice.token_ids)} tokens; the context of the model holds {model.context_length}",
                reason=Reason.FIELD_OUT_OF_RANGE,
                field=field,
            )
        _check_ids(choice.token_ids, model, field)
    return Continuation(
        choices=tuple(
            ContinuedChoice(
                token_ids=tuple(choice.token_ids),
                end=_choice_end(choice.end) if choice.HasField("end") else None,
            )
            for choice in sent.choices
        ),
        next_seq=sent.next_seq,
        attempt=sent.attempt,
        from_worker_id=sent.from_worker_id,
        num_prompt_tokens=sent.prompt_tokens,
        num_cached_tokens=sent.cached_tokens,
    )


def _choice_end(end: inference_pb2.ChoiceEnd) -> ChoiceEnd:
    matched = end.WhichOneof("matched")
    return ChoiceEnd(
        reason=_FINISH_REASONS[end.reason],
        stop_string=end.stop_string if matched == "stop_string" else None,
        stop_token_id=end.stop_token_id if matched == "stop_token_id" else None,
    )


def _start_by(level: types_pb2.ServiceLevel, arrived_at: float) -> float | None:
    if not level.HasField("queue_timeout_ms"):
        return None
    return arrived_at + level.queue_timeout_ms / 1000


def _check_ids(ids: Iterable[int], model: ModelFacts, field: str, *, indexed: bool = True) -> None:
    for index, token_id in enumerate(ids):
        if token_id >= model.vocab_size:
            raise InvalidRequest(
                f"token id {token_id} does not exist; the model has ids below {model.vocab_size}",
                reason=Reason.TOKEN_ID_OUT_OF_RANGE,
                field=f"{field}[{index}]" if indexed else field,
            )
