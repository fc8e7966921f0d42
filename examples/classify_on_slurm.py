"""Classify a scene in Zarr on the nodes of a SLURM cluster, from Zarr to Zarr, by dask-jobqueue.

python examples/classify_on_slurm.py SCENE.zarr --variable cube --model NAME --out map.zarr --jobs 20 --queue QUEUE

Run it where jobs may be submitted; it needs `pip install "hsmamba[dask,geo]" dask-jobqueue`. Without a scene Indian
Pines is taken; `--local N` takes N processes of this machine instead of jobs.
"""

import argparse
from pathlib import Path
from typing import Any

import xarray
from dask.distributed import Client, LocalCluster, progress

import hsmamba
import hsmamba.xarray  # gives DataArrays their methods


def slurm(args: argparse.Namespace) -> Any:
    """A cluster of jobs, each with one worker of one thread that computes on all cores of its job."""
    from dask_jobqueue import SLURMCluster

    cluster = SLURMCluster(
        queue=args.queue,
        account=args.account,
        walltime=args.walltime,
        cores=1,
        processes=1,
        memory=args.memory,
        job_cpu=args.cores,
        job_script_prologue=[f"export OMP_NUM_THREADS={args.cores}", *args.prologue],
        local_directory=args.scratch,
    )
    cluster.scale(jobs=args.jobs)
    print(cluster.job_script())
    return cluster


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("scene", nargs="?", type=Path, help="a Zarr store on a file system that all nodes see")
    parser.add_argument("--variable", default="cube", help="the image in it, (y, x, band) or (band, y, x)")
    parser.add_argument("--model", default="md2f_mamba.indian_pines")
    parser.add_argument("--out", type=Path, default=Path("map.zarr"))
    parser.add_argument("--block", type=int, default=512, help="pixels, side of the blocks")
    parser.add_argument("--local", type=int, help="so many processes of this machine instead of jobs")
    parser.add_argument("--jobs", type=int, default=10)
    parser.add_argument("--queue")
    parser.add_argument("--account")
    parser.add_argument("--cores", type=int, default=8, help="of a job")
    parser.add_argument("--memory", default="16GB", help="of a job")
    parser.add_argument("--walltime", default="04:00:00")
    parser.add_argument("--scratch", default="/tmp", help="folder of each node")
    parser.add_argument("--prologue", nargs="*", default=[], help="lines of the job before the worker, such as modules")
    args = parser.parse_args()

    if args.scene is None:
        cube = xarray.DataArray(hsmamba.load_scene("indian_pines").hsi, dims=("y", "x", "band"))
    else:
        cube = xarray.open_zarr(args.scene)[args.variable]
    cube = cube.chunk(y=args.block, x=args.block, band=-1)
    cluster = LocalCluster(n_workers=args.local, threads_per_worker=1) if args.local else slurm(args)
    with cluster, Client(cluster) as client:
        print(f"{cube.sizes['y']} x {cube.sizes['x']} pixels; {client.dashboard_link}")
        found = cube.hsmamba.classify(args.model)
        written = client.compute(found.to_zarr(args.out, mode="w", compute=False))
        progress(written)
        written.result()
    print(f"\nwrote {args.out}")


if __name__ == "__main__":
    main()
