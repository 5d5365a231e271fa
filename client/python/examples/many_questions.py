"""Asks many questions about a file at once, with asyncio, and prints each answer when it is complete.

    python many_questions.py FILE "QUESTION" "QUESTION" ...
"""
import asyncio
import os
import sys

from lectern_client import AsyncClient


async def main() -> None:
    path, *questions = sys.argv[1:]
    async with AsyncClient(os.environ.get("LECTERN_SERVER", "127.0.0.1:8001")) as client:
        document = await client.upload(path)
        async for reply in client.ask_many(document, questions, max_new_tokens=32):
            if reply.answer is not None:
                print(f"{reply.index}: {reply.question} -> {reply.answer.text.strip()!r}")
            else:
                print(f"{reply.index}: {reply.question} failed: {reply.error}")


if __name__ == "__main__":
    asyncio.run(main())
