"""Several answers at once, asynchronously: `python many.py 127.0.0.1:50051`."""

import asyncio
import sys

from lepton_client import AsyncClient

SUMS = ("What is 12 + 34?", "What is 27 + 35?", "What is 80 + 11?")


async def main(address: str) -> None:
    """Prints the answers in the order of the questions."""
    async with AsyncClient(address) as client:
        answers = [client.chat(question, max_tokens=32).text() for question in SUMS]
        for text in await asyncio.gather(*answers):
            print(text)


asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:50051"))
