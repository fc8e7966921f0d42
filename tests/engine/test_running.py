"""Models that threads share: right in whatever mode they were, and left in that mode."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import hsmamba
from hsmamba.engine.running import evaluating
from tests.engine.fusion.toys import images, make


def shared(calls):
    """Run calls at the same time, in threads."""
    with ThreadPoolExecutor(len(calls)) as pool:
        return [future.result() for future in [pool.submit(call) for call in calls]]


@pytest.mark.parametrize("training", [True, False])
def test_threads_that_classify_with_one_model(make_model, scene, transform, training):
    model = make_model().train(training)
    wanted = hsmamba.classify(model, scene, transform, progress=False)
    got = shared([lambda: hsmamba.classify(model, scene, transform, batch_size=32, progress=False)] * 24)
    for labels, confidence in got:
        np.testing.assert_array_equal(labels, wanted[0])
        np.testing.assert_allclose(confidence, wanted[1], atol=1e-5)
    assert model.training is training


@pytest.mark.parametrize(("name", "options"), [("ramsf", {}), ("rsanet", {"dim": 4, "depth": 1, "recursions": 1})])
def test_threads_that_fuse_with_one_model_keep_their_places(name, options):
    model, (ms, guide) = make(name, **options).train(), images(32, 32)
    sizes = [(18, 18), (12, 14), (10, 16), (16, 10)]
    crops = [(ms[:h, :w], guide[: 4 * h, : 4 * w]) for h, w in sizes]
    calls = [lambda c=c: hsmamba.fuse(model, *c, maximum=2000, tile=6, progress=False) for c in crops]
    for got, wanted in zip(shared(calls), [call() for call in calls], strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-5)
    assert model.training


def test_each_layer_is_left_in_its_mode(make_model):
    model = make_model().train()
    frozen = [module for module in model.modules() if module is not model][::3]
    for module in frozen:
        module.training = False
    with pytest.raises(KeyboardInterrupt), evaluating(model, None):
        assert not any(module.training for module in model.modules())
        raise KeyboardInterrupt
    assert [module for module in model.modules() if not module.training] == frozen
