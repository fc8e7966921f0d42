"""S6, the selective state space model: its parameters, their initialisation, and several scans side by side.

Source: Gu and Dao, Mamba, arXiv 2312.00752, algorithm 2; the initialisation is that of the authors' code.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from hsmamba.layers.scan_order import Order, order_table, put_back, read, rows_back
from hsmamba.ops import inference, s6, selective_scan
from hsmamba.ops.linear import linear_shared, product
from hsmamba.ops.linear_gradients import trainable_linear


def init_dt_bias_(bias: Tensor, dt_min: float = 1e-3, dt_max: float = 0.1, dt_floor: float = 1e-4) -> Tensor:
    """Fill a step bias in place, so that softplus(bias) is log-uniform in dt_min..dt_max, no step below dt_floor."""
    with torch.no_grad():
        log_min, log_max = math.log(dt_min), math.log(dt_max)
        dt = torch.exp(torch.rand_like(bias) * (log_max - log_min) + log_min).clamp_min(dt_floor)
        return bias.copy_(dt + torch.log(-torch.expm1(-dt)))  # the inverse of softplus


class S6(nn.Module):
    """K selective scans side by side, each with parameters of its own.

    For each scan, from its driving sequence p (usually the input u itself)::

        [r | B | C] = x_proj p,   delta = softplus(dt_proj r + dt_bias),   A = -exp(A_log)
        h_t = exp(delta_t A) h_{t-1} + delta_t B_t u_t,   y_t = C_t h_t + D u_t

    Args:
        d_inner: Channels d of the sequences.
        d_state: States N of a channel.
        dt_rank: Rank R of the step projection.
        scans: Number of scans K.
        d_driver: Channels e of the driving sequences; default `d_inner`.
        proj_bias: Give `x_proj` a bias.
        dt_bias: "log_uniform", steps from 0.001 to 0.1 as in Mamba, or "linear", torch's default of a linear layer.

    Shape:
        u: (B, K, d, L), driver: (B, K, e, L). Output: (B, K, d, L); with `return_last_state` also the
        states after the last step (B, K, d, N). One scan takes any number of sequences in the place of K.

        With `orders`, one for each scan, u and driver are maps (B, K or 1, d | e, H, W), one for each scan or for all;
        the output is (B, K, d, H, W), or with `summed` (B, d, H, W). Maps whose channels are neighbours in memory are
        read in place on a CPU.
    """

    def __init__(
        self,
        d_inner: int,
        d_state: int,
        dt_rank: int,
        *,
        scans: int = 1,
        d_driver: int | None = None,
        proj_bias: bool = False,
        dt_bias: Literal["log_uniform", "linear"] = "log_uniform",
    ) -> None:
        super().__init__()
        d_driver = d_inner if d_driver is None else d_driver
        self.d_state, self.dt_rank = d_state, dt_rank
        width = dt_rank + 2 * d_state
        self.x_proj_weight = nn.Parameter(torch.empty(scans, width, d_driver))
        self.x_proj_bias = nn.Parameter(torch.empty(scans, width)) if proj_bias else None
        self.dt_proj_weight = nn.Parameter(torch.empty(scans, d_inner, dt_rank))
        self.dt_proj_bias = nn.Parameter(torch.empty(scans, d_inner))
        steps = torch.arange(1, d_state + 1, dtype=self.dt_proj_bias.dtype)
        self.A_log = nn.Parameter(steps.log().repeat(scans, d_inner, 1))
        self.D = nn.Parameter(torch.ones(scans, d_inner))
        for x, fan_in in ((self.x_proj_weight, d_driver), (self.x_proj_bias, d_driver), (self.dt_proj_weight, dt_rank)):
            if x is not None:
                nn.init.uniform_(x, -(fan_in**-0.5), fan_in**-0.5)
        if dt_bias == "linear":
            nn.init.uniform_(self.dt_proj_bias, -(dt_rank**-0.5), dt_rank**-0.5)
        else:
            init_dt_bias_(self.dt_proj_bias)

    def forward(
        self,
        u: Tensor,
        driver: Tensor | None = None,
        return_last_state: bool = False,
        *,
        orders: Sequence[Order] | None = None,
        summed: bool = False,
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Scan u, with steps, B and C from the driver, or from u itself."""
        if orders is None:
            y, last = self._scan(u, driver, return_last_state)
        elif s6.takes(*((u,) if driver is None else (u, driver)), *self.parameters()):
            y, last = self._scan_in_place(u, driver, orders, summed, return_last_state)
        else:
            height, width = u.shape[3:]
            y, last = self._scan(read(u, orders), None if driver is None else read(driver, orders), return_last_state)
            if set(orders) == {"rows"} and not summed:
                y = rows_back(y, height, width)
            else:
                maps = put_back(y, orders, height, width)
                y = sum(maps[1:], maps[0]) if summed else torch.stack(maps, dim=1)
        return y if last is None or not return_last_state else (y, last)

    def _scan(self, u: Tensor, driver: Tensor | None, with_last: bool) -> tuple[Tensor, Tensor | None]:
        """Scan sequences (B, K, d, L)."""
        b, scans, d, length = u.shape
        x = _project(self.x_proj_weight, u if driver is None else driver)
        if self.x_proj_bias is not None:
            x = x + self.x_proj_bias.unsqueeze(-1)
        r, B, C = torch.split(x, [self.dt_rank, self.d_state, self.d_state], dim=2)  # (B, K, R | N | N, L)
        delta = _project(self.dt_proj_weight, r)
        result = selective_scan(
            u.flatten(1, 2),
            delta.flatten(1, 2),
            -self.A_log.exp().expand(scans, -1, -1).flatten(0, 1),
            B,
            C,
            self.D.expand(scans, -1).flatten(),
            delta_bias=self.dt_proj_bias.expand(scans, -1).flatten(),
            delta_softplus=True,
            return_last_state=with_last,
        )
        y, last = result if isinstance(result, tuple) else (result, None)
        return y.reshape(b, scans, d, length), None if last is None else last.reshape(b, scans, d, self.d_state)

    def _scan_in_place(
        self, u: Tensor, driver: Tensor | None, orders: Sequence[Order], summed: bool, with_last: bool
    ) -> tuple[Tensor, Tensor]:
        """Scan maps, by the kernel that reads tokens in any order."""
        height, width = u.shape[3:]
        tokens = _tokens(u)
        drivers = tokens if driver is None or driver is u else _tokens(driver)
        table = order_table(tuple(orders), height, width)
        parameters = (self.A_log, self.dt_proj_weight, self.dt_proj_bias, self.D)
        inferred = inference.takes(tokens, drivers, of=self)
        if inferred and s6.projects(tokens, drivers, self.x_proj_weight):
            projection = self.x_proj_weight, self.x_proj_bias
            y, last = s6.scan_driven(tokens, drivers, table, *projection, *parameters, summed, with_last)
        else:
            projected, seen = self._projected(drivers, len(orders))
            given = seen if drivers is tokens else tokens, projected, table, *parameters, summed
            if inferred:
                y, last, _ = s6.scan_tokens(*given, with_last=with_last)
            else:
                y, last = s6.trainable_scan(*given, with_last)
        y = y.mT.view(*y.shape[:2], y.shape[3], height, width)
        return y.squeeze(1) if summed else y, last

    def _projected(self, tokens: Tensor, scans: int) -> tuple[Tensor, Tensor]:
        """Project tokens (B, K or 1, L, e) for each scan: (B, K, L, R + 2 N); and give them back for the scans."""
        weight, bias = self.x_proj_weight, self.x_proj_bias
        if len(weight) == 1 or tokens.shape[1] == 1:  # one product, over tokens as they lie in memory
            side_by_side = tokens.stride(1) < tokens.stride(2)
            seen = tokens.transpose(1, 2) if side_by_side else tokens
            x, seen = linear_shared(seen, weight, bias)
            x, seen = (y.transpose(1, 2) if side_by_side else y for y in (x, seen))
            if len(weight) > 1:
                x = x.view(*tokens.shape[::2], scans, weight.shape[1]).transpose(1, 2)
            return x.expand(-1, scans, -1, -1), seen
        by_scan = tokens.transpose(0, 1).flatten(1, 2)  # (K, B L, e)
        x = product(by_scan, weight.mT)
        x = x if bias is None else x + bias[:, None]
        return x.view(scans, *tokens.shape[::2], weight.shape[1]).transpose(0, 1), tokens


def _tokens(maps: Tensor) -> Tensor:
    """(B, K, C, H, W) -> (B, K, H W, C), channels neighbours in memory."""
    tokens = maps.flatten(3).mT
    return tokens if tokens.stride(3) == 1 else tokens.contiguous()


def _project(weight: Tensor, x: Tensor) -> Tensor:
    """Map each step of K sequences by their own matrices, or by one: (K or 1, w, e) and (B, K, e, L) -> (B, K, w, L).

    Products of small matrices are several times as fast as grouped convolutions of size 1.
    """
    if len(weight) == 1 and x.stride(2) == 1:  # a step's numbers are neighbours in memory: one large product
        return trainable_linear(x.permute(0, 3, 1, 2), weight[0]).permute(0, 2, 3, 1)
    return weight @ x


def no_weight_decay_names(model: nn.Module, *more: str) -> set[str]:
    """Name the parameters of a network that weight decay leaves alone beside 1-D ones.

    They are the decays, direct paths and biases of its `S6` layers, and what ends in `more`, such as "pos_embed".
    """
    last = {"A_log", "D", "dt_proj_bias", "x_proj_bias", *more}
    return {name for name, _ in model.named_parameters() if name.rpartition(".")[2] in last}
