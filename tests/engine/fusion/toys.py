"""Small pairs and networks for the tests of training and of what follows from it."""

import numpy as np
import torch
from scipy import ndimage
from torch import nn

import hsmamba
from hsmamba.data import get_sensor, interp23, upsample
from hsmamba.data.pairs import FusionPairs, simulated_pair, training_image

BANDS = 200


def images(rows=128, columns=96, bands=4):
    """A scene whose bands are mixtures of the guide's detail and of colours that change slowly."""
    rng = np.random.default_rng(0)
    size = (rows * 4, columns * 4)
    detail = torch.from_numpy(rng.normal(size=(1, 1, *(n // 8 for n in size))))
    pan = interp23(detail, 8)[0, 0].numpy()
    slow = interp23(torch.from_numpy(rng.normal(size=(1, bands, rows // 16, columns // 16))), 16)[0].numpy()
    low = pan.reshape(rows, 4, columns, 4).mean(axis=(1, 3))
    ms = 1000 + 100 * low[..., None] * rng.uniform(0.5, 1.5, bands) + 40 * slow.transpose(1, 2, 0)
    return ms, 1000 + 100 * pan


def make(name="ramsf", **options):
    torch.manual_seed(0)
    kept = {"dim": 8, "mlp_dims": (8,)} if name == "ramsf" else {"dim": 8}
    return hsmamba.create_model(name, **{"in_chans": 4, **kept, **options})


def same(a, b):
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


class Copy(nn.Module):
    """Give the up-sampled image back, or each pixel the mean of 3 x 3 of it."""

    def __init__(self, scale=2, margin=0, in_chans=2, guide_chans=1):
        super().__init__()
        self.in_chans, self.guide_chans = in_chans, guide_chans
        self.scale, self.margin, self.zero = scale, margin, nn.Parameter(torch.zeros(1))

    def forward(self, ms, guide, ms_up):
        return nn.functional.avg_pool2d(ms_up, 3, 1, 1) if self.margin else ms_up


def ground(side, seed=0, mode="wrap"):
    """An image of fine structure on a coarse one."""
    rng = np.random.default_rng(seed)
    fine, coarse = (ndimage.gaussian_filter(rng.normal(size=(side, side)), s, mode=mode) for s in (1.5, 12))
    return fine / fine.std() + 2 * coarse / coarse.std()


def many_bands():
    """Pairs of bands that rise and fall together, as those of a spectrometer do, and their mean as PAN."""
    generator = torch.Generator().manual_seed(0)
    colours = upsample(torch.rand(1, 3, 8, 8, generator=generator), 4)[0].clamp(0, 1)
    gt = torch.einsum("kc,chw->khw", torch.rand(BANDS, 3, generator=generator), colours) / 3
    toy, sensor = ("toy", gt, gt.mean(0, keepdim=True)), get_sensor("generic")
    made = training_image(*toy, ratio=2, sensor=sensor), simulated_pair(*toy, ratio=2, sensor=sensor)
    return FusionPairs("toy", 2, sensor, 1.0, train=made[:1], val=made[1:])


def wide():
    """A network of as many bands."""
    torch.manual_seed(0)
    return hsmamba.create_model("rsanet", in_chans=BANDS, scale=2, dim=8, depth=1, recursions=2)


def train_on_many(**options):
    settings = {"epochs": 3, "steps": 25, "batch_size": 2, "crop": 16, "progress": False}
    return hsmamba.finetune(wide(), many_bands(), **settings | options)
