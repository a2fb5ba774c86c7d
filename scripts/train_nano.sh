#!/usr/bin/env bash
# Train the nano model, one stage at a time: the recipe of scripts/quickstart.sh and the nano benchmarks.
#
#   bash scripts/train_nano.sh looks   INIT DATA OUT [flags of train.py]    single looks: kits, ball, phase, place, score
#   bash scripts/train_nano.sh streams INIT DATA OUT [flags of train.py]    whole commentaries, second by second
#
# INIT: checkpoint folder; DATA: folder of python -m data.nano.corpus; OUT: new checkpoint. Hardware: 2 CPU cores, one
# process of one thread on each (they share the work better than two threads of one process). Time: about 3 minutes for
# looks, 7 for streams. Later flags win, so a run can be made shorter or blind by adding them.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
case "${1:-}" in
  --help) sed -n '2,10s/^# \{0,1\}//p' scripts/train_nano.sh; exit 0 ;;
  looks | streams) ;;
  *) echo "error: unknown stage ${1:-(none)}; give looks or streams (--help)" >&2; exit 2 ;;
esac
[[ $# -ge 4 ]] || { echo "error: give a stage and INIT, DATA and OUT (--help)" >&2; exit 2; }
stage=$1 init=$2 data=$3 out=$4
shift 4
unset PYTHONPATH
export OMP_NUM_THREADS=1 TOKENIZERS_PARALLELISM=false HF_HUB_OFFLINE=1
# Rates: Muon at 0.02 or AdamW at 1e-3 make the patch embedding and the reading of digits worse (dev/LOG.md).
flags=(--use_cpu True --report_to none --learning_rate 4e-4 --muon_learning_rate 0.01 --adam_beta2 0.95
  --weight_decay 0.05 --warmup_steps 10 --lr_scheduler_type warmup_stable_decay
  --loss_average token --logging_steps 25 --save_steps 250 --save_total_limit 1 --ddp_find_unused_parameters False)
case $stage in
  looks) flags+=(--annotation_paths "$data/states.jsonl" --per_device_train_batch_size 16
    --max_steps 1000 --lr_scheduler_kwargs '{"num_decay_steps": 420}') ;;
  streams) flags+=(--annotation_paths "$data/commentary.jsonl" --per_device_train_batch_size 2
    --decode_cache "$data/cache" --max_steps 1400 --lr_scheduler_kwargs '{"num_decay_steps": 700}') ;;
esac
exec .venv/bin/torchrun --standalone --nproc_per_node 2 train.py --pretrained_model_name_or_path "$init" \
  --output_dir "$out" "${flags[@]}" "$@"
