"""Several runs of train.py one after the other in the processes of one torchrun, which starts once.

torchrun --standalone --nproc_per_node=2 tests/two_ranks.py RUNS.json     (a list of lists of arguments)
"""

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch

import train

if __name__ == "__main__":
    torch.set_num_threads(1)
    for arguments in json.loads(Path(sys.argv[1]).read_text()):
        sys.argv = ["train.py", *arguments]
        train.main()
