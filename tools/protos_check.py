"""Fails when `common/gen` is not what `make protos` would write."""

from __future__ import annotations

import filecmp
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
GENERATED = ROOT / "common" / "gen"
LEPTON = ROOT / "protos" / "lepton"
SERVICES = sorted((LEPTON / "v1").glob("*.proto"))
WIRE_ONLY = sorted([*(LEPTON / "etcd").rglob("*.proto"), *(LEPTON / "kserve").rglob("*.proto")])


def main() -> int:
    """Generates into a temporary folder and compares; returns the exit code."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        _generate(SERVICES, out, with_stubs=True)
        _generate(WIRE_ONLY, out, with_stubs=False)
        fresh = {p.relative_to(out) for p in out.rglob("*_pb2*.py*")}
        checked_in = {p.relative_to(GENERATED) for p in GENERATED.rglob("*_pb2*.py*")}
        checked_in = {p for p in checked_in if "__pycache__" not in p.parts}
        stale = sorted(
            str(p)
            for p in fresh | checked_in
            if p not in fresh
            or p not in checked_in
            or not filecmp.cmp(out / p, GENERATED / p, shallow=False)
        )
    if stale:
        sys.stderr.write("common/gen is not in step with protos/; run `make protos`:\n")
        sys.stderr.writelines(f"  {name}\n" for name in stale)
        return 1
    sys.stdout.write(f"common/gen is in step with protos/ ({len(fresh)} files)\n")
    return 0


def _generate(protos: list[Path], out: Path, *, with_stubs: bool) -> None:
    command = [
        sys.executable,
        "-m",
        "grpc_tools.protoc",
        f"-I{ROOT / 'protos'}",
        f"--python_out={out}",
        f"--pyi_out={out}",
        *([f"--grpc_python_out={out}"] if with_stubs else []),
        *map(str, protos),
    ]
    subprocess.run(command, check=True)


if __name__ == "__main__":
    raise SystemExit(main())
