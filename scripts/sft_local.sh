#!/usr/bin/env bash
# SFT on one node: the pre-trained model learns from clean speech, and from questions about images and videos.
#
#   bash scripts/sft_local.sh                         # 8 GPUs, LiveCC-7B-Base, the published five-file mix
#   NPROC=1 MODEL=FOLDER DATA=FILE.jsonl OUTPUT=checkpoints/try DEEPSPEED= bash scripts/sft_local.sh --report_to none
#
# Environment: NPROC processes, one per GPU; MODEL hub id or folder; DATA annotation files, separated by spaces;
# OUTPUT folder of the run; ACCUMULATION batches per update (the published batch is NPROC x ACCUMULATION = 512);
# DEEPSPEED its JSON, empty for none; DRY_RUN=1 prints the command; LAUNCH torchrun's flags, which the scripts for
# several nodes set (scripts/launch_torchrun.sh). Flags given to the script are added at the end, where they win.
# Hardware: 8 GPUs of 80 GB. Time: days for the published mix. Result: a checkpoint in OUTPUT, and every 1000 steps
# one in OUTPUT/checkpoint-N; the same command goes on from the last of them.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
if [[ "${1:-}" == --help ]]; then sed -n '2,12s/^# \{0,1\}//p' scripts/sft_local.sh; exit 0; fi

learning_rate=1e-5
run_name="${RUN_NAME:-livecc_sft_24k480x100_live526k+llava178k+hound+onevision_lr$learning_rate}"
data=(
  datasets/live_whisperx_526k_with_seeks.jsonl               # streams: speech with times from Whisper
  datasets/llava_ov_single_image_text_mix_with_seeks.jsonl   # questions about one image
  datasets/llava_ov_multi_image_with_seeks.jsonl             # questions about several images
  datasets/llava_hound_video_with_seeks.jsonl                # questions about videos kept as packed frames
  datasets/llava_video_178k_with_seeks.jsonl                 # questions about videos
)
if [[ -n "${DATA:-}" ]]; then read -r -a data <<<"$DATA"; fi
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
  --pretrained_model_name_or_path "${MODEL:-chenjoya/LiveCC-7B-Base}"
  --annotation_paths "${data[@]}"
  --dataloader_num_workers "${WORKERS:-16}"        # video decoders per process
  --freeze_modules visual                          # the vision tower stays as it is, outside autograd
  --use_liger_kernel True                          # fused loss on supervised tokens; without a GPU a warning
  --report_to wandb                                # kept offline where there is no account
)
source scripts/local_launch.sh "$@"
