"""The Python clients under the conformance suite: a command per line in, a report per line out."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

from google.protobuf import json_format

from lepton.v1 import inference_pb2
from lepton_client import Answer, AsyncClient, Client, ClientOptions, LeptonError, tls

Report = dict[str, Any]


def main() -> None:
    """Until the end of stdin."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--async", dest="is_async", action="store_true", help="drive AsyncClient")
    run = _run_async if parser.parse_args().is_async else _run
    for line in sys.stdin:
        command = json.loads(line)
        report: Report = {"id": command["id"], "error": None, "cancelled": False}
        try:
            run(command, report)
        except LeptonError as error:
            report["error"] = _error(error)
        sys.stdout.write(json.dumps(report) + "\n")
        sys.stdout.flush()


def _run(command: dict[str, Any], report: Report) -> None:
    with Client(*command["addresses"], **_options(command)) as client:
        match command["op"]:
            case "generate":
                stream = client.generate(_generate_request(command))
                try:
                    for event in stream:
                        if _take(report, event, command):
                            break
                finally:
                    _answer(report, stream.answer)
            case "complete" | "chat":
                text = getattr(client, command["op"])(
                    *_arguments(command)[0], **_arguments(command)[1]
                )
                text.text()
                _answer(report, text.answer)
            case "list_models":
                report["response"] = _models(client.list_models())
            case op:
                report["response"] = _unary(op, getattr(client, op)(**_unary_arguments(command)))


def _run_async(command: dict[str, Any], report: Report) -> None:
    asyncio.run(_drive(command, report))


async def _drive(command: dict[str, Any], report: Report) -> None:
    async with AsyncClient(*command["addresses"], **_options(command)) as client:
        match command["op"]:
            case "generate":
                async with client.generate(_generate_request(command)) as stream:
                    try:
                        async for event in stream:
                            if _take(report, event, command):
                                break
                    finally:
                        _answer(report, stream.answer)
            case "complete" | "chat":
                text = getattr(client, command["op"])(
                    *_arguments(command)[0], **_arguments(command)[1]
                )
                await text.text()
                _answer(report, text.answer)
            case "list_models":
                report["response"] = _models(await client.list_models())
            case op:
                method: Callable[..., Awaitable[Any]] = getattr(client, op)
                report["response"] = _unary(op, await method(**_unary_arguments(command)))


def _options(command: dict[str, Any]) -> ClientOptions:
    told = command.get("options", {})
    options: dict[str, Any] = {
        key: told[key]
        for key in ("timeout_s", "direct", "resume", "retry", "api_key", "caller", "metadata")
        if key in told
    }
    if "tls_ca" in told:
        options["credentials"] = tls(ca=told["tls_ca"].encode())
    if "traceparent" in told:
        options["traceparent"] = lambda: told["traceparent"]
    return ClientOptions(**options)  # type: ignore[typeddict-item]


def _generate_request(command: dict[str, Any]) -> inference_pb2.GenerateRequest:
    return json_format.ParseDict(command["request"], inference_pb2.GenerateRequest())


def _arguments(command: dict[str, Any]) -> tuple[list[Any], dict[str, Any]]:
    fields = dict(command["request"])
    return [fields.pop("text" if command["op"] == "complete" else "messages")], fields


def _unary_arguments(command: dict[str, Any]) -> dict[str, Any]:
    request = dict(command["request"])
    if "tokenIds" in request:
        request["token_ids"] = request.pop("tokenIds")
    return request


def _unary(op: str, response: Any) -> Report:
    match op:
        case "detokenize":
            return {"text": response}
        case "count_tokens":
            return {"numTokens": response}
        case _:
            return json_format.MessageToDict(response)


def _models(models: list[Any]) -> Report:
    return {"models": [json_format.MessageToDict(model) for model in models]}


def _take(report: Report, event: inference_pb2.Event, command: dict[str, Any]) -> bool:
    """Writes an event down; whether the command says to leave now."""
    events = report.setdefault("events", [])
    events.append(json_format.MessageToDict(event))
    report["cancelled"] = len(events) == command.get("options", {}).get("cancel_after_events")
    return bool(report["cancelled"])


def _answer(report: Report, answer: Answer) -> None:
    report["text"] = answer.texts
    report["finish"] = [reason or "" for reason in answer.finish_reasons]


def _error(error: LeptonError) -> Report:
    return {
        "code": error.code,
        "reason": error.reason,
        "field": error.field,
        "retry_after_s": error.retry_after,
        "message": error.message,
        "has_request_id": bool(error.request_id),
    }


if __name__ == "__main__":
    main()
