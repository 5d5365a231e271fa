"""Asks one question about a file and prints the answer as it is written, then its evidence.

    python ask_file.py FILE "QUESTION"          LECTERN_SERVER=HOST:PORT names the server
"""
import os
import sys

from lectern_client import Answer, Client, Text


def main() -> None:
    path, question = sys.argv[1:]
    with Client(os.environ.get("LECTERN_SERVER", "127.0.0.1:8001")) as client:
        document = client.upload(path)
        for event in client.ask(document, question, max_new_tokens=64):
            if isinstance(event, Text):
                print(event.text, end="", flush=True)
            elif isinstance(event, Answer):
                print()
                for evidence in event.evidence:
                    print(f"  bytes {evidence.start}-{evidence.end}: {evidence.text!r}")


if __name__ == "__main__":
    main()
