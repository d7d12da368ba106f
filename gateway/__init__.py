"""The HTTP front door: the OpenAI dialect, WebSocket and a page, over any router. Knows no router from the inside."""
