"""Merge LoRA adapters into the checkpoint they were trained on: a folder that loads like any other.

    python scripts/merge_lora.py BASE ADAPTER OUT
    python scripts/merge_lora.py chenjoya/LiveCC-7B-Base checkpoints/mine checkpoints/mine_merged

BASE: folder or hub id that the run started from; ADAPTER: its --output_dir or a checkpoint-N folder; OUT: new folder
that plain transformers and every command here load (vLLM too: `vllm serve OUT`; that was never run). Hardware: a CPU
with 4 bytes of memory for each weight (34 GB for 7B). Time: that of reading and writing the weights. QLoRA adapters are
merged into the unquantised weights: the merged model differs from the trained one by the quantisation error.
"""

import sys
from pathlib import Path

if not __package__:  # run as a file: import from the repository's root
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from dataclasses import dataclass
from typing import Literal

from models.training.lora import merge
from utils.arguments import CommandParser, CommonArguments, helped
from utils.errors import UserError, run_command


@dataclass
class MergeArguments:
    """How the result is written."""

    dtype: Literal["float32", "bfloat16", "float16"] | None = helped(
        None, "of the merged weights; default: that of the base's"
    )
    overwrite: bool = helped(False, "write into OUT although there is something in it")


def _parse(argv: list[str] | None) -> tuple[MergeArguments, Path | str, Path, Path]:
    """The flags, and BASE, ADAPTER and OUT."""
    parser = CommandParser((MergeArguments, CommonArguments), description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("base", metavar="BASE", help="folder or hub id of the checkpoint that was trained")
    parser.add_argument("adapter", metavar="ADAPTER", help="folder of the adapters")
    parser.add_argument("out", metavar="OUT", help="folder to write")
    arguments, _, rest = parser.parse_args_into_dataclasses(args=argv)
    return arguments, rest.base, Path(rest.adapter), Path(rest.out)


def main(argv: list[str] | None = None) -> None:
    """Run the command."""
    arguments, base, adapter, out = _parse(argv)
    if out.is_dir() and any(out.iterdir()) and not arguments.overwrite:
        raise UserError(f"{out}: there is something in this folder; give another, or --overwrite True")
    checkpoint = merge(base, adapter, dtype=arguments.dtype)
    checkpoint.save(out)
    print(f"{adapter} merged into {base}: {out} ({checkpoint.model.dtype})")


if __name__ == "__main__":
    run_command(main)
