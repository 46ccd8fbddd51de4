#!/bin/bash
# Workers of nirflow as jobs of Slurm, each for as long as its job lasts. How to use it: docs/scaling.md.
#
#   sbatch --array=1-4 worker.sh
#
# Needed in the environment of sbatch, which hands it on:
#   NIRFLOW_BIN          folder with nirflow's python, such as /shared/nirflow/bin
#   PREFECT_API_URL      the Prefect server, such as http://cpo-pipeline:4210/api
#   NIRFLOW_SECRETS_DIR  folder with the files nirflow_database_url and nirflow_server_auth
#   NIRFLOW_CONFIG       nirflow.toml of the observatory, with objects_url and nights_dir
#SBATCH --job-name=nirflow-worker
#SBATCH --nodes=1
#SBATCH --ntasks=1
#SBATCH --cpus-per-task=4
#SBATCH --mem=6G
#SBATCH --time=12:00:00
# Two minutes before the end this shell gets a signal, and nothing else of the job.
#SBATCH --signal=B:TERM@120
set -euo pipefail

python=${NIRFLOW_BIN:?names the folder of nirflow\'s python}/python
unset NIRFLOW_BIN
: "${PREFECT_API_URL:?names the Prefect server}"
: "${NIRFLOW_SECRETS_DIR:?names the folder of the secrets}"

export NIRFLOW_WORKER_NAME=slurm-$SLURM_JOB_ID
export NIRFLOW_WORKER_RUNS=1
export NIRFLOW_WORKER_THREADS=${SLURM_CPUS_PER_TASK:-1}
# Scratch of its own on the node's disk; nothing of it is needed after the job.
export NIRFLOW_DATA_DIR=${TMPDIR:-/tmp}/nirflow-$SLURM_JOB_ID
mkdir -m 700 "$NIRFLOW_DATA_DIR" "$NIRFLOW_DATA_DIR/tmp"
export TMPDIR=$NIRFLOW_DATA_DIR/tmp
trap 'rm -rf -- "$NIRFLOW_DATA_DIR"' EXIT
export PREFECT_HOME=$NIRFLOW_DATA_DIR/prefect
export NUMBA_CACHE_DIR=$NIRFLOW_DATA_DIR/numba

"$python" -m deployments.supervisor.command &
worker=$!
trap 'kill -TERM "$worker" 2>/dev/null' TERM INT
code=0
wait "$worker" || code=$?
# A signal ends the first wait.
while kill -0 "$worker" 2>/dev/null; do
  code=0
  wait "$worker" || code=$?
done
exit "$code"
