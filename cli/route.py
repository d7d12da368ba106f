"""`lepton route`: where a request would go, and why."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from cli.options import AddressOption, ConfigOption, JsonOption, StateDirOption
from cli.outcome import reported
from cli.screen import cell, out, write_json

if TYPE_CHECKING:
    from pydantic import SecretStr
    from rich.console import RenderableType
    from rich.text import Text

    from cli.target import Target
    from lepton.v1 import inference_pb2, router_pb2

__all__ = ["explanation_view", "route"]

_ASK_S_MAX: Final = 5.0
_MESSAGE_BYTES_MAX: Final = 64 << 20


def route(
    *,
    prompt: Annotated[str, typer.Argument(help="The prompt; - reads it from stdin.")],
    explain: Annotated[
        bool, typer.Option("--explain", help="Every worker, with its scores and reasons.")
    ] = False,
    system: Annotated[
        str | None, typer.Option("--system", "-s", help="System prompt.", show_default=False)
    ] = None,
    raw: Annotated[bool, typer.Option("--raw", help="The text as it is, no chat.")] = False,
    model: Annotated[
        str, typer.Option("--model", "-m", help="Model name or alias.", show_default=False)
    ] = "",
    revision: Annotated[
        str, typer.Option(help="Model revision (hex, 8 digits or more).", show_default=False)
    ] = "",
    session_key: Annotated[str, typer.Option(help="Session key.", show_default=False)] = "",
    address: AddressOption = None,
    config: ConfigOption = None,
    state_dir: StateDirOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say where a request would go now; it is not sent.

    Needs the cluster token: that of `lepton up`, else setting cluster.token.
    """
    with reported(as_json=as_json):
        from cli.plain import plain
        from cli.request import GenerateOptions, build_request, prompt_of
        from cli.target import find_target

        options = GenerateOptions(model=model, revision=revision, session_key=session_key)
        request = build_request(prompt_of(prompt, system=system, raw=raw), options)
        target = find_target(address, state_dir)
        told = asyncio.run(_ask(target.address, request, _token(target, config)))
        if as_json:
            write_json(plain(told))
        elif explain:
            out().print(explanation_view(told))
        else:
            out().print(_headline(told))


def explanation_view(told: router_pb2.ExplainRouteResponse) -> RenderableType:
    """For people: one line per worker, best first, and below what lies behind the scores."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    weights = {score.scorer: score.weight for one in told.candidates for score in one.scores}
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    for title in ("", "worker", "revision", "state"):
        table.add_column(title, no_wrap=True)
    for name, weight in weights.items():
        table.add_column(f"{name}\n×{weight:g}", justify="right", no_wrap=True)
    table.add_column("total", justify="right", no_wrap=True)

    words = Text()
    for one in told.candidates:
        is_best = one.worker_id == told.best_worker_id
        scores = {score.scorer: f"{score.score:.2f}" for score in one.scores}
        table.add_row(
            "→" if is_best else "",
            cell(one.worker_id, "bold green" if is_best else ""),
            cell(one.revision[:8]),
            cell(one.state),
            *(scores.get(name, "") for name in weights),
            cell(one.filtered_by, "yellow") if one.filtered_by else f"{one.total:.3f}",
        )
        for score in one.scores:
            if score.detail:
                words.append_text(cell(f"\n{one.worker_id} {score.scorer}: ", "dim"))
                words.append_text(cell(score.detail))
    return Group(_headline(told), Text(), table, words)


def _headline(told: router_pb2.ExplainRouteResponse) -> Text:
    where = told.best_worker_id or "nowhere: no worker may take it now"
    line = cell(where, "bold" if told.best_worker_id else "yellow")
    meant = f"{told.model}{'@' if told.revision else ''}{told.revision[:12]}"
    line.append_text(
        cell(f"   {meant}, policy {told.policy}, {len(told.candidates)} workers", "dim")
    )
    if told.HasField("stale_s"):
        line.append_text(cell(f", registry away for {told.stale_s:.0f} s", "yellow"))
    return line


def _token(target: Target, config: Path | None) -> SecretStr:
    if target.state is not None:
        return target.state.token
    from common.cluster import ClusterSettings
    from common.settings import load

    cluster: ClusterSettings = load({"cluster": ClusterSettings}, file=config, env=os.environ)[
        "cluster"
    ]
    return cluster.token


async def _ask(
    address: str, request: inference_pb2.GenerateRequest, token: SecretStr
) -> router_pb2.ExplainRouteResponse:
    import grpc

    from cli.client import checked_address, error_from
    from common.errors import Conflict
    from common.rpc.auth import cluster_token_metadata
    from common.rpc.channel import open_channel
    from lepton.v1 import router_pb2, router_pb2_grpc

    async with open_channel(
        checked_address(address), message_bytes_max=_MESSAGE_BYTES_MAX
    ) as channel:
        stub = router_pb2_grpc.RouterServiceStub(channel)  # type: ignore[no-untyped-call]
        try:
            told: router_pb2.ExplainRouteResponse = await stub.ExplainRoute(
                router_pb2.ExplainRouteRequest(request=request),
                timeout=_ASK_S_MAX,
                metadata=cluster_token_metadata(token),
            )
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.UNIMPLEMENTED:
                raise Conflict(f"{address} is not a router; ask one with --address") from None
            raise error_from(error, address) from None
    return told
