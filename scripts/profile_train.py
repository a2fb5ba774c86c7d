"""Profile a few steps of train.py: where the time goes, as a table and as a trace to look at.

    python scripts/profile_train.py --profile_dir outputs/profile --profile_steps 3 [flags of train.py]

Takes every flag of train.py and trains in --output_dir as it would, for the warm-up and the steps profiled only, and
saves no checkpoint. Writes PROFILE_DIR/trace_rank0.json (open it in https://ui.perfetto.dev or chrome://tracing) and
operations_rank0.txt, and prints the operations that took longest. Works on CPU and GPU; under torchrun each rank writes
its own.
"""

import os
import sys
from dataclasses import dataclass
from pathlib import Path

if not __package__:  # run as a file: import from the repository's root
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from torch.profiler import ProfilerActivity, profile, schedule
from transformers import TrainerCallback

import train
from utils.arguments import helped
from utils.errors import UserError, run_command

ROWS_PRINTED, ROWS_WRITTEN = 12, 100


@dataclass
class ProfileArguments:
    """Which steps are profiled, and where the trace goes."""

    profile_dir: str = helped("outputs/profile", "folder of trace and table")
    profile_steps: int = helped(3, "optimizer steps profiled")
    profile_warmup: int = helped(2, "steps before them")


class ProfileSteps(TrainerCallback):
    """Runs the profiler over some steps, then ends the training."""

    def __init__(self, arguments: ProfileArguments):
        self.arguments = arguments
        self.folder, self.rank = Path(arguments.profile_dir), os.environ.get("RANK", "0")
        self.folder.mkdir(parents=True, exist_ok=True)
        activities = [ProfilerActivity.CPU]
        self.order = "self_cpu_time_total"
        if torch.cuda.is_available():
            activities.append(ProfilerActivity.CUDA)
            self.order = "self_cuda_time_total"
        steps = schedule(wait=0, warmup=arguments.profile_warmup, active=arguments.profile_steps, repeat=1)
        self.profile = profile(
            activities=activities, schedule=steps, record_shapes=True, profile_memory=True, on_trace_ready=self._write
        )

    def on_train_begin(self, args, state, control, **kwargs) -> None:
        self.profile.start()

    def on_step_end(self, args, state, control, **kwargs) -> None:
        self.profile.step()

    def on_train_end(self, args, state, control, **kwargs) -> None:
        self.profile.stop()

    def _write(self, done: profile) -> None:
        trace = self.folder / f"trace_rank{self.rank}.json"
        done.export_chrome_trace(str(trace))
        averages = done.key_averages()
        table = self.folder / f"operations_rank{self.rank}.txt"
        table.write_text(averages.table(sort_by=self.order, row_limit=ROWS_WRITTEN) + "\n", encoding="utf-8")
        if self.rank == "0":
            print(averages.table(sort_by=self.order, row_limit=ROWS_PRINTED))
            print(f"trace: {trace}\ntable: {table}")


def main() -> None:
    """Run the command."""
    trainer, arguments = train.build_trainer(ProfileArguments, description=__doc__.splitlines()[0])
    steps, warmup = arguments.profile_steps, arguments.profile_warmup
    if steps < 1 or warmup < 0:
        raise UserError(f"--profile_steps {steps}, --profile_warmup {warmup}: give at least 1 and 0")
    trainer.args.max_steps = warmup + steps
    trainer.args.save_strategy = "no"
    trainer.add_callback(ProfileSteps(arguments))
    trainer.run()


if __name__ == "__main__":
    run_command(main)
