#!/usr/bin/env bash
# Sourced by scripts/pt_local.sh and scripts/sft_local.sh: train.py in NPROC processes, or its command with DRY_RUN=1.
#
# Needs $deepspeed and the array $arguments. Flags given to it are added at the end, where they win.
if [[ "${1:-}" == --help && "${BASH_SOURCE[0]}" == "$0" ]]; then sed -n '2,4s/^# \{0,1\}//p' "$0"; exit 0; fi
read -r -a launch <<<"${LAUNCH:---standalone}"
command=("$(command -v torchrun || echo .venv/bin/torchrun)" "${launch[@]}" --nproc_per_node="${NPROC:-8}" train.py
  ${deepspeed:+--deepspeed "$deepspeed"} "${arguments[@]}" "$@")
if [[ -n "${DRY_RUN:-}" ]]; then
  for name in VIDEO_MIN_PIXELS FPS_MAX_FRAMES VIDEO_MAX_PIXELS WANDB_PROJECT TOKENIZERS_PARALLELISM; do
    printf '%s=%q ' "$name" "${!name}"
  done
  printf '%q ' "${command[@]}" && echo
  exit
fi
exec "${command[@]}"
