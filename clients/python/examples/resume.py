"""A stream that goes on when its connection is cut: `python resume.py ROUTER:PORT [ROUTER:PORT …]`.

Kill a router to see it.
"""

import sys

from lepton.v1 import inference_pb2
from lepton_client import Client

request = inference_pb2.GenerateRequest(text="Once upon a time", stop={"max_tokens": 200})

with Client(*(sys.argv[1:] or ["127.0.0.1:50051"]), resume=True) as client:
    for event in client.generate(request):
        if event.HasField("migrated"):
            print(f"\n[goes on at {event.migrated.to_worker_id}]", file=sys.stderr)
        print(event.delta.text, end="", flush=True)
    print()
