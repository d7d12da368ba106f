"""`tools` and `tool_choice` of a request, as `gateway.tools` takes them."""

from __future__ import annotations

from typing import Any, Final

from common.errors import InvalidRequest, Reason, Unsupported
from gateway.openai.fields import ChatRequest, ToolDefinition
from gateway.tools.api import ToolChoice, ToolMode, ToolSpec
from gateway.tools.plan import plan_tools
from lepton.v1 import types_pb2

__all__ = ["choice_of", "shown_of", "specs_of"]

_MODES: Final = {mode.value: mode for mode in ToolMode}


def specs_of(tools: list[ToolDefinition] | None) -> list[ToolSpec]:
    """The functions. Raises `Unsupported` for a tool of another kind."""
    for index, tool in enumerate(tools or ()):
        if tool.type != "function":
            raise Unsupported(
                f"tools[{index}].type is {tool.type[:64]!r}; only functions can be called",
                reason=Reason.PARAMETER_UNSUPPORTED,
                field=f"tools[{index}].type",
            )
    return [
        ToolSpec(
            name=tool.function.name,
            description=tool.function.description or "",
            parameters=tool.function.parameters,
            strict=bool(tool.function.strict),
        )
        for tool in tools or ()
    ]


def shown_of(tools: list[ToolDefinition] | None) -> tuple[types_pb2.Tool, ...]:
    """The functions as the model is shown them."""
    return plan_tools(specs_of(tools), ToolChoice(), tool_format="").shown


def choice_of(request: ChatRequest) -> ToolChoice:
    """Raises `InvalidRequest(FIELD_MALFORMED)`."""
    parallel = request.parallel_tool_calls is not False
    wanted = request.tool_choice
    if wanted is None:
        return ToolChoice(parallel=parallel)
    if isinstance(wanted, str) and wanted in _MODES:
        return ToolChoice(mode=_MODES[wanted], parallel=parallel)
    if isinstance(wanted, dict) and (name := _function(wanted)):
        return ToolChoice(mode=ToolMode.REQUIRED, name=name, parallel=parallel)
    raise InvalidRequest(
        f'tool_choice is one of {", ".join(_MODES)}, or {{"type": "function", "function": {{"name": "…"}}}}',
        reason=Reason.FIELD_MALFORMED,
        field="tool_choice",
    )


def _function(wanted: dict[str, Any]) -> str:
    function = wanted.get("function")
    if wanted.get("type") != "function" or not isinstance(function, dict):
        return ""
    name = function.get("name")
    return name if isinstance(name, str) else ""
