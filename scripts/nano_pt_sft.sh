#!/usr/bin/env bash
# Pre-training, then SFT, as the large model is trained, on the nano world; both scored on matches they never saw.
#
#   bash scripts/nano_pt_sft.sh              goes on where an interrupted run stopped
#   bash scripts/nano_pt_sft.sh --fresh      starts over
#
# 1. looks: single frames, what a Qwen2-VL knows before it sees a stream
# 2. pt:    noisy captions without queries (data/nano/captions.py), earlier speech as context
# 3. sft:   clean commentaries with queries and questions at their end, mixed with questions about single looks
# Beside them a control: SFT alone, from the looks, for as many steps. Hardware: 2 CPU cores. Time: about 20 minutes.
# Prints a table and writes outputs/nano_pt_sft/report.json.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
out=outputs/nano_pt_sft
case "${1:-}" in
  --help) sed -n '2,11s/^# \{0,1\}//p' scripts/nano_pt_sft.sh; exit 0 ;;
  --fresh) rm -rf "$out" ;;
  "") ;;
  *) echo "error: unknown argument $1 (--help lists them)" >&2; exit 2 ;;
esac
unset PYTHONPATH
export TOKENIZERS_PARALLELISM=false HF_HUB_OFFLINE=1
python=.venv/bin/python
source scripts/stages.sh
bash scripts/setup.sh

corpus=("$python" -m data.nano.corpus --seed 0)
stage corpus_train "${corpus[@]}" --output_dir "$out/train" --split train --n_clips 1200
stage corpus_test "${corpus[@]}" --output_dir "$out/test" --split test --n_clips 100
stage captions "$python" -m data.nano.captions --corpus "$out/train" --output "$out/train/captions.jsonl"
stage nano_checkpoint "$python" -m models.nano --output_dir "$out/init"
stage train_looks bash scripts/train_nano.sh looks "$out/init" "$out/train" "$out/looks"

schedule=(--max_steps 700 --lr_scheduler_kwargs '{"num_decay_steps": 350}')
sft_data=(--annotation_paths "$out/train/commentary.jsonl" "$out/train/states.jsonl" --annotation_weights 0.8 0.2)
stage train_pt bash scripts/train_nano.sh streams "$out/looks" "$out/train" "$out/pt" "${schedule[@]}" \
  --annotation_paths "$out/train/captions.jsonl" --with_context True
stage train_sft bash scripts/train_nano.sh streams "$out/pt" "$out/train" "$out/sft" "${schedule[@]}" "${sft_data[@]}"
stage train_sft_alone bash scripts/train_nano.sh streams "$out/looks" "$out/train" "$out/sft_alone" "${schedule[@]}" \
  "${sft_data[@]}"

evaluate=("$python" -m evaluation.nano.evaluate --events "$out/test/events.jsonl")
stage evaluate_pt "${evaluate[@]}" --model_name_or_path "$out/pt" --output_dir "$out/scores/pt" --query ""
stage evaluate_sft "${evaluate[@]}" --model_name_or_path "$out/sft" --output_dir "$out/scores/sft"
stage evaluate_sft_alone "${evaluate[@]}" --model_name_or_path "$out/sft_alone" --output_dir "$out/scores/sft_alone"
"$python" scripts/pt_sft_report.py --folder "$out"
