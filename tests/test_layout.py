"""The map of timbres: alike codes lie near each other, and a place between sounds is a sound."""

import numpy as np
import pytest
import torch
from sklearn.neighbors import NearestNeighbors

from audio_vaegan.control.layout import lay_out
from audio_vaegan.errors import UserError
from audio_vaegan.models.controls import Control
from audio_vaegan.sound_model.fingerprints import TimbreMap, load_fingerprints, save_fingerprints


def clusters(count=20, kinds=5, size=16):
    rng = np.random.default_rng(0)
    kind = np.repeat(np.arange(kinds), count)
    return 6 * rng.standard_normal((kinds, size))[kind] + rng.standard_normal((len(kind), size)), kind


def test_alike_codes_lie_near_each_other():
    codes, kind = clusters()
    place = lay_out(codes)
    assert place.shape == (100, 2) and place.min() == 0 and place.max() == 1
    near = NearestNeighbors(n_neighbors=4).fit(place).kneighbors(place, return_distance=False)[:, 1:]
    assert (kind[near] == kind[:, None]).mean() > 0.95
    assert np.array_equal(place, lay_out(codes))


@pytest.mark.parametrize("count", [1, 2, 12])
def test_few_codes_have_places_too(count):
    place = lay_out(np.random.default_rng(1).standard_normal((count, 6)))
    assert place.shape == (count, 2) and np.isfinite(place).all()


def test_codes_that_are_all_alike_have_a_place():
    assert np.isfinite(lay_out(np.ones((40, 6)))).all()


CONTROLS = [Control("pitch", "", 40, 80, 60, 9, 41), Control("kind", "", 0, 3, 0, 1, 4, ("a", "b", "c", "d"))]


@pytest.fixture
def timbres():
    z = torch.randn(6, 5, generator=torch.Generator().manual_seed(0))
    z[2, 0] = torch.nan
    z[:, 1] = torch.tensor([0.0, 3.0, 1.0, 2.0, 0.0, 3.0])  # a class
    place = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 1.0], [0.5, 0.5], [0.5, 0.45]])
    return TimbreMap(z, place, "family", ("a", "b", "a", "b", "a", "a"))


def test_on_a_sound_is_that_sound_and_between_is_no_shorter(timbres):
    for k in (0, 2, 3):
        assert torch.equal(
            timbres.at(*timbres.place[k].tolist(), CONTROLS).nan_to_num(9), timbres.z[k : k + 1].nan_to_num(9)
        )
    between = timbres.at(0.3, 0.3, CONTROLS)
    assert between.isfinite().all()
    lengths = timbres.z[:, 2:].norm(dim=1)
    assert lengths.min() - 1e-5 <= between[0, 2:].norm() <= lengths.max() + 1e-5
    assert float(between[0, 1]) in (0.0, 1.0, 2.0, 3.0)
    assert timbres.at(0.02, 0.97, CONTROLS)[0, 0].isnan()  # as in the nearest


def test_the_map_is_kept_in_the_bundle_and_a_damaged_one_is_named(timbres, tmp_path):
    prints = np.random.default_rng(0).standard_normal((9, 192)).astype(np.float32)
    save_fingerprints(prints, tmp_path, "abc", timbres)
    known = load_fingerprints(tmp_path, "abc", 5)
    assert torch.allclose(known.map.z, timbres.z, atol=2e-3, equal_nan=True) and known.map.labels == timbres.labels
    with pytest.raises(UserError, match="damaged"):
        load_fingerprints(tmp_path, "abc", 6)
    save_fingerprints(prints, tmp_path, "abc")
    assert load_fingerprints(tmp_path, "abc", 5).map is None
