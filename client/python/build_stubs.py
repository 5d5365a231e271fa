"""Generates the protobuf and gRPC code of lectern/v1 as lectern_client._proto when the wheel is built, and
adds the service config of the C++ client. Neither has a copy in client/python."""
import pathlib
import re
import shutil
import tempfile

from grpc_tools import protoc
from hatchling.builders.hooks.plugin.interface import BuildHookInterface

PACKAGE = "lectern_client/_proto"


def find_source(root: pathlib.Path, in_sdist: str, in_repository: str) -> pathlib.Path:
    for path in (root / in_sdist, root / in_repository):
        if path.exists():
            return path
    raise FileNotFoundError(f"neither {in_sdist} nor {in_repository} below {root}")


def generate(protos: pathlib.Path, out: pathlib.Path) -> None:
    files = sorted(str(path) for path in protos.glob("lectern/v1/*.proto"))
    well_known = pathlib.Path(protoc.__file__).parent / "_proto"
    arguments = ["protoc", f"-I{protos}", f"-I{well_known}", f"--python_out={out}",
                 f"--pyi_out={out}", f"--grpc_python_out={out}", *files]
    if not files or protoc.main(arguments) != 0:
        raise RuntimeError(f"protoc failed on {protos}")
    module = PACKAGE.replace("/", ".")
    for path in out.rglob("*.py*"):
        text = path.read_text(encoding="utf-8")
        path.write_text(re.sub(r"^from lectern\.v1 import", f"from {module}.lectern.v1 import", text,
                               flags=re.M), encoding="utf-8")
    for folder in (out, out / "lectern", out / "lectern/v1"):
        (folder / "__init__.py").touch()


class StubsHook(BuildHookInterface):
    def initialize(self, version, build_data):
        root = pathlib.Path(self.root)
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="lectern_client_"))
        generate(find_source(root, "proto", "../../proto"), self.folder)
        shutil.copy(find_source(root, "service_config.json", "../cpp/service_config.json"), self.folder)
        for path in sorted(self.folder.rglob("*")):
            if path.is_file():
                build_data["force_include"][str(path)] = (
                    f"{PACKAGE}/{path.relative_to(self.folder).as_posix()}")

    def finalize(self, version, build_data, artifact_path):
        shutil.rmtree(self.folder)
