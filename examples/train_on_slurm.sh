#!/usr/bin/env bash
# Train a weight of the zoo again on two nodes of four GPUs each: sbatch examples/train_on_slurm.sh RECIPE FOLDER
# The folder lies on a file system that all nodes see; submit the same line again to go on where a job was ended.
#SBATCH --job-name=hsmamba
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=16
#SBATCH --time=04:00:00
set -euo pipefail

recipe=${1:?the name of a recipe, or a .toml file}
folder=${2:?the folder of the runs}
head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
export OMP_NUM_THREADS=4

# One launcher a node; SLURM_NODEID is known in the task alone, so that its shell puts it in.
# shellcheck disable=SC2016
srun bash -c 'accelerate launch --multi_gpu --num_machines "$SLURM_NNODES" --num_processes $((SLURM_NNODES * 4)) \
    --machine_rank "$SLURM_NODEID" --main_process_ip "$0" --main_process_port 29500 --mixed_precision no \
    --dynamo_backend no --no_python hsmamba train "$1" --out "$2"' "$head" "$recipe" "$folder"
