"""Messages → text with control tokens, by the model's own Jinja template, in a sandbox.

The template is code from a model folder and the messages are text from strangers, so:
- the sandbox lets the template change nothing and reach nothing;
- a control token inside a message is broken by a *mark* (a code point that no message holds) before rendering. Tokens
  of the template stay whole, those of a message do not; the text is cut at whole tokens and the marks are taken out.

A template can also put a token together from pieces of messages ("<|im_" + "end|>", or by taking characters out). So
where a message holds as much as the first character of a control token, a second rendering has every such character
marked. Should the two show different control tokens, the second counts.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from collections.abc import Sequence as SequenceOf
from typing import Any, Final

from jinja2 import TemplateError

from common.errors import BadModel, InvalidRequest, Reason
from worker.runtime.chat_view import ChatMessage, Tool, message_view, texts_in, tool_view
from worker.runtime.sandbox import TemplateSandbox

__all__ = ["ChatTemplate", "RenderedChat"]

MARKS: Final = tuple(chr(code) for code in range(0xFDD0, 0xFDF0))
"""Code points that Unicode reserves for use inside a program."""

RENDERED_CHARS_FACTOR: Final = 16
RENDERED_CHARS_BASE: Final = 1 << 20
"""A template may repeat and decorate, but the text is at most this factor times the messages plus this base."""


ERROR_CHARS_MAX: Final = 200
"""Of what a template says when it refuses."""


class RenderedChat:
    """Pieces in order: (True, control token) or (False, plain text)."""

    def __init__(self, pieces: list[tuple[bool, str]]) -> None:
        self.pieces = pieces

    def __repr__(self) -> str:
        return f"<RenderedChat of {len(self.pieces)} pieces>"


class ChatTemplate:
    """A compiled template. Rendering may be called from several threads at once."""

    def __init__(
        self, source: str, *, control_tokens: SequenceOf[str], named_tokens: Mapping[str, str]
    ) -> None:
        """`named_tokens`: bos_token and the like.

        Raises `BadModel(MODEL_TOKENIZER_INVALID)` when the template does not compile.
        """
        try:
            self._template = TemplateSandbox().from_string(source)
        except TemplateError as error:
            raise BadModel(
                f"chat_template.jinja: {error}", reason=Reason.MODEL_TOKENIZER_INVALID
            ) from error
        self._named_tokens = dict(named_tokens)
        self._tokens = tuple(sorted(filter(None, control_tokens), key=len, reverse=True))
        self._starts = frozenset(token[0] for token in self._tokens)
        self._token_pattern = re.compile("|".join(map(re.escape, self._tokens)) or r"(?!)")

    def render(
        self,
        messages: SequenceOf[ChatMessage],
        *,
        add_generation_prompt: bool,
        tools: SequenceOf[Tool] = (),
    ) -> RenderedChat:
        """Raises `InvalidRequest(CHAT_TEMPLATE_REFUSED)` when the template refuses, fails, or writes without end."""
        texts = texts_in(messages, tools)
        mark = next((m for m in MARKS if not any(m in text for text in texts)), None)
        if mark is None:
            raise _refused("the messages hold every code point that is reserved for marks")
        limit = RENDERED_CHARS_BASE + RENDERED_CHARS_FACTOR * sum(map(len, texts))

        def pieces(break_up: Any) -> list[tuple[bool, str]]:
            text = self._render(
                [message_view(message, break_up) for message in messages],
                [tool_view(tool, break_up) for tool in tools],
                add_generation_prompt=add_generation_prompt,
                chars_max=limit,
            )
            return list(self._split(text, mark))

        chosen = pieces(lambda text: self._break_tokens(text, mark))
        if any(start in text for text in texts for start in self._starts):
            careful = pieces(lambda text: self._break_starts(text, mark))
            if [t for is_token, t in careful if is_token] != [
                t for is_token, t in chosen if is_token
            ]:
                chosen = careful
        return RenderedChat(chosen)

    def _render(
        self,
        messages: list[dict[str, Any]],
        tools: list[dict[str, Any]],
        *,
        add_generation_prompt: bool,
        chars_max: int,
    ) -> str:
        parts, size = [], 0
        try:
            for part in self._template.generate(
                messages=messages,
                add_generation_prompt=add_generation_prompt,
                tools=tools
                or None,  # some templates ask whether it is there, others whether it is none
                documents=None,
                **self._named_tokens,
            ):
                parts.append(part)
                size += len(part)
                if size > chars_max:
                    raise _refused("the chat template writes too much")
        except InvalidRequest:
            raise
        except Exception as error:  # whatever a foreign template may raise
            said = " ".join(str(error).split())[:ERROR_CHARS_MAX]
            raise _refused(
                f"the chat template of this model refuses the messages: {said}"
            ) from error
        return "".join(parts)

    def _split(self, text: str, mark: str) -> Iterator[tuple[bool, str]]:
        """Cuts at whole control tokens and takes the marks out of the rest."""
        at = 0
        for match in self._token_pattern.finditer(text):
            if plain := text[at : match.start()].replace(mark, ""):
                yield False, plain
            yield True, match.group()
            at = match.end()
        if plain := text[at:].replace(mark, ""):
            yield False, plain

    def _break_tokens(self, text: str, mark: str) -> str:
        """Marks whole tokens, a beginning of one at the end of the text, and an end of one at its start."""
        if not text:
            return text
        # One mark after the first character keeps the rest from matching; overlaps need a look at every place.
        cuts = {match.start() + 1 for match in self._overlapping(text)}
        for token in self._tokens:
            for size in range(min(len(token) - 1, len(text)), 0, -1):
                if text.endswith(token[:size]):
                    cuts.add(len(text) - size + 1)
                if text.startswith(token[-size:]):
                    cuts.add(0)
            if text in token:
                cuts.add(0)
        return _insert(text, mark, cuts)

    def _overlapping(self, text: str) -> Iterator[re.Match[str]]:
        at = 0
        while match := self._token_pattern.search(text, at):
            yield match
            at = match.start() + 1

    def _break_starts(self, text: str, mark: str) -> str:
        cuts = {at + 1 for at, char in enumerate(text) if char in self._starts}
        return _insert(text, mark, cuts | ({0} if text else set()))


def _insert(text: str, mark: str, cuts: set[int]) -> str:
    if not cuts:
        return text
    ends = sorted(cuts)
    pieces = [text[a:b] for a, b in zip([0, *ends], [*ends, len(text)], strict=True)]
    return mark.join(pieces)


def _refused(message: str) -> InvalidRequest:
    return InvalidRequest(message, reason=Reason.CHAT_TEMPLATE_REFUSED, field="chat.messages")
