"""`lepton chat`: a conversation, streamed, kept, and continued."""
