from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from common.errors import InvalidRequest, Reason
from worker.engine.sequence import FinishReason
from worker.tasks.api import ChoiceEnd, ContinuedChoice, Piece
from worker.tasks.choice import ChoiceText
from worker.tasks.stop_strings import StopStrings


class TableDetokenizer:
    """Token i is the bytes of `table[i]`; text comes out as soon as its characters are whole."""

    def __init__(self, table: list[bytes]) -> None:
        self._table = table
        self._rest = b""

    @property
    def is_inside_character(self) -> bool:
        return bool(self._rest)

    def push(self, token_id: int) -> str:
        self._rest += self._table[token_id]
        for cut in range(len(self._rest), -1, -1):
            try:
                text = self._rest[:cut].decode()
            except UnicodeDecodeError:
                continue
            self._rest = self._rest[cut:]
            return text
        raise AssertionError("unreachable")

    def flush(self) -> str:
        rest, self._rest = self._rest, b""
        return rest.decode(errors="replace")


def choice_of(table: list[bytes], *stops: str, min_tokens: int = 0) -> ChoiceText:
    return ChoiceText(
        0, TableDetokenizer(table), StopStrings(stops).new_matcher(), min_tokens=min_tokens
    )


def push_all(choice: ChoiceText, ids: list[int]) -> list[Piece | None]:
    pieces = []
    for token_id in ids:
        choice.push(token_id, None, is_end=False)
        pieces.append(choice.take())
    return pieces


def shape(pieces: list[Piece | None]) -> list[tuple[str, tuple[int, ...]] | None]:
    return [piece and (piece.text, piece.token_ids) for piece in pieces]


def test_ids_inside_a_character_leave_with_the_character() -> None:
    emoji = "🚀".encode()
    choice = choice_of([b"a", emoji[:1], emoji[1:3], emoji[3:]])
    assert shape(push_all(choice, [0, 1, 2, 3])) == [("a", (0,)), None, None, ("🚀", (1, 2, 3))]


def test_a_possible_start_of_a_stop_string_is_held_with_its_ids() -> None:
    choice = choice_of([b"Hi", b" <", b"/s", b"!"], "</s>")
    assert shape(push_all(choice, [0, 1, 2, 3])) == [("Hi", (0,)), None, None, (" </s!", (1, 2, 3))]


def test_a_stop_string_cuts_the_text_and_sends_the_completing_id() -> None:
    choice = choice_of([b"Hi", b" <", b"/s", b">tail"], "</s>")
    pieces = push_all(choice, [0, 1, 2, 3])
    assert shape(pieces) == [("Hi", (0,)), None, None, (" ", (1, 2, 3))]
    assert pieces[-1] is not None
    assert pieces[-1].end == ChoiceEnd(reason=FinishReason.STOP, stop_string="</s>")
    assert choice.take() is None


def test_the_end_releases_what_was_held() -> None:
    choice = choice_of([b"Hi <", "é".encode()[:1]], "</s>")
    assert shape(push_all(choice, [0, 1])) == [None, None]
    choice.finish(ChoiceEnd(reason=FinishReason.LENGTH))
    piece = choice.take()
    assert piece is not None
    assert (piece.text, piece.token_ids) == ("Hi <�", (0, 1))
    assert piece.end == ChoiceEnd(reason=FinishReason.LENGTH)


def test_a_token_without_text_goes_at_once_unless_text_before_it_waits() -> None:
    """As after an end of sequence that is ignored: the stream must not fall silent, nor hold every token."""
    choice = choice_of([b"", b"a", "é".encode()[:1], "é".encode()[1:], b"<"], "</s>")
    pieces = push_all(choice, [0, 1, 0, 2, 0, 3, 4, 0, 1])
    assert shape(pieces) == [
        ("", (0,)),
        ("a", (1,)),
        ("", (0,)),
        None,
        None,
        ("é", (2, 0, 3)),
        None,
        None,
        ("<a", (4, 0, 1)),
    ]


def test_an_end_token_has_no_text_and_is_counted() -> None:
    choice = choice_of([b"Hi", b"STOP"])
    push_all(choice, [0])
    choice.push(1, None, is_end=True)
    choice.finish(ChoiceEnd(reason=FinishReason.STOP, stop_token_id=1))
    piece = choice.take()
    assert piece is not None
    assert (piece.text, piece.token_ids) == ("", (1,))
    assert choice.num_tokens == 2


def test_stop_strings_count_only_from_min_tokens_on() -> None:
    choice = choice_of([b"x"], "x", min_tokens=3)
    pieces = push_all(choice, [0, 0, 0])
    assert shape(pieces) == [("x", (0,)), ("x", (0,)), ("", (0,))]


TABLE = [b"a", b"b", b"ab", "🚀".encode()[:2], "🚀".encode()[2:], b"ba"]
STOPS = st.lists(st.sampled_from(["ab", "b🚀", "ba", "aab", "🚀"]), max_size=3)


@given(
    ids=st.lists(st.integers(0, 5), min_size=1, max_size=20),
    stops=STOPS,
    min_tokens=st.integers(0, 6),
    data=st.data(),
)
def test_behind_what_was_sent_a_choice_goes_on_as_it_would_have(
    ids: list[int], stops: list[str], min_tokens: int, data: st.DataObject
) -> None:
    """Cut behind any piece: in the middle of a character, of what might have been a stop string, before min_tokens."""

    def go_on(choice: ChoiceText, rest: list[int]) -> list[Piece]:
        pieces: list[Piece | None] = []
        for token_id in rest if choice.end is None else ():
            has_stopped = choice.push(token_id, None, is_end=False)
            pieces.append(choice.take())
            if has_stopped:
                break
        choice.finish(ChoiceEnd(reason=FinishReason.LENGTH))
        pieces.append(choice.take())
        return [piece for piece in pieces if piece is not None]

    first = choice_of(TABLE, *stops, min_tokens=min_tokens)
    pieces = go_on(first, ids)
    cut = data.draw(st.integers(0, len(pieces)))
    sent, lost = pieces[:cut], pieces[cut:]
    known = tuple(token_id for piece in sent for token_id in piece.token_ids)
    second = choice_of(TABLE, *stops, min_tokens=min_tokens)
    second.resume(ContinuedChoice(token_ids=known, end=sent[-1].end if sent else None))
    rest = go_on(second, ids[len(known) :])
    assert text_of(rest) == text_of(lost)
    assert second.end == first.end
    assert second.num_tokens == first.num_tokens


@given(
    sent=st.lists(st.integers(0, 5), max_size=6),
    rest=st.lists(st.integers(0, 5), max_size=6),
    stops=STOPS,
)
def test_other_tokens_than_were_to_come_do_no_harm(
    sent: list[int], rest: list[int], stops: list[str]
) -> None:
    """Text that was sent cannot be taken back, whatever would match now; and a stop string in it is told."""
    choice = choice_of(TABLE, *stops)
    try:
        choice.resume(ContinuedChoice(token_ids=tuple(sent), end=None))
    except InvalidRequest as error:
        assert error.reason is Reason.FIELDS_CONTRADICT
        return
    pieces = [piece for piece in push_all(choice, rest) if piece is not None]
    detokenizer = TableDetokenizer(TABLE)
    before = "".join(map(detokenizer.push, sent))
    text = before + "".join(map(detokenizer.push, rest))
    assert text.startswith(before + "".join(piece.text for piece in pieces))


def text_of(pieces: Sequence[Piece]) -> tuple[str, tuple[int, ...]]:
    ids = tuple(token_id for piece in pieces for token_id in piece.token_ids)
    return "".join(piece.text for piece in pieces), ids


@given(
    ids=st.lists(st.integers(0, 5), max_size=20),
    stops=STOPS,
    takes=st.sets(st.integers(0, 20)),
)
def test_text_does_not_depend_on_when_it_is_taken(
    ids: list[int], stops: list[str], takes: set[int]
) -> None:
    """Joined text and ids are those of one reading at the end, whatever was read when."""

    def read(when: set[int]) -> tuple[str, tuple[int, ...], ChoiceEnd | None]:
        choice = choice_of(TABLE, *stops)
        pieces = []
        for index, token_id in enumerate(ids):
            if choice.push(token_id, None, is_end=False):
                break
            if index in when:
                pieces.append(choice.take())
        choice.finish(ChoiceEnd(reason=FinishReason.LENGTH))
        pieces.append(choice.take())
        there = [piece for piece in pieces if piece]
        return (
            "".join(piece.text for piece in there),
            tuple(i for piece in there for i in piece.token_ids),
            there[-1].end,
        )

    assert read(takes) == read(set())
    text, taken, end = read(takes)
    assert end is not None
    whole = b"".join(TABLE[i] for i in taken).decode(errors="replace")
    if end.stop_string is None:
        assert text == whole
        assert list(taken) == ids
    else:
        assert whole[len(text) :].startswith(end.stop_string)
