"""Ways to overload or break a server from outside, each until stop() is called."""

import ctypes
import os
import pathlib
import shutil
import signal
import subprocess
import tempfile
import threading
import time

PTRACE_DETACH, PTRACE_SEIZE, PTRACE_INTERRUPT = 17, 0x4206, 0x4207
WAIT_ALL = 0x40000000  # __WALL: threads, too


class Fault(threading.Thread):
    """Repeats harm() until stop(); ends by itself when harm() returns False."""

    def __init__(self):
        super().__init__(daemon=True)
        self.stopped = threading.Event()
        self.error = None
        self.start()

    def run(self):
        try:
            while not self.stopped.is_set() and self.harm() is not False:
                self.stopped.wait(0.1)
        except Exception as error:  # told to the test by stop()
            self.error = error

    def harm(self):
        raise NotImplementedError

    def stop(self):
        self.stopped.set()
        self.join()
        if self.error:
            raise self.error


class Overload(Fault):
    """`callers` callers, each asking one question after the other."""

    def __init__(self, line, document, callers):
        self.line, self.document, self.calls = line, document, [None] * callers
        self.count = 0
        super().__init__()

    def harm(self):
        for i, call in enumerate(self.calls):
            if call is None or call.poll() is not None:
                if call is not None:
                    call.communicate()
                self.count += 1
                self.calls[i] = self.line.start("ask", self.document, f"What is number {self.count}?",
                                                "--max_new_tokens=32", "--retries=0")

    def stop(self):
        super().stop()
        for call in self.calls:
            if call is not None:
                call.send_signal(signal.SIGINT)  # the first ones run: cancelled in decode
                call.communicate()


class TooManyDocuments(Fault):
    """Asks one document after the other; together they do not fit the server's memory."""

    def __init__(self, line, documents):
        self.line, self.documents, self.next = line, documents, 0
        super().__init__()

    def harm(self):
        self.line.run("ask", self.documents[self.next % len(self.documents)], "Why?",
                      "--max_new_tokens=2")
        self.next += 1


class Impatience(Fault):
    """Uploads a file with a deadline in which it cannot be read; the server has learned that."""

    def __init__(self, line, path):
        self.line, self.path = line, path
        super().__init__()

    def harm(self):
        self.line.run("upload", self.path, "--timeout=1", "--retries=0")


class Crashes(Fault):
    """Kills a server and starts it again, `times` times; each time only after the scrapes have seen the
    previous start, which `seen()` reports."""

    def __init__(self, server, times, seen):
        self.server, self.left, self.seen = server, times, seen
        super().__init__()

    def harm(self):
        before = self.seen()
        self.server.crash()
        self.server.start()
        while not self.stopped.wait(0.1) and self.seen() in (before, []):
            pass
        self.left -= 1
        return self.left > 0


def busiest_thread(pid):
    """The thread that has computed most: the engine's, of a server with --threads=1 that has worked."""
    def ticks(thread):
        with open(f"/proc/{pid}/task/{thread}/stat", encoding="utf-8") as file:
            fields = file.read().rsplit(")", 1)[1].split()
        return int(fields[11]) + int(fields[12])

    return max((int(name) for name in os.listdir(f"/proc/{pid}/task")), key=ticks)


class StoppedThread:
    """Stops one thread of a process; the others, and so its /metrics, continue. Begins and ends in the same
    thread of the test, as ptrace requires. PermissionError where ptrace is forbidden."""

    def __init__(self, thread):
        self.thread = thread
        self.libc = ctypes.CDLL(None, use_errno=True)
        self.libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
        self._ptrace(PTRACE_SEIZE)
        self._ptrace(PTRACE_INTERRUPT)
        os.waitpid(thread, WAIT_ALL)

    def _ptrace(self, request):
        if self.libc.ptrace(request, self.thread, None, None) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))

    def stop(self):
        self._ptrace(PTRACE_DETACH)


CA_CONFIG = """[ca]
default_ca = here
[here]
database = index
serial = serial
new_certs_dir = .
default_md = sha256
policy = names
x509_extensions = server
[names]
commonName = supplied
[server]
subjectAltName = DNS:localhost
"""


def write_certificate(folder, seconds):
    """Writes a self-signed certificate that expires in `seconds` seconds, as tls.crt and tls.key in `folder`."""
    with tempfile.TemporaryDirectory() as work:
        for name, text in [("config", CA_CONFIG), ("index", ""), ("serial", "01")]:
            (pathlib.Path(work) / name).write_text(text, encoding="utf-8")

        def stamp(ahead):
            return time.strftime("%Y%m%d%H%M%SZ", time.gmtime(time.time() + ahead))

        for command in [
                "req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout tls.key -out csr "
                "-subj /CN=localhost",
                f"ca -selfsign -batch -notext -config config -keyfile tls.key -in csr -out tls.crt "
                f"-startdate {stamp(-60)} -enddate {stamp(seconds)}"]:
            subprocess.run(["openssl", *command.split()], cwd=work, check=True, capture_output=True)
        for name in ("tls.key", "tls.crt"):
            shutil.copy(pathlib.Path(work) / name, folder)
