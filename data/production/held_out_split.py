"""Holds out whole channels: what a model is tested on comes from nobody whom it was trained on.

    python -m data.production.held_out_split clips.jsonl marked.jsonl --share 0.01
    python -m data.production.to_conversation marked.jsonl train.jsonl        # and train_held_out.jsonl

A channel is held out when the hash of its name falls below the share; so the choice never changes as data are added. A
video without a channel counts as a channel of its own. Held-out records go on beside the others, with their split; as
samples, which have none, they get a file of their own: NAME_held_out_with_seeks.jsonl of a run, OUT_held_out.jsonl of a
command. CPU.
"""

import hashlib
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

if not __package__:  # run as a file: import from the repository's root
    sys.path[0] = str(Path(__file__).resolve().parents[2])

from data.production.record import Record
from data.production.stage import Stage


@dataclass
class SplitOptions:
    """How much is held out."""

    share: float = field(default=0.01, metadata={"help": "share of the channels", "le": 1})
    salt: str = field(default="", metadata={"help": "another text draws other channels"})


class HeldOutSplit(Stage):
    """See the module."""

    name, version, Options = "held_out_split", 1, SplitOptions

    def expand(self, record: Record) -> Iterable[Record]:
        """Mark the record, or leave it as it is."""
        owner = record.channel or record.id.partition("#")[0]
        digest = hashlib.sha256(f"{self.options.salt}\n{owner}".encode()).digest()
        if int.from_bytes(digest[:8], "big") < self.options.share * 2**64:
            record.split = "held_out"
        return [record]


STAGE = HeldOutSplit

if __name__ == "__main__":
    from data.production.command import run_stage

    run_stage(STAGE)
