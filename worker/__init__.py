"""One process = one revision of one model on one device, behind a continuous-batching engine."""

import os

# ONNX Runtime reports its use to its makers unless it is told not to, before it is first imported. What is run here is
# nobody's business but its owner's; who wants it all the same sets the variable to 0.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
