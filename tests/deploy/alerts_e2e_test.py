"""A real Prometheus with the real rules, in which a minute lasts a second, and real servers that are overloaded and broken:
alerts become pending, fire and resolve. Then every expression of the dashboard is evaluated in what it
has collected.

    alerts_e2e_test.py SOURCE_DIR BIN_DIR DEPENDENCIES_DIR [--pictures=FOLDER]

FOLDER gets dashboard.svg and alerts.svg, those of docs/.
"""

import math
import os
import pathlib
import shutil
import sys
import tempfile
import time
import unittest
import xml.etree.ElementTree

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
sys.path.insert(1, str(pathlib.Path(__file__).resolve().parents[1] / "testing"))
import faults  # noqa: E402
import known  # noqa: E402
import tools  # noqa: E402
from processes import (CommandLine, Prometheus, Server, default_model, get, golden_model,  # noqa: E402
                       wait_for)

SOURCE, BIN, DEPENDENCIES = (pathlib.Path(a) for a in sys.argv[1:4])
PICTURES = next((a.split("=", 1)[1] for a in sys.argv[4:] if a.startswith("--pictures=")), None)
sys.path[:0] = [str(SOURCE / "deploy" / "prometheus"), str(SOURCE / "deploy" / "grafana")]
import make_dashboard  # noqa: E402
import make_rules  # noqa: E402
import plot_panels  # noqa: E402

# Metrics that stay 0 here, and where they do not.
NOT_PROVOKED = {
    "lectern_auth_tokens_reload_total": "tokens_e2e_test",
    "lectern_cache_disk_errors_total": "document_restart_test",
    "lectern_cuda_errors_total": "device_e2e_test",
    "lectern_deadline_exceeded_total": "ask_e2e_test",  # here such calls are refused before
    "lectern_document_cache_rejected_total": "backup_e2e_test",
    "lectern_exactness_checks_total": "engine_test",
    "lectern_slow_reader_disconnects_total": "call_test",
}
# Gauges that are above 0 for moments only: whether a scrape meets one is chance, so nothing is asked.
MOMENTARY = {"lectern_prefill_tokens_running", "lectern_stream_buffered_chunks"}
# A minute lasts a second, and the machine may be busy: a server that is well can be late.
TIMED = {"LecternEngineStalled", "LecternReplicaDown", "LecternFirstTextBudgetBurn"}
SMALL = ["--threads=1", "--log_level=warning"]


def text_of(number, length):
    return " ".join(f"Line {i} of text {number}." for i in range(length // 22))


class AlertsTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(cls.folder.cleanup)
        tiny = golden_model(SOURCE)
        cls.servers, cls.lines = {}, {}
        cls.serve("busy", default_model(DEPENDENCIES),
                  ["--max_running=1", "--queue_capacity=4", "--kv_bytes=256MiB"])
        cls.serve("small", tiny, ["--kv_bytes=1MiB", f"--cache_dir={cls.folder.name}/cache"])
        cls.serve("stuck", tiny, [])
        cls.serve("loop", tiny, ["--lame_duck=3s"])  # scrapes see it draining
        cls.serve("calm", tiny, [])
        for server in cls.servers.values():
            server.wait_until_ready()
        cls.certificates = pathlib.Path(cls.folder.name)
        faults.write_certificate(cls.certificates, 60)
        cls.serve("tls", tiny, [f"--tls_cert={cls.certificates}/tls.crt",
                                f"--tls_key={cls.certificates}/tls.key"])
        cls.servers["tls"].wait_until_ready()
        rules = pathlib.Path(cls.folder.name) / "rules.yml"
        rules.write_text(make_rules.render(make_rules.Scale(1)), encoding="utf-8")
        cls.prometheus = Prometheus(cls.folder.name, rules, {
            f"{name}-0": (name, server.http_port) for name, server in cls.servers.items()})
        cls.addClassCleanup(cls.prometheus.stop)
        wait_for("a scrape of every server",
                 lambda: len(cls.prometheus.query("up == 1")) == len(cls.servers))
        cls.start = time.time()
        cls.harm()

    @classmethod
    def serve(cls, name, model, flags):
        cls.servers[name] = Server(BIN, cls.folder.name, name, model, [*SMALL, *flags])
        cls.addClassCleanup(cls.servers[name].stop)
        cls.lines[name] = CommandLine(BIN, cls.servers[name])

    @classmethod
    def write(cls, name, number, length):
        path = pathlib.Path(cls.folder.name) / f"{name}{number}.txt"
        path.write_text(text_of(number, length), encoding="utf-8")
        return str(path)

    @classmethod
    def upload(cls, name, number, length):
        # Full for a moment: what is being written to disk stays in memory.
        return cls.lines[name].good("upload", cls.write(name, number, length), "--wait_when_full")

    @classmethod
    def harm(cls):
        """All faults at once: each has its own server, and its own namespace."""
        cls.crashes = faults.Crashes(cls.servers["loop"], 4, lambda: [
            s["value"][1] for s in cls.prometheus.query('process_start_time_seconds{namespace="loop"}')])
        cls.addClassCleanup(cls.crashes.stop)
        documents = [cls.upload("small", i, 1500) for i in range(5)]
        cls.thrash = faults.TooManyDocuments(cls.lines["small"], documents)
        cls.addClassCleanup(cls.thrash.stop)
        document = cls.upload("busy", 0, 2000)
        cls.overload = faults.Overload(cls.lines["busy"], document, 10)
        cls.addClassCleanup(cls.overload.stop)
        document = cls.upload("calm", 0, 100)
        cls.lines["calm"].good("ask", document, "Why?", "--max_new_tokens=2")
        (cls.certificates / "tls.crt").write_text("garbage", encoding="utf-8")

    def fires(self, alert, namespace, more=""):
        """Fires, or has done so: the faults do their harm while other tests wait."""
        selector = f'ALERTS{{alertname="{alert}",namespace="{namespace}",alertstate="firing"{more}}}'
        wait_for(f"{alert} of {namespace} to fire",
                 lambda: self.prometheus.query(f"max_over_time({selector}[1h])"))

    def resolves(self, alert, namespace, more="", pending=True):
        selector = f'ALERTS{{alertname="{alert}",namespace="{namespace}"{more}}}'
        wait_for(f"{alert} of {namespace} to resolve", lambda: not self.prometheus.query(selector))
        seen = {}
        for series in self.prometheus.query_range(selector, self.start, time.time(), 1):
            seen[series["metric"]["alertstate"]] = [t - self.start for t, _ in series["values"]]
        self.assertIn("firing", seen)
        print(f"{alert} of {namespace}: fires at {seen['firing'][0]:.0f} s, "
              f"resolved at {seen['firing'][-1] + 1:.0f} s")
        if pending:
            self.assertLess(seen["pending"][0], seen["firing"][0])

    def test_01_overload(self):
        self.fires("LecternQueueSaturated", "busy")
        self.fires("LecternRejecting", "busy")
        self.overload.stop()
        self.resolves("LecternQueueSaturated", "busy")
        self.resolves("LecternRejecting", "busy")

    def test_02_calls_fail(self):
        impatience = faults.Impatience(self.lines["busy"], self.write("busy", 1, 40000))
        self.addCleanup(impatience.stop)
        self.fires("LecternErrorBudgetBurn", "busy", ',speed="fast"')
        impatience.stop()
        self.resolves("LecternErrorBudgetBurn", "busy", ',speed="fast"')

    def test_03_stalled_engine(self):
        server = self.servers["stuck"]
        document = self.upload("stuck", 0, 8000)
        short = self.upload("stuck", 1, 100)
        try:
            stopped = faults.StoppedThread(faults.busiest_thread(server.process.pid))
        except PermissionError:
            if os.environ.get("CI") == "true":
                raise
            self.skipTest("ptrace is forbidden here")
        try:
            question = self.lines["stuck"].start("ask", short, "Why?", "--max_new_tokens=2")
            self.fires("LecternEngineStalled", "stuck")
            self.assertIsNone(question.poll())
        finally:
            stopped.stop()
        self.assertEqual(question.communicate() and question.returncode, 0)
        self.resolves("LecternEngineStalled", "stuck")
        self.assertIn(document, self.lines["stuck"].good("documents"))

    def test_04_eviction_pressure(self):
        self.fires("LecternEvictionPressure", "small")
        self.thrash.stop()
        self.resolves("LecternEvictionPressure", "small")

    def test_05_restart_loop(self):
        self.fires("LecternRestartLoop", "loop")
        self.crashes.stop()
        self.resolves("LecternRestartLoop", "loop", pending=False)

    def test_06_a_replica_is_away(self):
        self.servers["loop"].stop()
        self.fires("LecternReplicaDown", "loop")
        self.servers["loop"].start()
        self.resolves("LecternReplicaDown", "loop")

    def test_07_certificate(self):
        self.fires("LecternCertificateExpiring", "tls")
        self.fires("LecternReloadFailing", "tls")
        self.fires("LecternCertificateExpired", "tls")
        faults.write_certificate(self.certificates, 86400)
        self.resolves("LecternCertificateExpired", "tls")
        self.resolves("LecternCertificateExpiring", "tls")
        self.resolves("LecternReloadFailing", "tls")

    def test_08_a_server_that_is_well_alarms_nobody(self):
        fired = {s["metric"]["alertname"] for s in self.prometheus.query_range(
            'ALERTS{namespace="calm",alertstate="firing"}', self.start, time.time(), 1)}
        self.assertLessEqual(fired, TIMED)

    def test_09_the_dashboard_has_data(self):
        empty = []
        count = 0
        for title, found, legend in self.expressions(list(self.servers)):
            count += 1
            if not any(math.isfinite(float(v)) for series in found for _, v in series["values"]):
                empty.append((title, legend))
        print(f"{count} expressions, {count - len(empty)} with data")
        self.assertEqual(empty, [])

    def test_10_every_metric_is_set(self):
        never = {name for name in known.metric_names(SOURCE) if not self.prometheus.query(
            f'max_over_time({{__name__=~"{name}(_count)?"}}[1h]) != 0')}
        print("excused, but set:", sorted(set(NOT_PROVOKED) - never))
        self.assertEqual(never - set(NOT_PROVOKED) - MOMENTARY, set())

    def expressions(self, namespaces):
        """(title, series of all namespaces, legend) of every expression of the dashboard."""
        for i, (title, _, legend) in enumerate(make_dashboard.expressions("", "", "")):
            series = []
            for namespace in namespaces:
                expr = make_dashboard.expressions(namespace, ".*", "10s")[i][1]
                series += self.prometheus.query_range(expr, self.start, time.time(), 1)
            yield title, series, legend

    def test_11_pictures(self):
        panels = [(title, "busy") for title in plot_panels.SERVICE_PANELS]
        panels += [(title, "small") for title in plot_panels.MEMORY_PANELS]
        data = self.prometheus.query_range, self.start, time.time()
        dashboard, alerts = plot_panels.dashboard(*data, panels), plot_panels.alerts(*data)
        for picture in (dashboard, alerts):
            xml.etree.ElementTree.fromstring(picture)
            self.assertLess(len(picture), 200_000)
        for title, namespace in panels:
            self.assertIn(title, dashboard)
            self.assertTrue(plot_panels.lines_of(title, namespace, *data), title)
        self.assertIn("LecternQueueSaturated", alerts)
        if PICTURES:
            for name, picture in [("dashboard", dashboard), ("alerts", alerts)]:
                (pathlib.Path(PICTURES) / f"{name}.svg").write_text(picture, encoding="utf-8")


if __name__ == "__main__":
    for program in ("prometheus", "openssl"):
        if shutil.which(program) is None:
            sys.exit(tools.skip(f"{program} is not installed"))
    if not default_model(DEPENDENCIES).exists():
        sys.exit(tools.skip(f"no model at {default_model(DEPENDENCIES)}"))
    unittest.main(argv=sys.argv[:1], verbosity=2)
