#!/usr/bin/env python3
"""Writes the Grafana dashboard of Lectern, lectern.json of deploy/kubernetes/components/monitoring.

    deploy/grafana/make_dashboard.py

Rows hold panels, panels hold PromQL. A test fails when the file differs, when an expression does not
parse, and when it names a metric that the server does not have.
"""
import dataclasses
import json
import pathlib

OUTPUT = (pathlib.Path(__file__).resolve().parent.parent / "kubernetes" / "components" / "monitoring" /
          "lectern.json")
DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
SPACE = 'namespace="$namespace"'
POD = SPACE + ',pod=~"$pod"'
RATE = "$__rate_interval"
FIRST_TEXT = "lectern_time_to_first_token_seconds"
CALLS = "grpc_server_call_duration_seconds_count"
COLUMNS = 3


@dataclasses.dataclass
class Panel:
    title: str
    unit: str                  # Grafana's name of it
    queries: list              # (expression, legend)
    kind: str = "timeseries"


def gauge(metric, by="", legend=""):
    return f"sum{f' by ({by})' if by else ''} ({metric}{{{POD}}})", legend or f"{{{{{by}}}}}"


def rate(metric, by="", legend="", more=""):
    labels = POD + ("," + more if more else "")
    return (f"sum{f' by ({by})' if by else ''} (rate({metric}{{{labels}}}[{RATE}]))",
            legend or f"{{{{{by}}}}}")


def quantile(q, metric, by="", legend=""):
    groups = "le" + (", " + by if by else "")
    return (f"histogram_quantile({q}, sum by ({groups}) (rate({metric}_bucket{{{POD}}}[{RATE}])))",
            legend or (f"{{{{{by}}}}}" if by else f"p{round(q * 100)}"))


def quantiles(metric, *qs):
    return [quantile(q, metric) for q in qs or (0.5, 0.95, 0.99)]


def share(over, under, legend):
    return (f"sum (rate({over}[{RATE}])) / sum (rate({under}[{RATE}]))", legend)


OBJECTIVES = [
    Panel("Good calls, 30 days (objective 99.5 %)", "percentunit", [
        (f'1 - (sum (increase({CALLS}{{{SPACE},grpc_method=~"lectern[.]v1[.].+",grpc_status=~"UNKNOWN|'
         f'DEADLINE_EXCEEDED|ABORTED|INTERNAL|UNAVAILABLE|DATA_LOSS"}}[30d])) or vector(0))'
         f' / sum (increase({CALLS}{{{SPACE},grpc_method=~"lectern[.]v1[.].+",'
         'grpc_status!="CANCELLED"}[30d]))', "good")], "stat"),
    Panel("First text within 5 s, 30 days (objective 95 %)", "percentunit", [
        (f'sum (increase({FIRST_TEXT}_bucket{{{SPACE},le="5"}}[30d]))'
         f" / sum (increase({FIRST_TEXT}_count{{{SPACE}}}[30d]))", "in time")], "stat"),
    Panel("Alerts", "short", [(f'ALERTS{{{SPACE}}}', "{{alertname}} {{alertstate}}")]),
    Panel("Failed calls / budget (1 is on budget)", "short", [
        (f"lectern:errors:ratio_rate{w}{{{SPACE}}} / 0.005", w) for w in ("5m", "1h", "6h")]),
    Panel("Slow first texts / budget (1 is on budget)", "short", [
        (f"lectern:slow_first_text:ratio_rate{w}{{{SPACE}}} / 0.05", w)
        for w in ("5m", "1h", "6h")]),
    Panel("Calls by status", "reqps", [
        rate(CALLS, "grpc_status", more='grpc_method=~"lectern[.]v1[.].+"')]),
]
LATENCY = [
    Panel("First text", "s", quantiles(FIRST_TEXT)),
    Panel("Between two tokens", "s", quantiles("lectern_inter_token_latency_seconds")),
    Panel("A whole answer", "s", quantiles("lectern_request_duration_seconds")),
    Panel("First text, heat map", "s", [
        (f"sum by (le) (increase({FIRST_TEXT}_bucket{{{POD}}}[{RATE}]))", "{{le}}")], "heatmap"),
    Panel("First text by prompt length, p95", "s", [quantile(0.95, FIRST_TEXT, "prompt_class")]),
    Panel("Parts of an answer, p95", "s", [
        quantile(0.95, f"lectern_request_{part}_seconds", legend=part)
        for part in ("queue", "prefill", "decode")]),
]
LOAD = [
    Panel("Running, waiting, room", "short", [
        gauge("lectern_requests_running", legend="running"),
        gauge("lectern_requests_waiting", legend="waiting"),
        gauge("lectern_queue_capacity", legend="may wait")]),
    Panel("Waiting by pod", "short", [gauge("lectern_requests_waiting", "pod")]),
    Panel("Tokens to be read", "short", [
        gauge("lectern_prefill_tokens_waiting", legend="waiting"),
        gauge("lectern_prefill_tokens_running", legend="running")]),
    Panel("Refused by reason", "reqps", [
        rate("lectern_admission_total", "reason", more='decision="rejected"')]),
    Panel("Questions ended, by reason", "reqps", [
        rate("lectern_requests_finished_total", "finish_reason")]),
    Panel("Tokens a second", "short", [
        rate("lectern_prefill_tokens_total", "source", "read: {{source}}"),
        rate("lectern_generation_tokens_total", legend="generated")]),
    Panel("Length of prompts, tokens", "short", quantiles("lectern_request_prompt_tokens")),
    Panel("Cancelled and too late, by stage", "reqps", [
        rate("lectern_requests_cancelled_total", "stage", "cancelled: {{stage}}"),
        rate("lectern_deadline_exceeded_total", "stage", "too late: {{stage}}")]),
]
ENGINE = [
    Panel("Key/value memory in use", "percentunit", [
        (f"lectern_kv_cache_usage_ratio{{{POD}}}", "{{pod}}")]),
    Panel("Prompt tokens that a document had ready", "percentunit", [
        share(f"lectern_prefix_cache_hit_tokens_total{{{POD}}}",
              f"lectern_prefix_cache_query_tokens_total{{{POD}}}", "ready")]),
    Panel("Sequences and tokens of a step, mean", "short", [
        share(f"lectern_engine_batch_size_sum{{{POD}}}", f"lectern_engine_batch_size_count{{{POD}}}",
              "sequences"),
        share(f"lectern_engine_batch_tokens_sum{{{POD}}}",
              f"lectern_engine_batch_tokens_count{{{POD}}}", "tokens")]),
    Panel("A step, p95", "s", [quantile(0.95, "lectern_engine_step_seconds", "phase")]),
    Panel("Steps a second", "ops", [rate("lectern_engine_steps_total", "pod")]),
    Panel("Age of the engine's last sign of life", "s", [
        (f"time() - lectern_engine_heartbeat_timestamp_seconds{{{POD}}}", "{{pod}}")]),
]
EXACTNESS = [
    Panel("Softmax mass of the kept keys", "percentunit",
          quantiles("lectern_attention_mass_captured_ratio", 0.05, 0.5)),
    Panel("Share of the keys that were kept", "percentunit",
          quantiles("lectern_attention_selected_ratio", 0.5, 0.95)),
]
DOCUMENTS = [
    Panel("Reading a document", "s", quantiles("lectern_document_ingest_seconds")),
    Panel("Size of documents", "bytes", quantiles("lectern_document_bytes")),
    Panel("Bytes by tier", "bytes", [gauge("lectern_document_cache_bytes", "tier")]),
    Panel("Documents by tier", "short", [gauge("lectern_documents_resident", "tier")]),
    Panel("Look-ups by result", "ops", [rate("lectern_document_lookups_total", "result")]),
    Panel("Evicted", "ops", [
        rate("lectern_document_evictions_total", "tier, reason", "{{tier}}: {{reason}}")]),
    Panel("Taken back from disk", "s", quantiles("lectern_document_reload_seconds", 0.5, 0.95)),
    Panel("Disk: usable, errors, files not believed", "short", [
        gauge("lectern_document_cache_available", legend="usable"),
        rate("lectern_cache_disk_errors_total", legend="errors a second"),
        rate("lectern_document_cache_rejected_total", "reason", "not believed: {{reason}}")]),
]
STREAMS = [
    Panel("Calls by method", "reqps", [rate("grpc_server_call_started_total", "grpc_method")]),
    Panel("Open streams, buffered events", "short", [
        gauge("lectern_streams_open", legend="streams"),
        gauge("lectern_stream_buffered_chunks", legend="events")]),
    Panel("Bytes a second", "Bps", [
        rate("grpc_server_call_rcvd_total_compressed_message_size_bytes_sum", legend="received"),
        rate("grpc_server_call_sent_total_compressed_message_size_bytes_sum", legend="sent")]),
    Panel("Streams ended for slow readers", "ops", [
        rate("lectern_slow_reader_disconnects_total", "pod")]),
    Panel("From cancel to free", "s", quantiles("lectern_cancel_to_free_seconds")),
]
PROCESS = [
    Panel("Resident memory", "bytes", [
        (f"process_resident_memory_bytes{{{POD}}}", "{{pod}}"),
        (f"max (lectern_memory_limit_bytes{{{POD}}})", "limit"),
        (f"max (lectern_kv_cache_capacity_bytes{{{POD}}})", "of it for keys and values")]),
    Panel("CPUs in use", "short", [rate("process_cpu_seconds_total", "pod")]),
    Panel("Open files, threads", "short", [
        gauge("process_open_fds", "pod", "files {{pod}}"),
        gauge("process_threads", "pod", "threads {{pod}}")]),
    Panel("Ready and draining", "short", [
        gauge("lectern_ready", legend="ready"), gauge("lectern_draining", legend="draining")]),
    Panel("Age of the process", "s", [(f"time() - process_start_time_seconds{{{POD}}}", "{{pod}}")]),
    Panel("Builds and models", "none", [
        (f"lectern_build_info{{{POD}}}", ""), (f"lectern_model_info{{{POD}}}", "")], "table"),
    Panel("Loading a model", "s", [gauge("lectern_model_load_seconds", "pod, phase",
                                         "{{pod}} {{phase}}")]),
]
SECURITY = [
    Panel("Until the certificate expires", "s", [
        (f"lectern_tls_cert_expiry_timestamp_seconds{{{POD}}} - time()", "{{pod}}")]),
    Panel("Changed certificates and tokens", "ops", [
        rate("lectern_tls_reload_total", "result", "certificates: {{result}}"),
        rate("lectern_auth_tokens_reload_total", "result", "tokens: {{result}}")]),
]
ROWS = [("Objectives", OBJECTIVES), ("Latency", LATENCY), ("Load and admission", LOAD),
        ("Engine", ENGINE), ("How exact", EXACTNESS), ("Documents", DOCUMENTS),
        ("Calls and streams", STREAMS), ("Process", PROCESS), ("Security", SECURITY)]


def panel_json(number, panel, x, y):
    targets = [{"refId": chr(ord("A") + i), "expr": expr, "legendFormat": legend,
                "datasource": DATASOURCE} for i, (expr, legend) in enumerate(panel.queries)]
    if panel.kind == "table":
        targets = [{**target, "format": "table", "instant": True} for target in targets]
    return {"id": number, "type": panel.kind, "title": panel.title, "datasource": DATASOURCE,
            "gridPos": {"h": 8, "w": 24 // COLUMNS, "x": x, "y": y},
            "fieldConfig": {"defaults": {"unit": panel.unit}, "overrides": []},
            "options": {}, "targets": targets}


def panels():
    out, y = [], 0
    for title, row in ROWS:
        out.append({"id": len(out) + 1, "type": "row", "title": title, "collapsed": False,
                    "gridPos": {"h": 1, "w": 24, "x": 0, "y": y}, "panels": []})
        for i, panel in enumerate(row):
            out.append(panel_json(len(out) + 1, panel, 24 // COLUMNS * (i % COLUMNS),
                                  y + 1 + 8 * (i // COLUMNS)))
        y += 1 + 8 * -(-len(row) // COLUMNS)
    return out


def variable(name, query, **more):
    return {"name": name, "type": "query", "datasource": DATASOURCE, "query": query, "refresh": 2, **more}


def dashboard():
    return {
        "uid": "lectern", "title": "Lectern", "tags": ["lectern", "grpc"], "schemaVersion": 39,
        "version": 1, "editable": True, "refresh": "30s", "timezone": "utc", "graphTooltip": 1,
        "time": {"from": "now-3h", "to": "now"},
        "panels": panels(),
        "templating": {"list": [
            {"name": "datasource", "type": "datasource", "query": "prometheus"},
            variable("namespace", "label_values(lectern_build_info, namespace)"),
            variable("pod", f"label_values(lectern_build_info{{{SPACE}}}, pod)", multi=True,
                     includeAll=True, allValue=".*"),
        ]},
    }


def expressions(namespace, pod, interval):
    """[(panel's title, expression, legend)] with the variables replaced."""
    out = []
    for title, panel in ((p.title, p) for _, row in ROWS for p in row):
        for expr, legend in panel.queries:
            for variable_name, value in [("$namespace", namespace), ("$pod", pod), (RATE, interval)]:
                expr = expr.replace(variable_name, value)
            out.append((title, expr, legend))
    return out


if __name__ == "__main__":
    OUTPUT.write_text(json.dumps(dashboard(), indent=1) + "\n", encoding="utf-8")
