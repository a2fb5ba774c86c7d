#!/usr/bin/env bash
# Pre-training on one node: Qwen2-VL learns to speak with a video from captions, word by word (LiveCC, section 4).
#
#   bash scripts/pt_local.sh                          # 8 GPUs, Qwen/Qwen2-VL-7B, the Live-CC-5M annotations
#   NPROC=1 MODEL=FOLDER DATA=FILE.jsonl OUTPUT=checkpoints/try DEEPSPEED= bash scripts/pt_local.sh --report_to none
#
# Environment: NPROC processes, one per GPU; MODEL hub id or folder; DATA annotation files, separated by spaces;
# OUTPUT folder of the run; ACCUMULATION batches per update (the published batch is NPROC x ACCUMULATION = 512);
# DEEPSPEED its JSON, empty for none; DRY_RUN=1 prints the command; LAUNCH torchrun's flags, which the scripts for
# several nodes set (scripts/launch_torchrun.sh). Flags given to the script are added at the end, where they win.
# Hardware: 8 GPUs of 80 GB. Time: days for all 5 million clips. Result: a checkpoint in OUTPUT, and every 1000 steps
# one in OUTPUT/checkpoint-N; the same command goes on from the last of them.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
if [[ "${1:-}" == --help ]]; then sed -n '2,12s/^# \{0,1\}//p' scripts/pt_local.sh; exit 0; fi

learning_rate=2e-5
run_name="${RUN_NAME:-livecc_pretrain_24kx480x100_bs512lr$learning_rate}"
read -r -a data <<<"${DATA:-datasets/live_cc_5m_with_seeks.jsonl}"
deepspeed="${DEEPSPEED-./scripts/deepspeed_zero2.json}"

export VIDEO_MIN_PIXELS="${VIDEO_MIN_PIXELS:-78400}"      # 100*28*28: a frame is at least 100 visual tokens
export FPS_MAX_FRAMES="${FPS_MAX_FRAMES:-480}"            # 240 s at 2 frames a second, the first of a longer clip
export VIDEO_MAX_PIXELS="${VIDEO_MAX_PIXELS:-19267584}"   # 24576*28*28: a clip is at most 24k visual tokens
export WANDB_PROJECT="${WANDB_PROJECT:-livecc}"
export TOKENIZERS_PARALLELISM=false                       # each loader worker has one thread

arguments=(
  --output_dir "${OUTPUT:-checkpoints/$run_name}"
  --run_name "$run_name"                           # the run's name in wandb
  --save_on_each_node True                         # False where nodes share OUTPUT
  --do_train True
  --eval_strategy no                               # checkpoints are scored by the commands in evaluation/
  --per_device_train_batch_size 1
  --gradient_accumulation_steps "${ACCUMULATION:-64}"
  --learning_rate "$learning_rate"
  --warmup_ratio 0.03                              # of all steps
  --optim adamw_torch
  --lr_scheduler_type cosine
  --num_train_epochs 1
  --logging_steps 10
  --save_steps 1000
  --bf16 True                                      # compute in bfloat16, update in float32
  --tf32 True                                      # for what stays in float32, on GPUs that have it
  --gradient_checkpointing True                    # recompute activations of the language model to save memory
  --pretrained_model_name_or_path "${MODEL:-Qwen/Qwen2-VL-7B}"
  --annotation_paths "${data[@]}"
  --dataloader_num_workers "${WORKERS:-16}"        # video decoders per process
  --freeze_modules visual                          # the vision tower stays as it is, outside autograd
  --use_liger_kernel True                          # fused loss on supervised tokens; without a GPU a warning
  --report_to wandb                                # kept offline where there is no account
)
source scripts/local_launch.sh "$@"
