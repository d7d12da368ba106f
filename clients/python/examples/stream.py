"""An answer, piece by piece: `python stream.py 127.0.0.1:50051 "What is 27 + 35?"`."""

import sys

from lepton_client import Client, LeptonError

address = sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:50051"
question = sys.argv[2] if len(sys.argv) > 2 else "What is 27 + 35?"

with Client(address) as client:
    answer = client.chat(question, max_tokens=64)
    try:
        for piece in answer:
            print(piece, end="", flush=True)
    except LeptonError as error:
        sys.exit(f"error: {error}")
    print()
    if answer.usage is not None:
        print(f"{answer.finish_reason}, {answer.usage.completion_tokens} tokens", file=sys.stderr)
