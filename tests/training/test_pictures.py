"""Pictures of validations: source, reconstruction, error."""

from __future__ import annotations

import torch

from medrecon.training.pictures import side_by_side


def test_a_slice_stands_beside_its_reconstruction_and_error() -> None:
    image = torch.rand(5, 7)
    recon = image.clone()
    recon[2, 3] += 0.01
    picture = side_by_side(image, recon, gain=10)
    assert picture.shape == (7, 15)
    torch.testing.assert_close(picture[:, :5], image.T)
    torch.testing.assert_close(picture[:, 5:10], recon.T)
    error = picture[:, 10:]
    assert float(error[3, 2]) > 0.59
    assert int((error != 0.5).sum()) == 1


def test_a_volume_is_shown_in_three_planes() -> None:
    volume = torch.rand(4, 6, 8)
    picture = side_by_side(volume, volume)
    assert picture.shape == (6 + 8 + 8, 3 * 6)
    torch.testing.assert_close(picture[:6, :4], volume[:, :, 4].T)
    torch.testing.assert_close(picture[6:14, :4], volume[:, 3, :].T)
    torch.testing.assert_close(picture[14:, :6], volume[2].T)


def test_values_beyond_the_range_are_shown_as_its_ends() -> None:
    picture = side_by_side(torch.full((2, 2), 3.0), torch.full((2, 2), -3.0))
    assert picture[0].tolist() == [1, 1, 0, 0, 0, 0]
