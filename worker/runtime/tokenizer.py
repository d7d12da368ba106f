"""Text and chats → token ids, and back. Text from outside never becomes a control token.

Plain text is encoded by a tokenizer that does not look for control tokens. A chat is rendered and cut at the control
tokens that the template wrote (`worker.runtime.chat_template`); what lies between two of them is encoded as one plain
text, so that ids are those of the rendered whole.
"""

from __future__ import annotations

import json
from collections.abc import Sequence as SequenceOf

from tokenizers import Tokenizer as HfTokenizer

from common.errors import BadModel, InvalidRequest, Reason
from worker.runtime.artifacts import Artifact
from worker.runtime.chat_template import ChatTemplate
from worker.runtime.chat_view import ChatMessage, Tool
from worker.runtime.detokenizer import Detokenizer
from worker.runtime.vocabulary import Vocabulary, read_vocabulary

__all__ = ["Tokenizer", "open_tokenizer"]


class Tokenizer:
    """One model's tokenizer and chat template. May be called from several threads at once."""

    def __init__(
        self,
        tokenizer_json: str,
        *,
        chat_template: str | None,
        named_tokens: dict[str, str],
        control_ids: frozenset[int] = frozenset(),
    ) -> None:
        """Raises `BadModel(MODEL_TOKENIZER_INVALID)` when the file or the template cannot be used."""
        try:
            data = json.loads(tokenizer_json)
            self._hf = HfTokenizer.from_str(tokenizer_json)
        except Exception as error:  # tokenizers raises bare Exception
            raise BadModel(
                f"tokenizer.json: cannot be read: {error}", reason=Reason.MODEL_TOKENIZER_INVALID
            ) from error
        self._vocabulary = read_vocabulary(
            data,
            self._hf.get_vocab(with_added_tokens=True),
            control_ids=control_ids,
            template=chat_template or "",
        )
        tokens = data.get("added_tokens", ())
        control = self._vocabulary.control
        if any(token["content"] in control and not token["special"] for token in tokens):
            # Special is what the library can be told to overlook; a token that controls must be that.
            for token in tokens:
                token["special"] = token["special"] or token["content"] in control
            self._hf = HfTokenizer.from_str(json.dumps(data))
        self._hf.no_truncation()
        self._hf.no_padding()
        self._hf.encode_special_tokens = True
        self._before, self._after = self._affixes()
        self._printed = self._vocabulary.printed_bytes
        self._control_ids = self._vocabulary.control_ids
        self._template = (
            ChatTemplate(chat_template, control_tokens=list(control), named_tokens=named_tokens)
            if chat_template is not None
            else None
        )

    def __repr__(self) -> str:
        return f"<Tokenizer of {self.num_tokens} tokens, {len(self._control_ids)} control>"

    @property
    def num_tokens(self) -> int:
        """Ids are below it."""
        return len(self._vocabulary.token_bytes)

    @property
    def vocabulary(self) -> Vocabulary:
        """All tokens by id."""
        return self._vocabulary

    @property
    def control_ids(self) -> frozenset[int]:
        """Tokens that no text becomes."""
        return self._control_ids

    @property
    def has_chat_template(self) -> bool:
        return self._template is not None

    def encode(self, text: str) -> list[int]:
        """Ids of plain text, with what the model wants at the start (its begin token, if it has one).

        Raises `InvalidRequest(FIELD_MALFORMED)` for text that is not valid Unicode.
        """
        return [*self._before, *self._plain(text), *self._after]

    def encode_chat(
        self,
        messages: SequenceOf[ChatMessage],
        *,
        add_generation_prompt: bool,
        tools: SequenceOf[Tool] = (),
    ) -> list[int]:
        """Ids of a conversation under the model's chat template, control tokens included. `tools`: what the template
        shows to the model as what it may call.

        Raises `InvalidRequest(CHAT_TEMPLATE_REFUSED)` when there is no template or it refuses the messages.
        """
        if self._template is None:
            raise InvalidRequest(
                "this model has no chat template; send text or token ids",
                reason=Reason.CHAT_TEMPLATE_REFUSED,
                field="chat",
            )
        rendered = self._template.render(
            messages, add_generation_prompt=add_generation_prompt, tools=tools
        )
        control, ids, pieces = self._vocabulary.control, [], rendered.pieces
        for at, (is_token, text) in enumerate(pieces):
            if is_token:
                ids.append(control[text].id)
                continue
            if at and control[pieces[at - 1][1]].rstrip:
                text = text.lstrip()
            if at + 1 < len(pieces) and control[pieces[at + 1][1]].lstrip:
                text = text.rstrip()
            ids += self._plain(text)
        return ids

    def decode(self, ids: SequenceOf[int]) -> str:
        """The text of all ids; control tokens print nothing, bytes that are not UTF-8 are U+FFFD."""
        detokenizer = self.new_detokenizer()
        return "".join(map(detokenizer.push, ids)) + detokenizer.flush()

    def new_detokenizer(self, *, keeps_first_space: bool = False) -> Detokenizer:
        """A detokenizer for one choice. A first space that SentencePiece put there goes, unless `keeps_first_space`."""
        return Detokenizer(
            self._printed,
            strip_first_space=self._vocabulary.strip_first_space and not keeps_first_space,
        )

    def token_bytes(self, token_id: int) -> bytes:
        """What one token stands for, control tokens as their name; may be part of a character."""
        pieces = self._vocabulary.token_bytes
        return pieces[token_id] if 0 <= token_id < len(pieces) else b""

    def printed_bytes(self, token_id: int) -> bytes:
        """What one token adds to a text: nothing for control tokens that are never printed."""
        return self._printed[token_id] if 0 <= token_id < len(self._printed) else b""

    def _plain(self, text: str) -> list[int]:
        try:
            ids = self._ids(text)
        except (UnicodeEncodeError, TypeError) as error:
            raise InvalidRequest(
                "the text is not valid Unicode", reason=Reason.FIELD_MALFORMED
            ) from error
        if not self._control_ids.isdisjoint(ids):
            ids = self._without_control(text)
        return ids

    def _ids(self, text: str) -> list[int]:
        """A batch of one: only the batch call lets go of the GIL, and a long prompt must not stop every stream."""
        ids: list[int] = self._hf.encode_batch_fast([text], add_special_tokens=False)[0].ids
        return ids

    def _without_control(self, text: str) -> list[int]:
        """For vocabularies that spell a control token out of plain text after all: cut until it falls apart."""
        ids = self._ids(text)
        if self._control_ids.isdisjoint(ids):
            return ids
        if len(text) <= 1:
            raise InvalidRequest(
                f"the character {text!r} is a control token of this model",
                reason=Reason.FIELD_MALFORMED,
            )
        half = len(text) // 2
        return self._without_control(text[:half]) + self._without_control(text[half:])

    def _affixes(self) -> tuple[list[int], list[int]]:
        """What the post-processor puts before and after every text, such as a begin token."""
        plain: list[int] = self._hf.encode("a", add_special_tokens=False).ids
        whole: list[int] = self._hf.encode("a", add_special_tokens=True).ids
        for at in range(len(whole) - len(plain) + 1):
            if whole[at : at + len(plain)] == plain:
                return whole[:at], whole[at + len(plain) :]
        return [], []


def open_tokenizer(artifact: Artifact) -> Tokenizer:
    """The tokenizer of a model folder.

    Raises `BadModel(MODEL_TOKENIZER_INVALID)`, also when its ids do not fit into the model's vocabulary.
    """
    model = artifact.config.model
    special = {model.bos_token_id, model.pad_token_id, *model.eos_ids} - {None}
    tokenizer = Tokenizer(
        artifact.tokenizer_json,
        chat_template=artifact.chat_template,
        named_tokens=dict(artifact.named_tokens),
        control_ids=frozenset(i for i in special if i is not None),
    )
    if tokenizer.num_tokens > model.vocab_size:
        raise BadModel(
            f"tokenizer.json: has ids up to {tokenizer.num_tokens - 1}, "
            f"the model's vocabulary ends at {model.vocab_size - 1}",
            reason=Reason.MODEL_TOKENIZER_INVALID,
        )
    return tokenizer
