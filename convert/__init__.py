"""`lepton convert` and `lepton quantize`: a folder that somebody has → one that workers serve, checked and measured.

Starts processes and never imports them: the onnxruntime-genai builder in an environment of its own, and the worker's
side of the work (`python -m worker.conversion`).
"""
