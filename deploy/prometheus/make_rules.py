#!/usr/bin/env python3
"""Writes the Prometheus rules of Lectern: rules.yml in this folder, and the PrometheusRule of
deploy/kubernetes/components/monitoring with the same rules.

    deploy/prometheus/make_rules.py                     both files; a test fails when they differ
    deploy/prometheus/make_rules.py --minute=1s FILE    the rules to FILE, a minute lasting a second:
                                                        for tests that do not want to wait
"""
import dataclasses
import pathlib
import re
import sys

HERE = pathlib.Path(__file__).resolve().parent
PROMETHEUS_RULE = HERE.parent / "kubernetes" / "components" / "monitoring" / "prometheusrule.yaml"
WRAPPER = """apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: lectern
  labels: {release: kube-prometheus-stack}
spec:
"""
NOTICE = "# Written by deploy/prometheus/make_rules.py: change that.\n"

# Objectives over 30 days. Failures of the server count against availability, refusals and the client's
# own mistakes do not (LecternRejecting watches refusals); cancelled calls count on neither side.
ERROR_BUDGET = 0.005      # 99.5 % of the calls
SLOW_BUDGET = 0.05        # 95 % of the first texts within SLOW_SECONDS
SLOW_SECONDS = 5          # a bucket's bound of lectern_time_to_first_token_seconds
WINDOWS = ["5m", "30m", "1h", "6h", "3d"]
# (times the budget, long window, short window, for, severity, speed)
BURNS = [("14.4", "1h", "5m", "2m", "page", "fast"), ("6", "6h", "30m", "15m", "page", "slow"),
         ("1", "3d", "6h", "3h", "ticket", "trickle")]

CALLS = "grpc_server_call_duration_seconds_count"
METHODS = 'grpc_method=~"lectern[.]v1[.].+"'
FAILED = 'grpc_status=~"UNKNOWN|DEADLINE_EXCEEDED|ABORTED|INTERNAL|UNAVAILABLE|DATA_LOSS"'
COUNTED = 'grpc_status!="CANCELLED"'
FIRST_TEXT = "lectern_time_to_first_token_seconds"


@dataclasses.dataclass
class Alert:
    name: str
    expr: str
    wait: str             # how long it must hold: "for" in the file; "" at once
    severity: str         # page: now; ticket: this week
    summary: str
    labels: str = ""


def ratio(over, under):
    return f"sum by (namespace) (rate({over}))\n/ sum by (namespace) (rate({under}))"


def records():
    out = []
    for w in WINDOWS:
        out.append((f"lectern:errors:ratio_rate{w}",
                    ratio(f"{CALLS}{{{METHODS},{FAILED}}}[{w}]", f"{CALLS}{{{METHODS},{COUNTED}}}[{w}]")))
    for w in WINDOWS:
        out.append((f"lectern:slow_first_text:ratio_rate{w}",
                    "1 - " + ratio(f'{FIRST_TEXT}_bucket{{le="{SLOW_SECONDS}"}}[{w}]',
                                   f"{FIRST_TEXT}_count[{w}]")))
    out.append(("lectern:requests:rate5m",
                f"sum by (namespace) (rate({CALLS}{{{METHODS},{COUNTED}}}[5m]))"))
    return out


def burn_alerts(name, record, budget, what):
    for factor, long, short, wait, severity, speed in BURNS:
        bound = f"({factor} * {budget})"
        yield Alert(
            name,
            f"lectern:{record}:ratio_rate{long} > {bound}\n"
            f"and lectern:{record}:ratio_rate{short} > {bound}\n"
            "and on (namespace) lectern:requests:rate5m > 0.02",
            wait, severity,
            f"{{{{ $labels.namespace }}}}: {{{{ $value | humanizePercentage }}}} {what},"
            f" over {factor} times the budget ({long} and {short})", f"speed: {speed}")


def slo_alerts():
    return [*burn_alerts("LecternErrorBudgetBurn", "errors", ERROR_BUDGET, "of the calls fail"),
            *burn_alerts("LecternFirstTextBudgetBurn", "slow_first_text", SLOW_BUDGET,
                         f"of the answers begin after more than {SLOW_SECONDS} s")]


def service_alerts():
    return [
        Alert("LecternDown", '(sum(up{job="lectern"}) or vector(0)) == 0', "2m", "page",
              "no server answers its scrape"),
        Alert("LecternReplicaDown", 'up{job="lectern"} == 0', "5m", "ticket",
              "{{ $labels.pod }} does not answer its scrape"),
        Alert("LecternNotReady", "sum by (namespace) (lectern_ready) == 0", "3m", "page",
              "no server of {{ $labels.namespace }} is ready"),
        Alert("LecternEngineStalled",
              "time() - lectern_engine_heartbeat_timestamp_seconds > $(1m)\n"
              "and on (namespace, pod) lectern_requests_running + lectern_requests_waiting > 0",
              "1m", "page",
              "{{ $labels.pod }}: no model step for {{ $value | humanizeDuration }}, with work"),
        Alert("LecternRestartLoop",
              'changes(process_start_time_seconds{job="lectern"}[30m]) > 2', "", "page",
              "{{ $labels.pod }} started {{ $value }} times within 30 minutes"),
        Alert("LecternQueueSaturated",
              "sum by (namespace) (lectern_requests_waiting)\n"
              "/ sum by (namespace) (lectern_queue_capacity) > 0.8", "5m", "page",
              "{{ $labels.namespace }}: the queue is {{ $value | humanizePercentage }} full"),
        Alert("LecternRejecting",
              ratio('lectern_admission_total{decision="rejected",reason=~"queue_.*|'
                    'kv_exhausted|deadline"}[5m]', "lectern_admission_total[5m]") + " > 0.05",
              "5m", "ticket",
              "{{ $labels.namespace }}: {{ $value | humanizePercentage }} of the requests are refused"
              " for lack of capacity"),
        Alert("LecternSlowReaders",
              "sum by (namespace) (rate(lectern_slow_reader_disconnects_total[15m])) > 0.1", "15m",
              "ticket", "{{ $labels.namespace }}: clients do not read their streams"),
    ]


def resource_alerts():
    return [
        # A full memory is not a fault, and neither is the eviction of old documents; asking for them
        # again is.
        Alert("LecternEvictionPressure",
              "(sum by (namespace, pod) (rate(lectern_document_lookups_total{result=\"evicted\"}[5m]))\n"
              "  + sum by (namespace, pod) (rate(lectern_document_reload_seconds_count[5m])))\n"
              "/ sum by (namespace, pod) (rate(lectern_document_lookups_total[5m])) > 0.05\n"
              "and on (namespace, pod) sum by (namespace, pod) (\n"
              '  increase(lectern_document_evictions_total{tier="host",reason="pressure"}[1h])) > 0',
              "10m", "ticket",
              "{{ $labels.pod }}: {{ $value | humanizePercentage }} of the documents asked for had left"
              " memory"),
        Alert("LecternDiskErrors", "increase(lectern_cache_disk_errors_total[15m]) > 0", "15m",
              "ticket", "{{ $labels.pod }} cannot use its cache folder"),
        Alert("LecternCacheCorrupt",
              'sum by (namespace, pod) (increase(lectern_document_cache_rejected_total{'
              'reason=~"unreadable|truncated|corrupt"}[1h])) > 0',
              "", "ticket", "{{ $labels.pod }}: damaged files in the cache folder"),
        # Until the server is restarted: it does not try its GPU again.
        Alert("LecternCudaErrors",
              "sum by (namespace, pod, code) (lectern_cuda_errors_total) > 0", "", "page",
              "{{ $labels.pod }}: {{ $labels.code }}; its CPU does the work of its GPU"),
        Alert("LecternMemoryGrowth",
              'predict_linear(process_resident_memory_bytes{job="lectern"}[6h], $(24h))\n'
              "> on (namespace, pod) group_left () (lectern_memory_limit_bytes > 0)\n"
              'and on (namespace, pod) time() - process_start_time_seconds{job="lectern"} > $(6h)',
              "1h", "ticket",
              "{{ $labels.pod }}: resident memory meets its limit within a day"),
        Alert("LecternFdExhaustion",
              'process_open_fds{job="lectern"} / process_max_fds{job="lectern"} > 0.8', "10m",
              "ticket",
              "{{ $labels.pod }}: {{ $value | humanizePercentage }} of the file descriptors are open"),
    ]


def security_alerts():
    expiry = "lectern_tls_cert_expiry_timestamp_seconds"   # infinite without TLS
    return [
        Alert("LecternCertificateExpiring", f"{expiry} - time() < $(7d)\nand {expiry} - time() > 0",
              "15m", "ticket",
              "{{ $labels.pod }}: the certificate expires in {{ $value | humanizeDuration }}"),
        Alert("LecternCertificateExpired", f"time() - {expiry} > 0", "1m", "page",
              "{{ $labels.pod }}: the certificate expired {{ $value | humanizeDuration }} ago"),
        Alert("LecternReloadFailing",
              'increase(lectern_tls_reload_total{result="error"}[15m]) > 0\n'
              'or increase(lectern_auth_tokens_reload_total{result="error"}[15m]) > 0',
              "5m", "ticket",
              "{{ $labels.pod }}: a changed file of certificates or tokens was not taken"),
    ]


GROUPS = [("lectern.slo", slo_alerts), ("lectern.service", service_alerts),
          ("lectern.resources", resource_alerts), ("lectern.security", security_alerts)]
SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


class Scale:
    """The length of a minute of the rules."""

    def __init__(self, minute_seconds):
        self.factor = minute_seconds / 60

    def duration(self, text):
        if self.factor == 1:
            return text
        return f"{round(int(text[:-1]) * SECONDS[text[-1]] * self.factor * 1000)}ms"

    def expression(self, text):
        text = re.sub(r"\[(\d+[smhd])\]", lambda m: f"[{self.duration(m[1])}]", text)
        return re.sub(r"\$\((\d+)([smhd])\)",
                      lambda m: f"{int(m[1]) * SECONDS[m[2]] * self.factor:g}", text)


def indented(text):
    return "|-\n" + "\n".join("      " + line for line in text.split("\n"))


def render(scale):
    lines = ["groups:", "- name: lectern.sli", "  rules:"]
    for record, expr in records():
        lines += [f"  - record: {record}", f"    expr: {indented(scale.expression(expr))}"]
    for group, alerts in GROUPS:
        lines += [f"- name: {group}", "  rules:"]
        for alert in alerts():
            lines += [f"  - alert: {alert.name}",
                      f"    expr: {indented(scale.expression(alert.expr))}"]
            if alert.wait:
                lines.append(f"    for: {scale.duration(alert.wait)}")
            labels = ", ".join(filter(None, [f"severity: {alert.severity}", alert.labels]))
            lines += [f"    labels: {{{labels}}}", "    annotations:",
                      f'      summary: "{alert.summary}"',
                      f'      runbook: "docs/guides/alerts.md#{alert.name.lower()}"']
    return "\n".join(lines) + "\n"


def main():
    arguments = sys.argv[1:]
    if not arguments:
        rules = render(Scale(60))
        (HERE / "rules.yml").write_text(NOTICE + rules, encoding="utf-8")
        body = "".join("  " + line + "\n" for line in rules.splitlines())
        PROMETHEUS_RULE.write_text(NOTICE + WRAPPER + body, encoding="utf-8")
        return 0
    minute = re.fullmatch(r"--minute=(\d+)s", arguments[0])
    if len(arguments) != 2 or not minute or minute[1] == "0":
        print(__doc__.strip(), file=sys.stderr)
        return 2
    pathlib.Path(arguments[1]).write_text(render(Scale(int(minute[1]))), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
