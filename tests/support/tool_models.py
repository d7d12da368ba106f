"""Models that know tools: a folder with another chat template and, where its format has any, the tokens around calls.

The weights are what they were, so nobody calls a tool unless a grammar forces it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

from tests.support.tiny_models import copy_model

__all__ = ["HERMES_TEMPLATE", "with_tools"]

HERMES_TEMPLATE: Final = """\
{%- if tools %}
{{- '<|im_start|>system\\n<tools>' }}
{%- for tool in tools %}
{{- '\\n' + (tool | tojson) }}
{%- endfor %}
{{- '\\n</tools>\\nReturn calls as <tool_call>{"name": ..., "arguments": ...}</tool_call><|im_end|>\\n' }}
{%- endif %}
{%- for message in messages %}
{{- '<|im_start|>' + ('user' if message.role == 'tool' else message.role) + '\\n' }}
{%- if message.role == 'tool' %}
{{- '<tool_response>\\n' + message.content + '\\n</tool_response>' }}
{%- else %}
{{- message.content }}
{%- for call in message.tool_calls or [] %}
{{- '\\n<tool_call>\\n{"name": "' + call.function.name + '", "arguments": ' }}
{{- call.function.arguments | tojson }}
{{- '}\\n</tool_call>' }}
{%- endfor %}
{%- endif %}
{{- '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
{{- '<|im_start|>assistant\\n' }}
{%- endif %}
"""
"""For tokenizers with <|im_start|> and <|im_end|>, as those of tests/goldens and of the demo model."""


def with_tools(source: Path, target: Path, template: str = HERMES_TEMPLATE) -> Path:
    """A copy of the model folder `source` whose template is `template`; `tool_format` is detected from that.

    The golden answer and the manifest stay behind: they are about the other template.
    """
    copy_model(source, target)
    (target / "chat_template.jinja").write_text(template, "utf-8")
    for name in ("golden.json", "manifest.json"):
        (target / name).unlink(missing_ok=True)
    config = target / "tokenizer_config.json"
    data: dict[str, Any] = json.loads(config.read_text("utf-8"))
    data.pop("chat_template", None)
    config.write_text(json.dumps(data), "utf-8")
    return target
