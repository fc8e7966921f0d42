"""`hsmamba bench`: speed beside the peers and the machine, and how much the scans of MiM matter."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hsmamba.cli._common import DeviceOption, app, say

group = typer.Typer(help="Measure our speed beside the peers', in one process.", no_args_is_help=True)
app.add_typer(group, name="bench")


@group.command("scan")
def bench_scan_command(
    workload: Annotated[list[str] | None, typer.Option(help="Only these workloads (W1, W2a, ...).")] = None,
    candidate: Annotated[list[str] | None, typer.Option(help="Only these peers; ours always runs.")] = None,
    rounds: Annotated[int, typer.Option(min=1, help="Interleaved rounds; figures are medians.")] = 7,
) -> None:
    """Time the selective scan against its peers and against the physical limit of this machine."""
    from hsmamba.bench.scan import CANDIDATES, WORKLOADS, bench_scan

    bench_scan(workload or WORKLOADS, candidate or CANDIDATES, rounds, say=say)


Against = Annotated[
    Path | None, typer.Option(help="The root of another checkout to take turns with, instead of the peers.")
]


@group.command("models")
def bench_models_command(
    model: Annotated[list[str] | None, typer.Option(help="Only these networks (msfmamba, rsanet, ...).")] = None,
    rounds: Annotated[int, typer.Option(min=1, help="Interleaved rounds; figures are medians.")] = 7,
    against: Against = None,
) -> None:
    """Time whole networks against a fall-back scan, or against a transcription of their equations; minutes."""
    if against is not None:
        from hsmamba.bench.against import bench_against

        bench_against(against, model or (), ("forward", "step"), rounds, say=say)
        return
    from hsmamba.bench.models import MODELS, bench_models

    bench_models(model or MODELS, rounds, say=say)


@group.command("scene")
def bench_scene_command(
    model: Annotated[list[str] | None, typer.Option(help="Only these weights, or untrained architectures.")] = None,
    beside: Annotated[
        list[str] | None, typer.Option(help="Other ways to take turns with: plain, parallel scan, ...")
    ] = None,
    rounds: Annotated[int, typer.Option(min=1, help="Turns after the first one; figures are medians.")] = 5,
    size: Annotated[int | None, typer.Option(min=16, help="Rows of a scene, or side of a guide, in pixels.")] = None,
    against: Against = None,
    device: DeviceOption = None,
) -> None:
    """Time every weight over a scene, beside the rate at which this machine multiplies matrices; minutes."""
    if against is not None:
        from hsmamba.bench.against import bench_against

        if beside or device:
            raise typer.BadParameter("--against compares two checkouts on a CPU; leave --beside and --device out")
        bench_against(against, model or (), ("scene",), rounds, size, say=say)
        return
    from hsmamba.bench.scene import bench_scene

    bench_scene(model or (), beside or (), rounds, size, device=device or "cpu", say=say)


@group.command("transforms")
def bench_transforms_command(
    size: Annotated[int, typer.Option(min=150, help="Rows and columns of the cube.")] = 1000,
    components: Annotated[int, typer.Option(min=1, max=200, help="Of PCA and MNF.")] = 30,
    rounds: Annotated[int, typer.Option(min=1, help="Turns after the first one; figures are medians.")] = 5,
) -> None:
    """Time transforms of a cube of 200 bands beside a copy of it and a product of matrices."""
    from hsmamba.bench.transforms import bench_transforms

    bench_transforms(size, components, rounds, say=say)


@group.command("mim")
def bench_mim_command(
    patch_size: Annotated[int, typer.Option(help="Side of the patches, odd.")] = 7,
) -> None:
    """Measure how much the scans of each version of MiM reach its logits, and how flat its masks are."""
    from hsmamba.bench.mim import bench_mim

    bench_mim(patch_size, say=say)
