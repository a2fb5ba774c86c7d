#!/usr/bin/env bash
# Training on several nodes of a Slurm cluster: one torchrun a node, which meet at the first node of the job.
#
#   sbatch --nodes=2 --gpus-per-node=8 scripts/launch_slurm.sh pt [flags of train.py]
#   NNODES=2 bash scripts/launch_slurm.sh --dry-run pt [flags]     before there is a job; host names are then made up
#
# pt and sft, and the environment, are those of scripts/launch_torchrun.sh; RDZV_PORT (29500) must be free on the first
# node; NPROC follows --gpus-per-node where Slurm says it. Give partition, account and time to sbatch. A job that is
# requeued goes on from its last whole checkpoint, whatever flags it has. Hardware: as there. The
# repository is taken to lie on a file system that all nodes share, so one of them saves (--save_on_each_node False).
# Never run on a real cluster: the tests run it with stand-ins for srun and scontrol.
#SBATCH --job-name=livecc
#SBATCH --ntasks-per-node=1
#SBATCH --exclusive
#SBATCH --requeue
set -euo pipefail
# Slurm runs a copy of this file elsewhere; the job starts in the folder of sbatch.
cd "${SLURM_SUBMIT_DIR:-$(dirname "${BASH_SOURCE[0]}")/..}"
if [[ ! -f scripts/launch_torchrun.sh ]]; then
  echo "error: $PWD is not the repository's root; call sbatch there" >&2
  exit 2
fi
if [[ "${1:-}" == --help ]]; then sed -n '2,11s/^# \{0,1\}//p' scripts/launch_slurm.sh; exit 0; fi
export NNODES="${SLURM_JOB_NUM_NODES:-${NNODES:-}}"
if [[ -n "${SLURM_GPUS_ON_NODE:-}" ]]; then export NPROC="${NPROC:-$SLURM_GPUS_ON_NODE}"; fi
first=node-0
if [[ -n "${SLURM_JOB_NODELIST:-}" ]]; then
  hosts="$(scontrol show hostnames "$SLURM_JOB_NODELIST")"
  first="${hosts%%$'\n'*}"
fi
export RDZV_ENDPOINT="${RDZV_ENDPOINT:-$first:${RDZV_PORT:-29500}}" RDZV_ID="${RDZV_ID:-livecc-${SLURM_JOB_ID:-job}}"
start=(srun --kill-on-bad-exit=1 --ntasks-per-node=1 bash scripts/launch_torchrun.sh)
if [[ "${1:-}" == --dry-run ]]; then
  start=(bash scripts/launch_torchrun.sh --dry-run)
  shift
elif [[ -z "${SLURM_JOB_NODELIST:-}" ]]; then
  echo "error: not in a Slurm job; submit this with sbatch, or look at it with --dry-run (--help)" >&2
  exit 2
fi
exec "${start[@]}" "${1:-}" --save_on_each_node False "${@:2}"
