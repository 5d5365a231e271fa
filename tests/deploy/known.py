"""The server's metrics (docs/reference/metrics.md, which server_metrics_test compares with the server) and its
flags (--help)."""

import re
import subprocess

OURS = re.compile(r"\b((?:lectern|grpc_server|process)_[a-z0-9_]+)\b(?!:)")
PART = re.compile(r"_(bucket|sum|count)$")


def metric_names(source):
    text = (source / "docs" / "reference" / "metrics.md").read_text(encoding="utf-8")
    return set(re.findall(r"^\| `(\w+)` \|", text, re.M))


def metrics_of(text):
    """The server's metrics that a text names; histograms without _bucket, _sum, _count."""
    return {PART.sub("", name) for name in OURS.findall(text)}


def help_text(server):
    return subprocess.run([server, "--help"], check=True, capture_output=True, text=True).stdout


def flag_defaults(server):
    return dict(re.findall(r"^  --(\w+)\S*\n      .*\[([^]]*)\]$", help_text(server), re.M))
