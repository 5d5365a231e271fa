"""The Kubernetes manifests and the systemd unit, against schemas, against the server and against each
other. Needs kubectl and kubernetes-validate (tools.py).

    manifests_test.py SOURCE_DIR LECTERN_SERVER DEPENDENCIES_DIR
"""

import functools
import pathlib
import re
import shlex
import subprocess
import sys
import tempfile
import unittest

import yaml

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import known  # noqa: E402
import tools  # noqa: E402

SOURCE, SERVER, DEPENDENCIES = (pathlib.Path(a) for a in sys.argv[1:4])
sys.path.insert(0, str(SOURCE / "deploy"))
import size_pod  # noqa: E402

OVERLAYS = ["cpu", "gateway", "gpu"]
# Objects of other projects, for which kubernetes-validate has no schema.
WITHOUT_SCHEMA = {"PodMonitor", "PrometheusRule", "ScaledObject", "InferencePool", "HTTPRoute"}
MARGIN_SECONDS = 10
KUBECTL = VALIDATOR = None


def render(overlay):
    return subprocess.run([KUBECTL, "kustomize", SOURCE / "deploy/kubernetes/overlays" / overlay],
                          check=True, capture_output=True, text=True).stdout


def validate(text):
    """(success, all output)"""
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        file.write(text)
        file.flush()
        done = subprocess.run([VALIDATOR, "--strict", "-k", tools.KUBERNETES_VERSION, file.name],
                              capture_output=True, text=True)
    return done.returncode == 0, done.stdout + done.stderr


def seconds(duration):
    return sum(float(n) * {"s": 1, "m": 60, "h": 3600}[u]
               for n, u in re.findall(r"([\d.]+)([smh])", duration))


def shutdown_grace_seconds():
    """The time between the end of the server's drain and its exit, from its source."""
    text = (SOURCE / "server/app/server.cc").read_text(encoding="utf-8")
    grace = int(re.search(r"kGrpcShutdownGrace = absl::Seconds\((\d+)\)", text)[1])
    refusing = int(re.search(r"kMinRefusalTime = absl::Milliseconds\((\d+)\)", text)[1])
    return grace + refusing / 1000


def drain_seconds(flags):
    flags = {**known.flag_defaults(SERVER), **flags}
    return seconds(flags["lame_duck"]) + seconds(flags["drain_timeout"]) + shutdown_grace_seconds()


class Overlay:
    def __init__(self, name):
        self.name, self.text = name, render(name)
        self.objects = [o for o in yaml.safe_load_all(self.text) if o]
        self.deployment = self.one("Deployment")
        self.pod = self.deployment["spec"]["template"]["spec"]
        self.labels = self.deployment["spec"]["template"]["metadata"]["labels"]
        self.server = next(c for c in self.pod["containers"] if c["name"] == "server")
        self.flags = size_pod.flags_of(self.server["args"])

    def of(self, kind):
        return [o for o in self.objects if o["kind"] == kind]

    def one(self, kind):
        found = self.of(kind)
        assert len(found) == 1, (self.name, kind, len(found))
        return found[0]


def of_each_overlay(test):
    @functools.wraps(test)
    def run(self):
        for overlay in self.overlays:
            with self.subTest(overlay.name):
                test(self, overlay)
    return run


class ManifestsTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.overlays = [Overlay(name) for name in OVERLAYS]

    @of_each_overlay
    def test_schemas(self, o):
        good, said = validate(o.text)
        self.assertTrue(good, said)
        without = set(re.findall(r"find schema for kind (\w+)", said))
        self.assertLessEqual(without, WITHOUT_SCHEMA)

    def test_the_validator_finds_a_typo(self):
        text = self.overlays[0].text
        for right, wrong in [("readOnlyRootFilesystem", "readOnlyRootFileSystem"),
                             ("unhealthyPodEvictionPolicy", "unhealthyEvictionPolicy"),
                             ("terminationGracePeriodSeconds", "terminationGraceSeconds")]:
            self.assertIn(right, text)
            self.assertFalse(validate(text.replace(right, wrong))[0], wrong)

    @of_each_overlay
    def test_pod_security_restricted(self, o):
        self.assertEqual(
            o.one("Namespace")["metadata"]["labels"]["pod-security.kubernetes.io/enforce"],
            "restricted")
        self.assertTrue(o.pod["securityContext"]["runAsNonRoot"])
        self.assertGreater(o.pod["securityContext"]["runAsUser"], 0)
        self.assertEqual(o.pod["securityContext"]["seccompProfile"]["type"], "RuntimeDefault")
        self.assertFalse(o.pod["automountServiceAccountToken"])
        self.assertFalse({"hostNetwork", "hostPID", "hostIPC"} & o.pod.keys())
        self.assertFalse([v for v in o.pod["volumes"] if "hostPath" in v])
        for container in o.pod["initContainers"] + o.pod["containers"]:
            context = container["securityContext"]
            self.assertFalse(context["allowPrivilegeEscalation"])
            self.assertTrue(context["readOnlyRootFilesystem"])
            self.assertEqual(context["capabilities"], {"drop": ["ALL"]})
            self.assertRegex(container["image"], r"@sha256:[0-9a-f]{64}$")

    @of_each_overlay
    def test_the_server_takes_the_flags(self, o):
        self.assertEqual(o.server["command"], ["/usr/local/bin/lectern-server"])
        done = subprocess.run([SERVER, *o.server["args"], "--help"], capture_output=True,
                              text=True)
        self.assertEqual(done.returncode, 0, done.stderr)

    @of_each_overlay
    def test_ports_and_probes(self, o):
        served = set(re.findall(r"/\w+z\b", known.help_text(SERVER)))
        self.assertEqual(served, {"/startupz", "/readyz", "/livez"})
        ports = {p["name"]: p["containerPort"] for p in o.server["ports"]}
        self.assertEqual(o.flags["listen"], f"[::]:{ports['grpc']}")
        self.assertEqual(o.flags["metrics_listen"], f"[::]:{ports['metrics']}")
        for probe, path in [("startupProbe", "/startupz"), ("readinessProbe", "/readyz"),
                            ("livenessProbe", "/livez")]:
            self.assertEqual(o.server[probe]["httpGet"], {"path": path, "port": "metrics"})
        for service in o.of("Service"):
            self.assertLessEqual(service["spec"]["selector"].items(), o.labels.items())
            self.assertTrue(all(p["targetPort"] in ports for p in service["spec"]["ports"]))
        allowed = {port["port"] for policy in o.of("NetworkPolicy")
                   for rule in policy["spec"].get("ingress", []) for port in rule["ports"]}
        self.assertEqual(allowed, set(ports.values()))

    @of_each_overlay
    def test_the_grace_period_holds_the_drain(self, o):
        before = o.server["lifecycle"]["preStop"]["sleep"]["seconds"]
        needed = before + drain_seconds(o.flags) + MARGIN_SECONDS
        self.assertGreaterEqual(o.pod["terminationGracePeriodSeconds"], needed)
        # Load balancers stop using a draining pod before it stops serving.
        probe = o.server["readinessProbe"]
        self.assertGreaterEqual(before + seconds(o.flags["lame_duck"]),
                                probe["periodSeconds"] * probe["failureThreshold"])

    @of_each_overlay
    def test_resources_are_those_of_the_formula(self, o):
        defaults = known.flag_defaults(SERVER)
        self.assertEqual(size_pod.DEFAULT_FLAGS,
                         {name: defaults[name] for name in size_pod.DEFAULT_FLAGS})
        memory = size_pod.memory_request(o.flags, [size_pod.DEFAULT_MODEL])
        requests, limits = (o.server["resources"][k] for k in ("requests", "limits"))
        self.assertEqual((requests["memory"], limits["memory"]), (f"{memory}Mi", f"{memory}Mi"))
        self.assertEqual(requests["cpu"], o.flags["threads"])
        self.assertNotIn("cpu", limits)
        cache = next(v for v in o.pod["volumes"] if v["name"] == "cache")["emptyDir"]["sizeLimit"]
        room = size_pod.parse_bytes(cache + "B")
        self.assertGreaterEqual(room, 1.1 * size_pod.parse_bytes(o.flags["cache_bytes"]))
        self.assertGreaterEqual(size_pod.parse_bytes(limits["ephemeral-storage"] + "B"), room)

    @of_each_overlay
    def test_disruptions_and_roll_out(self, o):
        self.assertNotIn("replicas", o.deployment["spec"])
        budget = o.one("PodDisruptionBudget")["spec"]
        self.assertEqual(budget["maxUnavailable"], 1)
        self.assertLessEqual(budget["selector"]["matchLabels"].items(), o.labels.items())
        denied = [p for p in o.of("NetworkPolicy") if p["spec"]["podSelector"] == {}]
        self.assertEqual([p["spec"]["policyTypes"] for p in denied], [["Ingress", "Egress"]])

    @of_each_overlay
    def test_one_autoscaler_that_the_metrics_can_feed(self, o):
        metrics = known.metric_names(SOURCE)
        scalers = o.of("HorizontalPodAutoscaler") + o.of("ScaledObject")
        self.assertEqual(len(scalers), 1)
        names = set(re.findall(r"\blectern_\w+", yaml.safe_dump(scalers)))
        self.assertEqual(names, {"lectern_requests_waiting", "lectern_requests_running"})
        self.assertLessEqual(names, metrics)
        spec = scalers[0]["spec"]
        running = (spec["triggers"][1]["metadata"]["threshold"] if "triggers" in spec else
                   spec["metrics"][1]["pods"]["target"]["averageValue"])
        self.assertEqual(int(running), 3 * int(o.flags["max_running"]) // 4)

    def test_the_gpu_is_used(self):
        with_gpu = [o.name for o in self.overlays if "nvidia.com/gpu" in o.server["resources"]["limits"]]
        told_so = [o.name for o in self.overlays if o.flags.get("device") == "cuda"]
        self.assertEqual((with_gpu, told_so), (["gpu"], ["gpu"]))

    def test_no_metric_is_named_that_does_not_exist(self):
        metrics = known.metric_names(SOURCE)
        for path in sorted((SOURCE / "deploy").rglob("*.yaml")):
            used = known.metrics_of(path.read_text(encoding="utf-8"))
            self.assertLessEqual(used, metrics, path.name)

    def test_tls_comes_from_the_secret(self):
        o = self.overlays[OVERLAYS.index("cpu")]
        volume = next(v for v in o.pod["volumes"] if v["name"] == "tls")
        mount = next(m for m in o.server["volumeMounts"] if m["name"] == "tls")
        self.assertNotIn("subPath", mount)  # such a mount never changes
        self.assertEqual(volume["secret"]["secretName"], "lectern-tls")
        files = {name: o.flags[name] for name in ("tls_cert", "tls_key", "tls_client_ca")}
        self.assertEqual(files, {"tls_cert": f"{mount['mountPath']}/tls.crt",
                                 "tls_key": f"{mount['mountPath']}/tls.key",
                                 "tls_client_ca": f"{mount['mountPath']}/ca.crt"})

    def test_the_gateway_speaks_h2c(self):
        gateway = self.overlays[OVERLAYS.index("gateway")]
        ports = {s["metadata"]["name"]: s["spec"]["ports"][0] for s in gateway.of("Service")}
        self.assertEqual(ports["lectern"]["appProtocol"], "kubernetes.io/h2c")
        self.assertNotIn("tls_cert", gateway.flags)
        pool = gateway.one("InferencePool")["spec"]
        self.assertEqual(pool["targetPorts"], [{"number": 8001}])
        self.assertLessEqual(pool["selector"]["matchLabels"].items(), gateway.labels.items())


class SystemdTest(unittest.TestCase):
    def test_unit(self):
        unit = (SOURCE / "deploy/systemd/lectern-server.service").read_text(encoding="utf-8")
        settings = dict(line.split("=", 1) for line in unit.splitlines()
                        if "=" in line and not line.startswith("#"))
        arguments = shlex.split(settings["ExecStart"])[1:]
        done = subprocess.run([SERVER, *arguments, "--help"], capture_output=True, text=True)
        self.assertEqual(done.returncode, 0, done.stderr)
        flags = size_pod.flags_of(arguments)
        self.assertGreaterEqual(int(settings["TimeoutStopSec"]),
                                drain_seconds(flags) + MARGIN_SECONDS)
        memory = size_pod.memory_request(flags, [size_pod.DEFAULT_MODEL]) << 20
        self.assertGreaterEqual(size_pod.parse_bytes(settings["MemoryMax"] + "iB"), memory)


if __name__ == "__main__":
    try:
        KUBECTL, VALIDATOR = tools.kubectl(DEPENDENCIES), tools.validator(DEPENDENCIES)
    except tools.Unavailable as why:
        sys.exit(tools.skip(why))
    unittest.main(argv=sys.argv[:1])
