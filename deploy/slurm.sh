#!/usr/bin/env bash
# One task of a job array for each study of a folder.
#
#   sbatch --array=0-$(($(ls STUDIES | wc -l) - 1)) deploy/slurm.sh STUDIES OUT level3
#
# `medrecon cohort --cluster slurm` shares long-lived workers instead, so that the network is loaded once for many studies.
#SBATCH --job-name=medrecon
#SBATCH --cpus-per-task=4
#SBATCH --mem=16G
#SBATCH --time=01:00:00
set -euo pipefail
[ $# = 3 ] || { echo "usage: slurm.sh STUDIES OUT LAYERS" >&2; exit 2; }
mapfile -t studies < <(find "$1" -mindepth 1 -maxdepth 1 | LC_ALL=C sort)
study="${studies[${SLURM_ARRAY_TASK_ID:?it is set by sbatch --array}]}"
export OMP_NUM_THREADS="${SLURM_CPUS_PER_TASK:-4}"
exec medrecon reconstruct "$study" "$2/task$SLURM_ARRAY_TASK_ID" --layers "$3" --all-series
