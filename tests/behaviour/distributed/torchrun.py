#!/usr/bin/env python3
"""Starts the processes of slim-distributed and of `slim train` by PyTorch's own torchrun: on one machine, by two agents, with restarts, and with an agent that is killed.

`cargo xtask torchrun` runs it with a PyTorch of its own. Each check prints a line; the first that fails ends the script.
"""

import argparse
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from safetensors.torch import load_file

PATIENCE = 200


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def torchrun(*arguments):
    """One agent, in a process group of its own."""
    command = [sys.executable, "-m", "torch.distributed.run", "--no-python", *map(str, arguments)]
    return subprocess.Popen(command, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def ended(agent, code=0):
    """What torchrun said, once it has ended."""
    _, errors = agent.communicate(timeout=PATIENCE)
    assert (agent.returncode == 0) == (code == 0), f"torchrun ended with {agent.returncode}:\n{errors[-3000:]}"
    return errors


def words(folder, rank):
    return (folder / f"{rank}.txt").read_text()


def weights(folder):
    return load_file(folder / "weights.safetensors")


def assert_same(found, expected, tolerance):
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert found[name].shape == tensor.shape, name
        difference = (found[name] - tensor).abs().max().item()
        assert difference <= tolerance * max(1.0, tensor.abs().max().item()), f"{name} differs by {difference}"


def wait_for(files):
    begun = time.monotonic()
    while not all(file.exists() for file in files):
        assert time.monotonic() - begun < PATIENCE, f"{files} do not appear"
        time.sleep(0.02)


class Checks:
    def __init__(self, worker, slim, root):
        self.worker, self.slim, self.root, self.count = worker, slim, root, 0

    def folder(self, **files):
        self.count += 1
        folder = self.root / str(self.count)
        folder.mkdir()
        for name, text in files.items():
            (folder / name).write_text(text)
        return folder

    def alone(self, scenario):
        """The weights of one process, as another launcher starts it."""
        folder = self.folder()
        variables = dict(RANK="0", WORLD_SIZE="1", MASTER_ADDR="127.0.0.1", MASTER_PORT=str(free_port()))
        subprocess.run([self.worker, scenario, folder], env={**os.environ, **variables}, check=True, timeout=PATIENCE)
        return weights(folder)

    def standalone(self):
        for processes in (2, 3):
            folder = self.folder()
            ended(torchrun("--standalone", f"--nproc-per-node={processes}", self.worker, "reducer", folder))
            assert_same(weights(folder), self.alone("reducer"), 1e-12)

    def nodes(self, *arguments):
        port, agents = free_port(), []
        for _ in range(2):
            agents.append(torchrun(
                "--nnodes=2", "--nproc-per-node=1", "--rdzv-backend=c10d", "--rdzv-id=check", f"--rdzv-endpoint=127.0.0.1:{port}", *arguments))
        return agents

    def two_agents(self):
        folder = self.folder()
        for agent in self.nodes(self.worker, "reducer", folder):
            ended(agent)
        assert_same(weights(folder), self.alone("reducer"), 1e-12)

    def restart(self):
        whole = self.folder()
        ended(torchrun("--standalone", "--nproc-per-node=2", self.worker, "restarted", whole))
        for victim in ("0", "1"):
            folder = self.folder(dies=victim)
            ended(torchrun("--standalone", "--nproc-per-node=2", "--max-restarts=1", self.worker, "restarted", folder))
            assert words(folder, 0) == "from step 3", words(folder, 0)
            assert (folder / "weights.safetensors").read_bytes() == (whole / "weights.safetensors").read_bytes()

    def restart_on_two_nodes(self):
        whole = self.folder()
        ended(torchrun("--standalone", "--nproc-per-node=2", self.worker, "restarted", whole))
        folder = self.folder(dies="1")
        for agent in self.nodes("--max-restarts=2", self.worker, "restarted", folder):
            ended(agent)
        assert words(folder, 0) == "from step 3", words(folder, 0)
        assert (folder / "weights.safetensors").read_bytes() == (whole / "weights.safetensors").read_bytes()

    def killed_node(self):
        """A machine that is gone, with its agent and its process: the other process gets an error."""
        folder = self.folder()
        agents = self.nodes(self.worker, "killed", folder)
        wait_for([folder / "0.begun", folder / "1.begun"])
        # torchrun starts each process in a session of its own.
        children = subprocess.run(["pgrep", "-P", str(agents[1].pid)], capture_output=True, text=True, check=True)
        for process in [agents[1].pid, *map(int, children.stdout.split())]:
            os.kill(process, signal.SIGKILL)
        ended(agents[0], code=1)
        left = [words(folder, rank) for rank in (0, 1) if (folder / f"{rank}.txt").exists()]
        assert len(left) == 1 and "cannot average gradients" in left[0], left

    def slim_train(self):
        """A worker of `slim train` is killed in its second epoch, and all go on from the checkpoint of the first."""
        arguments = ["train", "-sr", "--s", "5e-3", "--dataset", "digits", "--cfg", "[8,'M',16,'M',16]", "--epochs", "3"]
        arguments += ["--threads", "1", "--no-cuda", "--save"]
        whole = self.folder()
        ended(torchrun("--standalone", "--nproc-per-node=2", "--", self.slim, *arguments, whole))
        # With and without a name for the job.
        for launch in (["--standalone"], [f"--master-port={free_port()}"]):
            folder = self.folder()
            agent = torchrun(*launch, "--nproc-per-node=2", "--max-restarts=1", "--", self.slim, *arguments, folder)
            wait_for([folder / "checkpoint.safetensors"])
            children = subprocess.run(["pgrep", "-P", str(agent.pid), "slim"], capture_output=True, text=True, check=True)
            os.kill(int(children.stdout.split()[1]), signal.SIGKILL)
            assert "exitcode: -9" in ended(agent)
            assert len((folder / "metrics.jsonl").read_text().splitlines()) == 3
            assert_same(*(load_file(each / "checkpoint.safetensors") for each in (folder, whole)), 0)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", help="the name of one check")
    parser.add_argument("--worker", required=True, type=Path, help="the program `worker` of slim-tests")
    parser.add_argument("--slim", required=True, type=Path, help="the program `slim`")
    options = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    root = Path(tempfile.mkdtemp())
    checks = Checks(options.worker.resolve(), options.slim.resolve(), root)
    print(f"torchrun of PyTorch {torch.__version__}")
    try:
        for check in (checks.standalone, checks.two_agents, checks.restart, checks.restart_on_two_nodes, checks.killed_node, checks.slim_train):
            if options.only not in (None, check.__name__):
                continue
            begun = time.monotonic()
            check()
            print(f"ok  {check.__name__.replace('_', ' '):24} {time.monotonic() - begun:5.1f} s", flush=True)
    finally:
        shutil.rmtree(root, ignore_errors=True)


if __name__ == "__main__":
    main()
