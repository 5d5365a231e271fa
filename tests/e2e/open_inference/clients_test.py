#!/usr/bin/env python3
"""The server, with a tiny model, before the Open Inference Protocol's real clients: tritonclient and KServe's.

    clients_test.py SOURCE_DIR BIN_DIR DEPS_DIR

Each client is installed on first use from PyPI into a separate virtual environment, in
DEPS_DIR/clients (together some 600 MB, nearly all of it dependencies of KServe's client). Their
results are compared with the answer of `lectern ask` to the same question.
"""

import fcntl
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
CLIENTS = {
    "triton": ["tritonclient[grpc]==2.73.0", "grpcio==1.85.3", "protobuf==6.33.6", "numpy==2.4.6"],
    "kserve": ["kserve==0.21.0", "grpcio==1.85.3", "protobuf==6.33.6", "numpy==2.4.6"],
}
TEXT = ("The station has four pumps. Three of them failed in the night of 14 March.\n\n"
        "The log books are kept in the archive at Marden, in the box with the number 4471.\n")
QUESTION = "Where are the log books kept?"
MAX_NEW_TOKENS = 12
START_SECONDS = 60


def cannot_run(why):
    print(f"clients_test: {why}")
    sys.exit(1 if os.environ.get("CI") == "true" else 77)


def interpreter(folder, packages):
    """The Python of a virtual environment with the packages, created unless its stamp is up to date."""
    stamp = folder / "packages.txt"
    python = folder / "bin" / "python"
    wanted = "\n".join(packages)
    if stamp.exists() and stamp.read_text() == wanted:
        return python
    shutil.rmtree(folder, ignore_errors=True)
    print(f"installing {' '.join(packages)} ...", flush=True)
    try:
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check",
                        "--only-binary=:all:", *packages], check=True)
    except subprocess.CalledProcessError as error:
        cannot_run(f"cannot install a client: {error}")
    stamp.write_text(wanted)
    return python


def interpreters(deps):
    """{client: interpreter}. One process installs at a time."""
    folder = deps / "clients"
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return {name: interpreter(folder / name, packages) for name, packages in CLIENTS.items()}


class Server:
    def __init__(self, program, model, folder):
        self.log = folder / "log"
        ports = folder / "ports.json"
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                [str(program), f"--model=tiny={model}", "--listen=127.0.0.1:0",
                 "--metrics_listen=127.0.0.1:0", f"--port_file={ports}"],
                stdout=log, stderr=log)
        deadline = time.monotonic() + START_SECONDS
        while not ports.exists():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"the server does not start:\n{self.log.read_text()}")
            time.sleep(0.05)
        self.address = f"127.0.0.1:{json.loads(ports.read_text())['grpc']}"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait(timeout=60)


def ask_by_command_line(program, address, file):
    """The result that the clients should get, as a dictionary."""
    environment = dict(os.environ, LECTERN_SERVER=address)

    def run(*arguments):
        return subprocess.run([str(program), *arguments], check=True, env=environment,
                              capture_output=True, text=True).stdout

    document = run("upload", str(file)).strip()
    events = run("ask", document, QUESTION, "--json", f"--max_new_tokens={MAX_NEW_TOKENS}")
    answer = json.loads(events.splitlines()[-1])["answer"]
    evidence = [[int(span.get("beginByte", 0)), int(span["endByte"]), span["text"]]
                for span in answer["evidence"]]
    return {"address": address, "question": QUESTION, "max_new_tokens": MAX_NEW_TOKENS,
            "document": document, "text": file.read_text(), "answer": answer["text"],
            "evidence": evidence, "no_evidence": answer.get("noEvidence", False)}


def write_descriptors(source, file):
    """Our messages, as the compiler of protos sees them."""
    subprocess.run(["protoc", f"-I{source / 'proto'}", f"--descriptor_set_out={file}",
                    "inference/open_inference.proto"], check=True)


def main():
    source, binaries, deps = (pathlib.Path(argument) for argument in sys.argv[1:4])
    model = source / "tests" / "golden" / "llama_tiny" / "tied.F32.gguf"
    pythons = interpreters(deps)
    failed = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(temporary)
        expected = folder / "expected.json"
        descriptors = folder / "descriptors"
        text = folder / "text"
        text.write_text(TEXT)
        write_descriptors(source, descriptors)
        with Server(binaries / "lectern-server", model, folder) as server:
            expected.write_text(json.dumps(ask_by_command_line(
                binaries / "lectern", server.address, text)))
            for name, python in pythons.items():
                script = HERE / f"{name}_client.py"
                print(f"== {script.name}", flush=True)
                if subprocess.run([str(python), "-B", str(script), str(expected),
                                   str(descriptors)]).returncode != 0:
                    failed.append(name)
            if failed:
                print(server.log.read_text()[-4000:])
        code = server.process.returncode
    if code != 0:
        print(f"the server ended with {code}")
    return 1 if failed or code != 0 else 0


if __name__ == "__main__":
    sys.exit(main())
