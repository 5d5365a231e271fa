"""Rules and dashboard, without a server: the files are those the generators write, promtool takes them,
every alert is tested, and every metric exists.

    prometheus_test.py SOURCE_DIR
"""

import json
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import unittest

import yaml

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import known  # noqa: E402
import tools  # noqa: E402

SOURCE = pathlib.Path(sys.argv[1])
PROMETHEUS = SOURCE / "deploy" / "prometheus"
MONITORING = SOURCE / "deploy" / "kubernetes" / "components" / "monitoring"
TESTS = ["rules_test.yml", "rules_slow_test.yml"]
sys.path[:0] = [str(PROMETHEUS), str(SOURCE / "deploy" / "grafana")]
import make_dashboard  # noqa: E402
import make_rules  # noqa: E402


def promtool(*arguments):
    return subprocess.run(["promtool", *map(str, arguments)], capture_output=True, text=True)


def alerts():
    return [alert for _, group in make_rules.GROUPS for alert in group()]


def failing_alerts(change):
    """Names of the alerts whose tests fail once `change` was done to the text of the rules."""
    with tempfile.TemporaryDirectory() as folder:
        rules = make_rules.render(make_rules.Scale(60))
        (pathlib.Path(folder) / "rules.yml").write_text(change(rules), encoding="utf-8")
        said = ""
        for name in TESTS:
            done = promtool("test", "rules", shutil.copy(PROMETHEUS / name, folder))
            said += done.stdout + done.stderr
    return set(re.findall(r"alertname: (\w+)", said))


class RulesTest(unittest.TestCase):
    def test_files_are_the_generators(self):
        rules = make_rules.render(make_rules.Scale(60))
        self.assertEqual((PROMETHEUS / "rules.yml").read_text(encoding="utf-8"),
                         make_rules.NOTICE + rules, "run deploy/prometheus/make_rules.py")
        wrapped = yaml.safe_load((MONITORING / "prometheusrule.yaml").read_text(encoding="utf-8"))
        self.assertEqual(wrapped["spec"], yaml.safe_load(rules))

    def test_promtool_takes_the_files(self):
        for arguments in [("check", "rules", PROMETHEUS / "rules.yml"),
                          ("check", "config", PROMETHEUS / "prometheus.yml"),
                          *(("test", "rules", PROMETHEUS / name) for name in TESTS)]:
            done = promtool(*arguments)
            self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def test_no_alert_survives_the_opposite_condition(self):
        everyone = {alert.name for alert in alerts()}
        turned = failing_alerts(lambda rules: rules.replace(" > ", " < ").replace(" == ", " != "))
        self.assertEqual(everyone - turned, set())

    def test_no_alert_survives_impatience(self):
        patient = {alert.name for alert in alerts() if alert.wait}
        hasty = failing_alerts(lambda rules: re.sub(r"(?m)^    for: \w+\n", "", rules))
        self.assertEqual(patient - hasty, set())

    def test_metrics_exist(self):
        used = known.metrics_of((PROMETHEUS / "rules.yml").read_text(encoding="utf-8"))
        self.assertGreater(len(used), 15)
        self.assertLessEqual(used, known.metric_names(SOURCE))
        self.assertIn("lectern_nothing_total", known.metrics_of("rate(lectern_nothing_total[5m]) > 0"))

    def test_every_alert_is_explained(self):
        page = (SOURCE / "docs" / "guides" / "alerts.md").read_text(encoding="utf-8")
        explained = set(re.findall(r"^## (Lectern\w+)$", page, re.M))
        self.assertEqual(explained, {alert.name for alert in alerts()})


class DashboardTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.text = (MONITORING / "lectern.json").read_text(encoding="utf-8")
        cls.panels = json.loads(cls.text)["panels"]

    def test_file_is_the_generators(self):
        self.assertEqual(json.loads(self.text), make_dashboard.dashboard(),
                         "run deploy/grafana/make_dashboard.py")

    def test_layout(self):
        self.assertEqual(len({p["id"] for p in self.panels}), len(self.panels))
        taken = set()
        for panel in self.panels:
            at = panel["gridPos"]
            cells = {(x, y) for x in range(at["x"], at["x"] + at["w"])
                     for y in range(at["y"], at["y"] + at["h"])}
            self.assertFalse(cells & taken, panel["title"])
            self.assertLessEqual(at["x"] + at["w"], 24)
            taken |= cells

    def test_expressions_parse_and_metrics_exist(self):
        expressions = make_dashboard.expressions(namespace="n", pod=".*", interval="5m")
        self.assertGreater(len(expressions), 80)
        rules = [{"record": f"lint:{i}", "expr": expr} for i, (_, expr, _) in enumerate(expressions)]
        self.assertNotIn("$", "".join(rule["expr"] for rule in rules))
        with tempfile.NamedTemporaryFile("w", suffix=".yml") as file:
            yaml.safe_dump({"groups": [{"name": "lint", "rules": rules}]}, file)
            file.flush()
            done = promtool("check", "rules", file.name)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        used = known.metrics_of("\n".join(rule["expr"] for rule in rules))
        self.assertLessEqual(used, known.metric_names(SOURCE))
        records = {record for record, _ in make_rules.records()}
        named = set(re.findall(r"lectern:[a-z_:0-9]+", "\n".join(r["expr"] for r in rules)))
        self.assertLessEqual(named, records)


if __name__ == "__main__":
    if shutil.which("promtool") is None:
        sys.exit(tools.skip("promtool is not installed"))
    unittest.main(argv=sys.argv[:1])
