"""A stream that goes on when its connection is cut: `python resume.py ROUTER:PORT [ROUTER:PORT …]`.

Kill a router to see it.
"""

import sys

from lepton.v1 import inference_pb2, types_pb2
from lepton_client import Client

question = types_pb2.ChatMessage(role=types_pb2.ROLE_USER, content="What is Lepton?")
request = inference_pb2.GenerateRequest(chat={"messages": [question]}, stop={"max_tokens": 200})

with Client(*(sys.argv[1:] or ["127.0.0.1:50051"]), resume=True) as client:
    for event in client.generate(request):
        if event.HasField("migrated"):
            print(f"\n[goes on at {event.migrated.to_worker_id}]", file=sys.stderr)
        print(event.delta.text, end="", flush=True)
    print()
