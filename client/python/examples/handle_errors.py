"""Handles the errors of a call.

    python handle_errors.py FILE
"""
import os
import sys

from lectern_client import (Client, InvalidArgumentError, LecternError, NotFoundError,
                            ResourceExhaustedError, Retry, RetryPolicy)


def main() -> None:
    path, = sys.argv[1:]
    # Waits while the server is full, at most 60 seconds for each call.
    with Client(os.environ.get("LECTERN_SERVER", "127.0.0.1:8001"), timeout=60,
                retry=RetryPolicy(when_full=True)) as client:
        try:
            client.ask("doc-00000000000000000000000000000000", "Why?").result()
        except NotFoundError as error:
            print(f"no such document: {error.reason} {error.details.resource_name}")

        document = client.upload(path)
        try:
            client.ask(document, "Why?", top_k=0).result()
        except InvalidArgumentError as error:
            for violation in error.details.violations:
                print(f"{violation.field}: {violation.description}")

        # A document that the server has evicted is sent again, because its source is known.
        client.delete(document)
        try:
            for event in client.ask(document, "Who wrote this?", max_new_tokens=8):
                if isinstance(event, Retry):
                    print(f"again because of {event.cause.reason}, uploading: {event.uploads}")
            print("answered")
        except ResourceExhaustedError as error:
            print(f"still full: {error}")
        except LecternError as error:
            print(f"failed with {error.code.name}: {error.message}")


if __name__ == "__main__":
    main()
