"""Several runs of train.py one after the other in the processes of one torchrun, which starts once.

torchrun --standalone --nproc_per_node=2 tests/two_ranks.py RUNS.json     (a list of lists of arguments)
TRITON_INTERPRET=1 torchrun ...       with Liger's operations, which Triton's interpreter then runs on a CPU

Each process writes what its runs did, summed up, beside RUNS.json: watched_rank0.json, watched_rank1.json.
"""

import contextlib
import json
import os
import sys
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch

import train
from tests.operations import interpreted_liger
from tests.watched import watched_trainer

if __name__ == "__main__":
    torch.set_num_threads(1)
    runs, seen = Path(sys.argv[1]), Counter()
    train.CommentaryTrainer = watched_trainer(seen)
    with interpreted_liger(seen) if os.environ.get("TRITON_INTERPRET") else contextlib.nullcontext():
        for arguments in json.loads(runs.read_text()):
            sys.argv = ["train.py", *arguments]
            train.main()
    runs.with_name(f"watched_rank{os.environ['RANK']}.json").write_text(json.dumps(seen))
