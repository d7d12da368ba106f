"""Writes the Go stubs of `protos/lepton/v1` to `clients/go/leptonv1`; with `--check`, fails when others are there.

The two plugins are Go tools, pinned in tools/go.mod; Go builds them once into its own cache.
"""

from __future__ import annotations

import argparse
import filecmp
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
MODULE = "github.com/lepton/lepton/clients/go"
STUBS = ROOT / "clients" / "go" / "leptonv1"
PROTOS = sorted((ROOT / "protos" / "lepton" / "v1").glob("*.proto"))
PLUGINS = (
    "google.golang.org/protobuf/cmd/protoc-gen-go",
    "google.golang.org/grpc/cmd/protoc-gen-go-grpc",
)


def main() -> int:
    """Generates into a temporary folder, then copies or compares; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing")
    check = parser.parse_args().check
    with tempfile.TemporaryDirectory() as folder:
        fresh = _generate(Path(folder))
        stale = _differences(fresh)
        if not check:
            for name in stale:
                if (fresh / name).exists():
                    shutil.copyfile(fresh / name, STUBS / name)
                else:
                    (STUBS / name).unlink()
            return 0
    if stale:
        sys.stderr.write("clients/go/leptonv1 is not in step with protos/; run `make protos-go`:\n")
        sys.stderr.writelines(f"  {name}\n" for name in stale)
        return 1
    return 0


def _generate(folder: Path) -> Path:
    """Returns where the stubs are."""
    plugins = folder / "bin"
    plugins.mkdir()
    build = ["go", "build", "-o", f"{plugins}/", *PLUGINS]
    subprocess.run(build, cwd=ROOT / "tools", check=True)
    command = [
        sys.executable,
        "-m",
        "grpc_tools.protoc",
        f"-I{ROOT / 'protos'}",
        *(f"--plugin={plugin}" for plugin in sorted(plugins.iterdir())),
        *(f"--{kind}_out={folder}" for kind in ("go", "go-grpc")),
        *(f"--{kind}_opt=module={MODULE}" for kind in ("go", "go-grpc")),
        *map(str, PROTOS),
    ]
    subprocess.run(command, check=True)
    return folder / STUBS.name


def _differences(fresh: Path) -> list[str]:
    STUBS.mkdir(parents=True, exist_ok=True)
    names = {path.name for folder in (fresh, STUBS) for path in folder.glob("*.pb.go")}
    return sorted(
        name
        for name in names
        if not (fresh / name).exists()
        or not (STUBS / name).exists()
        or not filecmp.cmp(fresh / name, STUBS / name, shallow=False)
    )


if __name__ == "__main__":
    raise SystemExit(main())
