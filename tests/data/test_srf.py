"""Response tables: reading them, turning them into weights, simulating bands."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hsmamba.data.srf import nikon_d700, read_response, response_matrix, simulate_bands
from hsmamba.errors import SceneError
from tests.conftest import DATA

TABLES = DATA / "srf"

MICROMETRES = """# a table of 2020
#
#  Satellite 9 Band 1 Deep Blue
#   (microns)  Relative response
0.45\t-0.001
0.50 \t 1.0
0.55 0.0
#
#  Satellite 9 Band PAN
0.40 1
0.80 1
"""
NANOMETRES = """;; source: http://somewhere/oli_band_average.html
;; datasets: wavelength, RSR, RSR sd
;; BAND 8A
427\t0.5\t0.1
428\t1e0\t0.2
"""


def write(tmp_path, text):
    path = tmp_path / "table.txt"
    path.write_text(text, encoding="utf-8")
    return path


def test_reads_both_units(tmp_path):
    curves = read_response(write(tmp_path, MICROMETRES))
    assert list(curves) == ["Deep Blue", "PAN"]
    np.testing.assert_allclose(curves["Deep Blue"], [[450, 0], [500, 1], [550, 0]])  # noise below 0 is cut
    curves = read_response(write(tmp_path, NANOMETRES))
    np.testing.assert_allclose(curves["8A"], [[427, 0.5], [428, 1]])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0.4 1\n", "line 1: numbers above the first band"),
        ("# Band A\n0.4 one\n", "line 2: got '0.4 one', expected a wavelength and a response"),
        ("# Band A\n0.4\n", "line 2: got '0.4'"),
        ("# Band A\n0.4 nan\n", "line 2.*finite"),
        ("# Band A\n0.5 1\n0.4 1\n", "'A' do not increase"),
        ("# Band A\n0.5 1\n# Band A\n0.5 1\n", "line 3: band 'A' is there twice"),
        ("# nothing\n", "holds no response"),
    ],
)
def test_bad_tables(tmp_path, text, message):
    with pytest.raises(SceneError, match=message):
        read_response(write(tmp_path, text))


def test_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_response(tmp_path / "none.txt")


@settings(max_examples=40)
@given(data=st.data(), bands=st.integers(2, 40), points=st.integers(2, 30))
def test_weights_integrate_exactly(data, bands, points):
    rng = np.random.default_rng(data.draw(st.integers(0, 999)))
    centres = np.sort(rng.uniform(400, 900, bands))
    centres[[0, -1]] = 400, 900
    curve = np.stack([np.sort(rng.uniform(400, 900, points)), rng.uniform(0.1, 1, points)], axis=1)
    spectrum = rng.uniform(0, 1, bands)
    row = response_matrix({"band": curve}, centres)[0]
    fine = np.linspace(curve[0, 0], curve[-1, 0], 200_001)
    response = np.interp(fine, curve[:, 0], curve[:, 1])
    expected = np.sum(response * np.interp(fine, centres, spectrum)) / np.sum(response)
    assert row.sum() == pytest.approx(1)
    assert (row >= 0).all()
    assert row @ spectrum == pytest.approx(expected, rel=1e-4)
    order = rng.permutation(bands)
    np.testing.assert_allclose(response_matrix({"band": curve}, centres[order])[0], row[order], atol=1e-12)


def test_a_response_narrower_than_the_band_spacing_interpolates():
    row = response_matrix({"line": np.array([[421.9, 0.0], [422, 1], [422.1, 0]])}, [400, 410, 420, 430, 440])[0]
    np.testing.assert_allclose(row, [0, 0, 0.8, 0.2, 0], atol=1e-9)


def test_bands_are_selected_in_order():
    curves = {name: np.array([[c - 20, 0.0], [c, 1], [c + 20, 0]]) for name, c in (("a", 450), ("b", 500), ("c", 550))}
    centres = np.arange(400, 701, 10)
    matrix = response_matrix(curves, centres, bands=["c", "a"])
    np.testing.assert_allclose(matrix @ centres, [550, 450])
    with pytest.raises(SceneError, match="no response for d: the table has a, b, c"):
        response_matrix(curves, centres, bands=["d"])


def test_responses_outside_the_image():
    curves = {"SWIR": np.array([[1500.0, 1], [1600, 1]]), "half": np.array([[600.0, 1], [800, 1]])}
    with pytest.raises(SceneError, match="only 0 % of the response of 'SWIR' lies within 400 to 700 nm"):
        response_matrix(curves, np.arange(400, 701, 10), bands=["SWIR"])
    with pytest.warns(UserWarning, match="only 75 % of the response of 'half'"):
        row = response_matrix(curves, np.arange(400, 751, 10), bands=["half"])[0]
    assert row.sum() == pytest.approx(1)


@pytest.mark.parametrize("wavelengths", [[500], [500, 500, 510], [500, np.nan], [[400, 500]]])
def test_bad_wavelengths(wavelengths):
    with pytest.raises(SceneError, match="distinct finite"):
        response_matrix({"a": np.array([[400.0, 1], [600, 1]])}, wavelengths)


def test_nikon_d700():
    weights = nikon_d700()
    assert weights.shape == (3, 31)
    np.testing.assert_allclose(weights.sum(axis=1), 1)
    peaks = 400 + 10 * weights.argmax(axis=1)
    assert peaks.tolist() == [610, 550, 460]  # red, green, blue
    assert weights[2, 6] == pytest.approx(0.030 / 0.2)


def test_simulation():
    hsi = torch.rand(2, 31, 5, 6, dtype=torch.float64, requires_grad=True)
    rgb = simulate_bands(hsi, nikon_d700())
    assert rgb.shape == (2, 3, 5, 6)
    expected = np.einsum("kc,bchw->bkhw", nikon_d700(), hsi.detach().numpy())
    np.testing.assert_allclose(rgb.detach().numpy(), expected)
    rgb.sum().backward()
    np.testing.assert_allclose(hsi.grad[0, :, 0, 0].numpy(), nikon_d700().sum(axis=0))
    assert simulate_bands(hsi.detach().float(), torch.from_numpy(nikon_d700())).dtype == torch.float32
    with pytest.raises(SceneError, match=r"\(3, 31\), expected \(K, 8\)"):
        simulate_bands(torch.rand(1, 8, 4, 4), nikon_d700())


@pytest.mark.skipif(not TABLES.is_dir(), reason="the tables of the satellites are not beside the repository")
@pytest.mark.parametrize(
    ("file", "count", "first", "last", "red"),
    [
        ("EO1_ALI.txt", 10, "1", "10", None),
        ("GF1D_PMS.txt", 5, "MS1", "PAN", ("MS3", 660)),
        ("GeoEye1.txt", 5, "PAN", "NIR", ("Red", 672)),
        ("IKONOS2.txt", 5, "PAN", "NIR", ("Red", 665)),
        ("L8_OLI.txt", 9, "1", "9", ("4", 655)),
        ("PHR1A.txt", 5, "Blue", "Pan", ("Red", 650)),
        ("QuickBird2.txt", 5, "PAN", "NIR", ("Red", 655)),
        ("S2A_MSI.txt", 13, "1", "12", ("4", 665)),
        ("WorldView2.txt", 9, "COASTAL", "PAN", ("RED", 659)),
        ("WorldView3.txt", 17, "COASTAL", "PAN", ("RED", 661)),
    ],
)
def test_tables_of_satellites(file, count, first, last, red):
    curves = read_response(TABLES / file)
    assert len(curves) == count
    assert [list(curves)[k] for k in (0, -1)] == [first, last]
    if red:
        centres = np.arange(400, 2500, 10)
        centre = float((response_matrix(curves, centres, bands=[red[0]]) @ centres)[0])
        assert centre == pytest.approx(red[1], abs=12)
