"""How much the scans of MiM's versions say: what their masks leave of them, and what the logits lose without them."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch

from hsmamba.layers.ssm import S6
from hsmamba.models import entry, example_inputs
from hsmamba.models.mim_blocks import paper_mask, released_mask

VERSIONS = ("mim_v1", "mim_v2", "mim_v3", "mim_paper")


def change_by_noise(name: str, patch_size: int = 7, seed: int = 0) -> float:
    """Relative change of the logits when every scan gives normal noise of its own mean and deviation instead.

    It is the norm of the difference over the norm of the logits, at the initial weights; `seed` draws those, the
    inputs and the noise.
    """
    torch.manual_seed(seed)
    model = entry(name).entry_point(num_classes=17, patch_size=patch_size).eval()
    inputs = example_inputs(model, 8, seed=seed)
    with torch.no_grad():
        before = model(*inputs)
        for module in model.modules():
            if isinstance(module, S6):
                module.register_forward_hook(lambda _m, _i, y: y.mean() + y.std() * torch.randn_like(y))
        return float((model(*inputs) - before).norm() / before.norm())


def mask_variation(side: int, seed: int = 0) -> tuple[float, float]:
    """Standard deviation over mean, along the tokens, of the released masks (v1, v2) and of the paper's.

    Means over 16 samples of side^2 normal tokens of width 32 through tanh; the side of the token grid is odd.
    """
    tokens = torch.randn(16, side * side, 32, generator=torch.Generator().manual_seed(seed)).tanh()
    released, paper = released_mask(tokens), paper_mask(tokens, side * side // 2)
    return tuple(float((mask.std(1) / mask.mean(1)).mean()) for mask in (released, paper))  # type: ignore[return-value]


def bench_mim(patch_size: int = 7, seeds: Iterable[int] = range(5), say: Callable[[str], object] = print) -> None:
    """Measure the scans' influence on the logits of each version, and how flat its masks are, as means over seeds."""
    seeds = list(seeds)

    def mean(values: Iterable[float]) -> float:
        return sum(values) / len(seeds)

    say(f"relative change of the logits when all scans give noise instead, patches of {patch_size} x {patch_size}")
    for name in VERSIONS:
        say(f"  {name:<10} {mean(change_by_noise(name, patch_size, seed) for seed in seeds):9.1e}")
    say("relative deviation of the masks   released    paper")
    for side in (9, 7, 5, 3):
        released, paper = (mean(x) for x in zip(*(mask_variation(side, seed) for seed in seeds), strict=True))
        say(f"  {side * side:>3} tokens {released:31.1e} {paper:8.1e}")
