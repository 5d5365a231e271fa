"""Servers, a Prometheus and the command line of Lectern as processes of a test, on free ports of
127.0.0.1; what was started is ended."""

import json
import os
import pathlib
import re
import signal
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request

WAIT_SECONDS = 120  # of a test that fails; one that passes never waits so long


def wait_for(what, condition, seconds=WAIT_SECONDS):
    """The first true value of condition()."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        value = condition()
        if value:
            return value
        time.sleep(0.2)
    raise AssertionError(f"waited in vain: {what}")


def get(port, path, seconds=5):
    """(status, body); (0, "") when nobody answers in time."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=seconds) as reply:
            return reply.status, reply.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except OSError:
        return 0, ""


class Server:
    """lectern-server with the given flags; a second start() keeps its HTTP port."""

    def __init__(self, bin_dir, folder, name, model, flags):
        self.program = pathlib.Path(bin_dir) / "lectern-server"
        self.folder = pathlib.Path(folder) / name
        self.folder.mkdir()
        self.flags = [f"--model=test={model}", "--listen=127.0.0.1:0", *flags]
        self.http_port = 0
        self.start()

    def start(self):
        ports = self.folder / "ports.json"
        ports.unlink(missing_ok=True)
        with open(self.folder / "log", "ab") as log:
            self.process = subprocess.Popen(
                [self.program, *self.flags, f"--metrics_listen=127.0.0.1:{self.http_port}",
                 f"--port_file={ports}"], stdout=log, stderr=log)
        wait_for("ports", lambda: ports.exists() or self.process.poll() is not None)
        assert self.process.poll() is None, self.log()
        numbers = json.loads(ports.read_text(encoding="utf-8"))
        self.http_port, self.address = numbers["http"], f"127.0.0.1:{numbers['grpc']}"

    def wait_until_ready(self):
        wait_for("ready", lambda: get(self.http_port, "/readyz")[0] == 200)

    def crash(self):
        self.process.kill()
        self.process.wait()

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def log(self):
        return (self.folder / "log").read_text(encoding="utf-8")[-2000:]


class CommandLine:
    """The program `lectern`, which speaks to one server."""

    def __init__(self, bin_dir, server):
        self.program, self.server = pathlib.Path(bin_dir) / "lectern", server

    def start(self, *words):
        return subprocess.Popen([self.program, *words, f"--server={self.server.address}"],
                                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                stderr=subprocess.PIPE, text=True)

    def run(self, *words):
        """(exit status, stdout, stderr)"""
        process = self.start(*words)
        out, err = process.communicate()
        return process.returncode, out, err

    def good(self, *words):
        status, out, err = self.run(*words)
        assert status == 0, (words, status, err)
        return out.strip()


class Prometheus:
    """A real one, that scrapes and evaluates every second. `targets`: {pod: (namespace, port)}."""

    def __init__(self, folder, rules, targets):
        self.folder = pathlib.Path(folder) / "prometheus"
        self.folder.mkdir()
        config = {
            "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
            "rule_files": [str(rules)],
            "scrape_configs": [{"job_name": "lectern", "static_configs": [
                {"targets": [f"127.0.0.1:{port}"], "labels": {"namespace": namespace, "pod": pod}}
                for pod, (namespace, port) in targets.items()]}],
        }
        (self.folder / "prometheus.yml").write_text(json.dumps(config), encoding="utf-8")
        self.log_file = open(self.folder / "log", "wb")
        self.process = subprocess.Popen(
            ["prometheus", f"--config.file={self.folder}/prometheus.yml",
             f"--storage.tsdb.path={self.folder}/data", "--query.lookback-delta=10s",
             "--web.listen-address=127.0.0.1:0"], stdout=self.log_file, stderr=self.log_file)
        self.port = int(wait_for("the port of Prometheus", self._port_of_log)[1])
        wait_for("Prometheus", lambda: get(self.port, "/-/ready")[0] == 200)

    def _port_of_log(self):
        log = (self.folder / "log").read_text(encoding="utf-8")
        assert self.process.poll() is None, log
        return re.search(r'"Listening on".* address=127\.0\.0\.1:(\d+)\n', log)

    def _api(self, path, **parameters):
        status, body = get(self.port, f"/api/v1/{path}?" + urllib.parse.urlencode(parameters), 20)
        reply = json.loads(body or "{}")
        if reply.get("status") != "success":
            raise AssertionError((path, parameters, status, reply.get("error")))
        return reply["data"]

    def query(self, expr, at=None):
        return self._api("query", query=expr, **({"time": at} if at else {}))["result"]

    def query_range(self, expr, start, end, step):
        return self._api("query_range", query=expr, start=start, end=end, step=step)["result"]

    def stop(self):
        self.process.terminate()
        self.process.wait(30)
        self.log_file.close()


def golden_model(source, name="llama_tiny/tied.Q8_0.gguf"):
    return pathlib.Path(source) / "tests" / "golden" / name


def default_model(dependencies):
    return pathlib.Path(os.environ.get("LECTERN_MODEL") or
                        pathlib.Path(dependencies) / "models" / "SmolLM2-135M-Instruct.Q4_1.gguf")
