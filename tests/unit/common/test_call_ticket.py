"""Tickets say what they said when they were made, and nothing to anybody else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from common.call_ticket import CallTicket, CallTickets
from common.errors import Forbidden, Reason

TICKETS = CallTickets(SecretStr("sesame"))
ids = st.text("abcXYZ0189._-", max_size=128)


@given(
    st.builds(
        CallTicket,
        router_id=ids,
        number=st.integers(0, 2**64 - 1),
        worker_id=ids,
        incarnation=ids,
        expires_at=st.integers(0, 2**41).map(lambda ms: ms / 1000),
        on_probation=st.booleans(),
    ),
    st.text("abc", max_size=5),
)
def test_a_ticket_says_what_it_said(ticket: CallTicket, caller: str) -> None:
    text = TICKETS.make(ticket, caller)
    assert TICKETS.read(text, caller) == ticket
    assert len(text) <= 1024
    for tickets, reader in ((TICKETS, caller + "x"), (CallTickets(SecretStr("other")), caller)):
        with pytest.raises(Forbidden) as refused:
            tickets.read(text, reader)
        assert refused.value.reason is Reason.TICKET_INVALID


@given(st.text(max_size=200) | st.just("A" * 5000))
def test_whatever_is_no_ticket_is_refused(text: str) -> None:
    with pytest.raises(Forbidden) as refused:
        TICKETS.read(text, "", field="lepton-ticket")
    assert refused.value.field == "lepton-ticket"
