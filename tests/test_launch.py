"""Training on several nodes: what the launchers would run, and two "nodes" of this machine that meet and train."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.training import ROOT, environment, losses, make_annotations


def dry_run(script: str, *words: str, **settings: object) -> subprocess.CompletedProcess:
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    command = ["bash", f"scripts/{script}.sh", "--dry-run", *words]
    variables = {**kept, **{name: str(value) for name, value in settings.items()}}
    return subprocess.run(command, cwd=ROOT, env=variables, capture_output=True, text=True)


def words_after(line: str, flag: str) -> str:
    words = line.split()
    return words[words.index(flag) + 1]


@pytest.mark.parametrize("stage", ["pt", "sft"])
def test_two_nodes_of_eight_share_the_published_batch(stage):
    said = dry_run("launch_torchrun", stage, "--max_steps", "7", NNODES=2, RDZV_ENDPOINT="node-a:29500")
    lines = said.stdout.splitlines()
    assert lines[0].startswith("# node 0 of 2") and lines[2].startswith("# node 1 of 2") and len(lines) == 4
    assert lines[1] == lines[3]  # the rendezvous gives the ranks, so every node is started alike
    launch = "--nnodes=2 --rdzv_backend=c10d --rdzv_endpoint=node-a:29500 --rdzv_id=livecc --nproc_per_node=8 train.py"
    assert launch in lines[1] and "--standalone" not in lines[1] and "VIDEO_MIN_PIXELS=78400 " in lines[1]
    assert words_after(lines[1], "--gradient_accumulation_steps") == "32"
    assert lines[1].endswith("--max_steps 7 ")


def test_the_nodes_run_the_single_nodes_flags():
    """Apart from the launch and the accumulation, what scripts/pt_local.sh gives on one node."""
    node = dry_run("launch_torchrun", "pt", NNODES=2, RDZV_ENDPOINT="a:1").stdout.splitlines()[1]
    variables = {**environment(DRY_RUN=1), **{name: "" for name in ("VIDEO_MIN_PIXELS", "VIDEO_MAX_PIXELS")}}
    alone = subprocess.run(
        ["bash", "scripts/pt_local.sh"], cwd=ROOT, env=variables, capture_output=True, text=True, check=True
    ).stdout
    after = [text.split(" train.py ")[1].split() for text in (node, alone)]
    differing = [(a, b) for a, b in zip(*after, strict=True) if a != b]
    assert differing == [("32", "64")]


@pytest.mark.parametrize(
    ("words", "settings", "message"),
    [
        (["pt"], {}, "NNODES=: set it"),
        (["pt"], {"NNODES": 2}, "RDZV_ENDPOINT=: set it"),
        (["pt"], {"NNODES": 2, "RDZV_ENDPOINT": "node-a"}, "host:port"),
        (["pt"], {"NNODES": 3, "RDZV_ENDPOINT": "node-a:1"}, "do not divide the batch of 512"),
        (["train"], {"NNODES": 2, "RDZV_ENDPOINT": "node-a:1"}, "give pt or sft"),
    ],
)
def test_impossible_launches_are_refused(words, settings, message):
    said = dry_run("launch_torchrun", *words, **settings)
    assert said.returncode == 2 and message in said.stderr and said.stdout == ""


def test_slurm_meets_at_the_jobs_first_node(tmp_path):
    """Inside a job, with stand-ins for Slurm's commands: srun shows what it would start on every node."""
    stand_in(tmp_path / "scontrol", "printf 'node-7\\nnode-9\\n'")
    stand_in(tmp_path / "srun", 'while [[ "$1" == --* ]]; do shift; done; DRY_RUN=1 exec "$@"')
    job = {"SLURM_JOB_NODELIST": "node-[7,9]", "SLURM_JOB_NUM_NODES": 2, "SLURM_JOB_ID": 42, "SLURM_GPUS_ON_NODE": 4}
    variables = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "SLURM_SUBMIT_DIR": ROOT, **job}
    copied = tmp_path / "slurm_script"  # Slurm runs a copy
    copied.write_bytes((ROOT / "scripts/launch_slurm.sh").read_bytes())
    said = subprocess.run(
        ["bash", str(copied), "sft", "--max_steps", "7"], cwd=ROOT, capture_output=True, text=True,
        env={name: str(value) for name, value in variables.items()}, check=True,
    ).stdout  # fmt: skip
    assert "--nnodes=2 --rdzv_backend=c10d --rdzv_endpoint=node-7:29500 --rdzv_id=livecc-42 --nproc_per_node=4" in said
    assert words_after(said, "--gradient_accumulation_steps") == "64"
    assert said.endswith("--save_on_each_node False --max_steps 7 \n")  # later flags win


def stand_in(path: Path, body: str) -> None:
    path.write_text(f"#!/usr/bin/env bash\n{body}\n")
    path.chmod(0o755)


def test_slurm_dry_run_needs_no_job():
    said = dry_run("launch_slurm", "pt", NNODES=2, NPROC=8)
    assert said.stdout.count("--rdzv_endpoint=node-0:29500") == 2
    outside = subprocess.run(["bash", "scripts/launch_slurm.sh", "pt"], cwd=ROOT, capture_output=True, text=True)
    assert outside.returncode == 2 and "not in a Slurm job" in outside.stderr


def test_two_nodes_meet_and_train(tiny_checkpoint, tmp_path):
    """Two torchruns on this machine, one process each, at one rendezvous; each with an OUTPUT of its own."""
    data = make_annotations(tmp_path, n_samples=8)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        endpoint = f"127.0.0.1:{free.getsockname()[1]}"
    settings = {"NNODES": 2, "NPROC": 1, "RDZV_ENDPOINT": endpoint, "LOCAL_ADDR": "127.0.0.1", "RDZV_ID": tmp_path.name}
    settings |= {"MODEL": tiny_checkpoint, "DATA": data, "DEEPSPEED": "", "WORKERS": 0, "ACCUMULATION": 1}
    settings |= {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    flags = ["--max_steps", "2", "--logging_steps", "1", "--save_steps", "2", "--report_to", "none", "--bf16", "False"]
    command = ["bash", "scripts/launch_torchrun.sh", "pt", "--use_cpu", "True", *flags]
    nodes = [
        subprocess.Popen(
            command, cwd=ROOT, env=environment(**settings, OUTPUT=tmp_path / f"node{i}"), text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )
        for i in range(2)
    ]  # fmt: skip
    try:
        # A launcher whose peer has gone first waits up to 300 s for it before it ends.
        said = [node.communicate(timeout=400)[0] for node in nodes]
    finally:
        for node in nodes:
            node.kill()
    assert [node.returncode for node in nodes] == [0, 0], said[0][-3000:] + said[1][-3000:]
    logged = [path for path in (tmp_path / "node0", tmp_path / "node1") if (path / "train_log.jsonl").exists()]
    assert len(logged) == 1 and [step for step, *_ in losses(logged[0])] == [1, 2]
    assert '"processes": 2' in (logged[0] / "train_summary.json").read_text()
    # --save_on_each_node: a complete checkpoint with its own rank's place in the data on each.
    ranks = {path.name for node in range(2) for path in (tmp_path / f"node{node}/checkpoint-2").glob("data_state_*")}
    assert ranks == {"data_state_rank0.json", "data_state_rank1.json"}
    weights = [
        (tmp_path / f"node{i}/{at}model.safetensors").read_bytes() for i in range(2) for at in ("", "checkpoint-2/")
    ]
    assert len(set(weights)) == 1
