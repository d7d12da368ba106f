"""`lepton generate`: one answer, streamed."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from cli.options import AddressOption, JsonOption, StateDirOption
from cli.outcome import reported
from cli.screen import err, write, write_json

if TYPE_CHECKING:
    from lepton.v1 import inference_pb2
    from lepton_client import ClientOptions, Reconnection

__all__ = ["generate"]

_SAMPLING = "Sampling (default: the model's)"
_ENDING = "When to stop"
_FORM = "What the answer must look like (one of them)"
_CALL = "The call"

_RESUMPTIONS_MIN: Final = 5
"""The first waits are short."""


def generate(
    *,
    prompt: Annotated[str, typer.Argument(help="What to ask; - reads it from stdin.")],
    system: Annotated[
        str | None, typer.Option("--system", "-s", help="System prompt.", show_default=False)
    ] = None,
    raw: Annotated[
        bool, typer.Option("--raw", help="Continue the text as it is, without chat template.")
    ] = False,
    model: Annotated[
        str, typer.Option("--model", "-m", help="Model name.", show_default=False)
    ] = "",
    revision: Annotated[
        str, typer.Option(help="Model revision (hex, 8 digits or more).", show_default=False)
    ] = "",
    temperature: Annotated[
        float | None,
        typer.Option("--temperature", "-t", help="0 is greedy.", rich_help_panel=_SAMPLING),
    ] = None,
    top_p: Annotated[float | None, typer.Option(rich_help_panel=_SAMPLING)] = None,
    top_k: Annotated[int | None, typer.Option(rich_help_panel=_SAMPLING, min=0)] = None,
    min_p: Annotated[float | None, typer.Option(rich_help_panel=_SAMPLING)] = None,
    repetition_penalty: Annotated[float | None, typer.Option(rich_help_panel=_SAMPLING)] = None,
    frequency_penalty: Annotated[float | None, typer.Option(rich_help_panel=_SAMPLING)] = None,
    presence_penalty: Annotated[float | None, typer.Option(rich_help_panel=_SAMPLING)] = None,
    logit_bias: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ID=BIAS",
            rich_help_panel=_SAMPLING,
            help="Repeatable; -100 bans the token.",
            show_default=False,
        ),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(min=0, help="Repeats the draw.", rich_help_panel=_SAMPLING)
    ] = None,
    n: Annotated[
        int | None,
        typer.Option("--n", "-n", help="Independent answers.", rich_help_panel=_SAMPLING),
    ] = None,
    max_tokens: Annotated[int | None, typer.Option(rich_help_panel=_ENDING)] = None,
    min_tokens: Annotated[int | None, typer.Option(rich_help_panel=_ENDING)] = None,
    stop: Annotated[
        list[str] | None,
        typer.Option(help="Text that ends it; repeatable.", rich_help_panel=_ENDING),
    ] = None,
    stop_id: Annotated[
        list[int] | None,
        typer.Option(help="Token id that ends it; repeatable.", rich_help_panel=_ENDING),
    ] = None,
    ignore_eos: Annotated[
        bool,
        typer.Option(
            "--ignore-eos", help="Go on after the model's own end.", rich_help_panel=_ENDING
        ),
    ] = False,
    json_schema: Annotated[
        Path | None,
        typer.Option(
            help="JSON that a schema accepts; - reads it from stdin.",
            metavar="FILE",
            rich_help_panel=_FORM,
            show_default=False,
        ),
    ] = None,
    json_object: Annotated[
        bool,
        typer.Option("--json-object", help="Any JSON object.", rich_help_panel=_FORM),
    ] = False,
    regex: Annotated[
        str | None,
        typer.Option(
            help="A regular expression for the whole answer.",
            rich_help_panel=_FORM,
            show_default=False,
        ),
    ] = None,
    lark: Annotated[
        Path | None,
        typer.Option(
            help="A Lark grammar; - reads it from stdin.",
            metavar="FILE",
            rich_help_panel=_FORM,
            show_default=False,
        ),
    ] = None,
    choice: Annotated[
        list[str] | None,
        typer.Option(
            help="One of several texts; repeatable.", rich_help_panel=_FORM, show_default=False
        ),
    ] = None,
    logprobs: Annotated[
        int | None,
        typer.Option(min=0, help="Log-probabilities; seen with --json.", rich_help_panel=_CALL),
    ] = None,
    priority: Annotated[
        str,
        typer.Option(help="low, normal or high.", rich_help_panel=_CALL, show_default=False),
    ] = "",
    session_key: Annotated[
        str,
        typer.Option(
            help="Same key, same worker where possible.", rich_help_panel=_CALL, show_default=False
        ),
    ] = "",
    request_id: Annotated[
        str, typer.Option(help="Name in logs and traces.", rich_help_panel=_CALL)
    ] = "",
    timeout: Annotated[
        float | None,
        typer.Option(help="Deadline, seconds.", min=0.001, rich_help_panel=_CALL),
    ] = None,
    resumable: Annotated[
        float | None,
        typer.Option(
            metavar="SECONDS",
            min=0.001,
            help="Come back when the connection breaks; the call waits so long.",
            rich_help_panel=_CALL,
            show_default=False,
        ),
    ] = None,
    direct: Annotated[
        bool,
        typer.Option(
            "--direct",
            help="Stream from the worker; the router only picks it.",
            rich_help_panel=_CALL,
        ),
    ] = False,
    routers: Annotated[
        str,
        typer.Option(
            "--router",
            metavar="HOST:PORT,…",
            help="With --resumable or --direct: routers to ask, one after the other.",
            rich_help_panel=_CALL,
            show_default=False,
        ),
    ] = "",
    address: AddressOption = None,
    state_dir: StateDirOption = None,
    as_json: JsonOption = False,
) -> None:
    """Ask once.

    The answer streams to stdout; counts, speed and trace id go to stderr.
    """
    with reported(as_json=as_json):
        from cli.request import GenerateOptions, build_request, parse_biases, prompt_of
        from cli.target import find_target
        from common.errors import InvalidRequest, Reason

        if priority not in ("", "low", "normal", "high"):
            raise InvalidRequest(
                f"--priority {priority!r}: use low, normal or high",
                reason=Reason.FIELD_MALFORMED,
                field="priority",
            )
        options = GenerateOptions(
            model=model,
            revision=revision,
            request_id=request_id,
            session_key=session_key,
            priority=priority,
            temperature=temperature,
            top_p=top_p,
            top_k=top_k,
            min_p=min_p,
            repetition_penalty=repetition_penalty,
            frequency_penalty=frequency_penalty,
            presence_penalty=presence_penalty,
            logit_bias=parse_biases(logit_bias or []),
            seed=seed,
            n=n,
            max_tokens=max_tokens,
            min_tokens=min_tokens,
            stop=stop or [],
            stop_ids=stop_id or [],
            ignore_eos=True if ignore_eos else None,
            logprobs=logprobs,
            json_schema=_read(json_schema),
            json_object=json_object,
            regex=regex,
            lark=_read(lark),
            literals=choice or [],
        )
        request = build_request(prompt_of(prompt, system=system, raw=raw), options)
        if routers and resumable is None and not direct:
            raise InvalidRequest(
                "--router names where to come back: give --resumable or --direct as well, or --address alone",
                reason=Reason.FIELDS_CONTRADICT,
                field="router",
            )
        if direct and resumable is not None:
            raise InvalidRequest(
                "a call that outlives its connection goes through a router: leave out --direct or --resumable",
                reason=Reason.FIELDS_CONTRADICT,
                field="direct",
            )
        where = routers.split(",") if routers else [find_target(address, state_dir).address]
        asyncio.run(
            _run(
                where,
                request,
                timeout_s=timeout,
                resumable_s=resumable,
                direct=direct,
                as_json=as_json,
            )
        )


def _read(path: Path | None) -> str | None:
    """The text of a file; what is not UTF-8 fails later, with our own words."""
    if path is None:
        return None
    if str(path) == "-":
        from cli.request import read_stdin

        return read_stdin()
    from common.errors import InvalidRequest, Reason

    try:
        return path.read_text("utf-8", "surrogateescape")
    except OSError as error:
        raise InvalidRequest(
            f"{path} cannot be read: {error.strerror}",
            reason=Reason.FIELD_MALFORMED,
            field="constraint",
        ) from None


async def _run(
    addresses: Sequence[str],
    request: inference_pb2.GenerateRequest,
    *,
    timeout_s: float | None,
    resumable_s: float | None,
    direct: bool,
    as_json: bool,
) -> None:
    from cli.answer import stream_answer, summary
    from cli.client import Client
    from cli.plain import plain_event
    from common.clock import SystemClock

    clock = SystemClock()
    several = request.sampling.n > 1
    open_line = False

    def on_text(_: int, piece: str) -> None:
        nonlocal open_line
        write(piece)
        open_line = not piece.endswith("\n")

    options: ClientOptions = {"direct": direct, "on_reconnect": _tell}
    if resumable_s is not None:
        options |= _resuming(request, resumable_s)
    async with Client(*addresses, **options) as client:
        answer = client.generate(request, timeout_s=timeout_s)
        try:
            if as_json:
                stats = await stream_answer(
                    answer, clock, on_event=lambda event: write_json(plain_event(event))
                )
                write_json(
                    {
                        "summary": {
                            "trace_id": stats.trace_id,
                            "request_id": stats.request_id,
                            "worker_id": stats.worker_id,
                            "first_s": stats.first_s,
                            "tokens_per_s": stats.tokens_per_s,
                            "took_s": stats.took_s,
                        }
                    }
                )
                return
            # Several answers grow at the same time: each is shown when it is whole.
            stats = await stream_answer(answer, clock, on_text=None if several else on_text)
        finally:
            if open_line:
                write("\n")
    if several:
        for index, text in enumerate(stats.texts):
            err().print(f"[dim]answer {index + 1} of {len(stats.texts)}[/]")
            write(text + "\n")
    err().print(summary(stats), style="dim")


def _resuming(request: inference_pb2.GenerateRequest, resumable_s: float) -> ClientOptions:
    """Comes back for as long as the worker keeps the call."""
    import secrets

    from lepton_client import ResumePolicy

    # Without a token yet, the same request with the same key joins the call that may have begun.
    request.idempotency_key = request.idempotency_key or f"cli-{secrets.token_hex(16)}"
    # Waits grow to 2 s at most, 1 s on average.
    policy = ResumePolicy(keep_s=resumable_s, resumptions_max=_RESUMPTIONS_MIN + int(resumable_s))
    return {"retry": True, "resume": policy}


def _tell(again: Reconnection) -> None:
    after = (
        "before the first event" if again.after_seq is None else f"after event {again.after_seq}"
    )
    err().print(f"[dim]\\[{again.error.reason} {after}; going on at {again.address}][/]")
