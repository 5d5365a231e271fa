"""Virtual environments of the peers, next to the other dependencies; installed on first use."""

import os
import pathlib
import subprocess
import sys


def dependencies_folder():
    if "LECTERN_DEPS_DIR" in os.environ:
        return pathlib.Path(os.environ["LECTERN_DEPS_DIR"])
    cache = os.environ.get("XDG_CACHE_HOME", os.path.expanduser("~/.cache"))
    return pathlib.Path(cache) / "lectern"


def python_with(name, modules, pip_arguments, log, variables=None):
    """The interpreter of the environment `name`; what pip installs must bring the modules."""
    folder = dependencies_folder() / name / "venv"
    python = folder / "bin" / "python"
    probe = [str(python), "-c", "import " + ", ".join(modules)]
    if python.exists() and subprocess.run(probe, capture_output=True).returncode == 0:
        return str(python)
    print(f"installing {', '.join(modules)} into {folder} ...", file=log, flush=True)
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    subprocess.run([str(python), "-m", "pip", "install", "-q", *pip_arguments], check=True,
                   env=dict(os.environ, **(variables or {})), stdout=log)
    return str(python)


def transformers_python(log):
    """PyTorch and transformers: several gigabytes."""
    return python_with("train", ["torch", "transformers", "tokenizers", "safetensors", "numpy"],
                       ["torch==2.11.0", "transformers==5.23.0", "tokenizers==0.23.3",
                        "safetensors==0.8.0", "numpy"], log)
