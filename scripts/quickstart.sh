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
mkdir -p "$out/stages"

# stage NAME COMMAND...: run a command once. Its wall and CPU seconds go to stages/NAME.json; where that file holds the
# same command and no earlier stage has just run, the stage is passed over. Of an interrupted stage only the last
# attempt is timed, and "attempts" says so.
ran_one=
n_stages=0
stage() {
  local name=$1 base="$out/stages/$1" command status=0 wall user system
  shift
  n_stages=$((n_stages + 1))
  command=$(json_text "$(printf '%q ' "$@")")
  if [[ -z "$ran_one" && -f "$base.json" ]] && grep -qF -- "\"$command\"" "$base.json"; then
    echo "== $name: done before"
    return
  fi
  ran_one=yes
  echo "== $name: $*"
  echo attempt >> "$base.attempts"
  local TIMEFORMAT='%R %U %S'
  { time "$@" 2>&3 || status=$?; } 3>&2 2> "$base.time"
  if ((status)); then
    echo "error: stage $name ended with status $status; the same command goes on from here" >&2
    exit "$status"
  fi
  read -r wall user system < <(tail -n 1 "$base.time")
  printf '{"number": %s, "stage": "%s", "wall_s": %s, "cpu_s": %s, "attempts": %s, "command": "%s"}\n' \
    "$n_stages" "$name" "$wall" "$(awk "BEGIN {print $user + $system}")" "$(grep -c . "$base.attempts")" "$command" > "$base.json"
  rm "$base.time" "$base.attempts"
}

json_text() { printf '%s' "$1" | sed 's/\\/\\\\/g; s/"/\\"/g'; }

# Always looked after: .venv may have gone since the stage was recorded, and setup.sh takes no time where all is there.
stage setup bash scripts/setup.sh
bash scripts/setup.sh

corpus=("$python" -m data.nano.corpus --seed 0)
stage corpus_train "${corpus[@]}" --output_dir "$out/train" --split train --n_clips 1600
stage corpus_test "${corpus[@]}" --output_dir "$out/test" --split test --n_clips 100

stage nano_checkpoint "$python" -m models.nano --output_dir "$out/init"

# Two processes of one thread each: on a CPU they share the work better than two threads of one process.
export OMP_NUM_THREADS=1
train=(.venv/bin/torchrun --standalone --nproc_per_node 2 train.py --use_cpu True --report_to none
  --learning_rate 1e-3 --muon_learning_rate 0.01 --adam_beta2 0.95 --weight_decay 0.05 --warmup_steps 10
  --lr_scheduler_type warmup_stable_decay --logging_steps 25 --save_steps 250 --save_total_limit 1 --seed 0)
# First single looks ("which kits, who has the ball, what is happening, where, the score"), then whole commentaries.
looks=(--annotation_paths "$out/train/states.jsonl" --per_device_train_batch_size 16)
streams=(--annotation_paths "$out/train/commentary.jsonl" --per_device_train_batch_size 2 --decode_cache "$out/cache")
stage train_looks "${train[@]}" "${looks[@]}" --pretrained_model_name_or_path "$out/init" --output_dir "$out/looks" \
  --max_steps 1200 --lr_scheduler_kwargs '{"num_decay_steps": 500}'
stage train_streams "${train[@]}" "${streams[@]}" --pretrained_model_name_or_path "$out/looks" --output_dir "$out/model" \
  --max_steps 2400 --lr_scheduler_kwargs '{"num_decay_steps": 1200}'
# The control: the same streams with noise for frames.
stage train_blind "${train[@]}" "${streams[@]}" --pretrained_model_name_or_path "$out/init" --blind True \
  --output_dir "$out/model_blind" --max_steps 1200 --lr_scheduler_kwargs '{"num_decay_steps": 600}'

evaluate=("$python" -m evaluation.nano.evaluate --events "$out/test/events.jsonl")
stage evaluate_seeing "${evaluate[@]}" --model_name_or_path "$out/model" --output_dir "$out/seeing"
stage evaluate_wrong "${evaluate[@]}" --model_name_or_path "$out/model" --output_dir "$out/seeing" --view other_video
stage evaluate_blind "${evaluate[@]}" --model_name_or_path "$out/model_blind" --output_dir "$out/blind" --view noise

rm -f "$out/stages/live.json" # shown in every run
stage live "$python" scripts/watch_match.py --model_name_or_path "$out/model" --events "$out/test/events.jsonl"
"$python" scripts/quickstart_report.py --folder "$out" --model_name_or_path "$out/model"
