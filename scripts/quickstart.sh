#!/usr/bin/env bash
# The whole system on a machine without a GPU: make narrated matches, train a nano model on them with train.py, train
# a control that cannot see, score both on matches they never saw, and comment one of those live.
#
#   bash scripts/quickstart.sh              goes on where an interrupted run stopped
#   bash scripts/quickstart.sh --fresh      starts over
#
# Hardware: 2 CPU cores, 8 GB of memory, about 10 GB of disk. Time: at most 20 minutes after the downloads (about 3 GB,
# once). Prints a held-out match's commentary beside the true events; writes outputs/quickstart/report.json.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
case "${1:-}" in
  --help) sed -n '2,9s/^# \{0,1\}//p' scripts/quickstart.sh; exit 0 ;;
  --fresh) rm -rf outputs/quickstart ;;
  "") ;;
  *) echo "error: unknown argument $1 (--help lists them)" >&2; exit 2 ;;
esac
unset PYTHONPATH
export TOKENIZERS_PARALLELISM=false HF_HUB_OFFLINE=1
python=.venv/bin/python
out=outputs/quickstart
source scripts/stages.sh

# Always looked after: .venv may have gone since the stage was recorded, and setup.sh takes no time where all is there.
stage setup bash scripts/setup.sh
bash scripts/setup.sh

corpus=("$python" -m data.nano.corpus --seed 0)
stage corpus_train "${corpus[@]}" --output_dir "$out/train" --split train --n_clips 1200
stage corpus_test "${corpus[@]}" --output_dir "$out/test" --split test --n_clips 100

stage nano_checkpoint "$python" -m models.nano --output_dir "$out/init"

stage train_looks bash scripts/train_nano.sh looks "$out/init" "$out/train" "$out/looks"
stage train_streams bash scripts/train_nano.sh streams "$out/looks" "$out/train" "$out/model"
# The control: the same streams with noise for frames.
stage train_blind bash scripts/train_nano.sh streams "$out/init" "$out/train" "$out/model_blind" --blind True \
  --max_steps 600 --lr_scheduler_kwargs '{"num_decay_steps": 300}'

evaluate=("$python" -m evaluation.nano.evaluate --events "$out/test/events.jsonl")
stage evaluate_seeing "${evaluate[@]}" --model_name_or_path "$out/model" --output_dir "$out/seeing"
stage evaluate_wrong "${evaluate[@]}" --model_name_or_path "$out/model" --output_dir "$out/seeing" --view other_video
stage evaluate_blind "${evaluate[@]}" --model_name_or_path "$out/model_blind" --output_dir "$out/blind" --view noise

rm -f "$out/stages/live.json" # shown in every run
stage live "$python" scripts/watch_match.py --model_name_or_path "$out/model" --events "$out/test/events.jsonl"
"$python" scripts/quickstart_report.py --folder "$out" --model_name_or_path "$out/model"
