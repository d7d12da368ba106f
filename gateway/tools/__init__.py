"""Tools between a door and a model: what forces calls, and what finds them in an answer while it streams. No I/O.

plan_tools(tools, choice, tool_format) ──> what the model is shown, a constraint if one is needed, parsers
parser.feed(text) ──> text, reasoning, calls and their arguments, piece by piece
"""
