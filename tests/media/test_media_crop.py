import numpy as np
import pytest

from mmfa.media.crop import CropBox, crop, face_crop_box, paste, to_grid, union_box


@pytest.fixture
def picture() -> np.ndarray:
    y, x = np.mgrid[0:120, 0:160]
    return np.stack([x, y * 2, (x + y) // 2], axis=-1).astype(np.uint8)


def test_face_box_is_half_of_the_crop_and_a_little_low():
    box = face_crop_box((100, 100, 150, 200))
    assert box == CropBox(cx=125, cy=150 - 0.04 * 200, side=200)
    with pytest.raises(ValueError, match="x1 > x0"):
        face_crop_box((10, 10, 10, 20))


def test_union_box_ignores_a_few_wild_detections():
    boxes = [(100 + i % 3, 50, 200, 150 + i % 5) for i in range(100)] + [(0, 0, 900, 900)]
    x0, y0, x1, y1 = union_box(boxes)
    assert (x0, y0, x1, y1) == (100, 50, 200, 154)
    with pytest.raises(ValueError, match="boxes"):
        union_box([])


def test_whole_pixel_crop_is_a_slice(picture):
    cut = crop(picture, CropBox(cx=60, cy=50, side=40), size=40)
    np.testing.assert_array_equal(cut, picture[30:70, 40:80])


def test_crop_outside_repeats_the_edge(picture):
    cut = crop(picture, CropBox(cx=0, cy=0, side=40), size=40)
    np.testing.assert_array_equal(cut[20:, 20:], picture[:20, :20])
    assert (cut[:20, :20] == picture[0, 0]).all()
    far = crop(picture, CropBox(cx=1000, cy=1000, side=33.3), size=16)
    assert (far == picture[-1, -1]).all()


@pytest.mark.parametrize("side", [20.0, 51.7, 100.0])
@pytest.mark.parametrize("size", [16, 64])
def test_crop_samples_where_the_grid_says(picture, side, size):
    box = CropBox(cx=80.3, cy=60.6, side=side)
    cut = crop(picture, box, size=size).astype(float)
    points = np.array([[80.3 - 0.24 * side, 60.6 + 0.12 * side], [80.3 + 0.14 * side, 60.6 - 0.34 * side]])
    grid = to_grid(points, box, size=size)
    for (x, y), (u, v) in zip(points, grid, strict=True):
        column, row = (u + 1) * (size - 1) / 2, (v + 1) * (size - 1) / 2
        j, i = int(column), int(row)
        # The picture is linear: red = x, whose value at pixel centre i + 0.5 is i.
        red = cut[i, j, 0] + (column - j) * (cut[i, j + 1, 0] - cut[i, j, 0])
        green = cut[i, j, 1] + (row - i) * (cut[i + 1, j, 1] - cut[i, j, 1])
        assert red == pytest.approx(x - 0.5, abs=1.1)
        assert green == pytest.approx(2 * (y - 0.5), abs=1.6)


def test_grid_corners_are_pixel_centres():
    box = CropBox(cx=50, cy=50, side=100)
    np.testing.assert_allclose(to_grid([[5, 5], [95, 95], [50, 50]], box, size=10), [[-1, -1], [1, 1], [0, 0]], atol=1e-12)


def test_shrinking_is_antialiased():
    stripes = np.zeros((256, 256, 3), dtype=np.uint8)
    stripes[:, ::2] = 255
    cut = crop(stripes, CropBox(cx=128, cy=128, side=200), size=32)
    assert np.abs(cut.astype(int) - 128).max() < 12


def test_paste_of_the_own_crop_changes_nothing(picture):
    box = CropBox(cx=60, cy=50, side=40)
    np.testing.assert_array_equal(paste(picture, crop(picture, box, size=40), box), picture)
    box = CropBox(cx=61.3, cy=50.8, side=47.5)
    again = paste(picture, crop(picture, box, size=128), box)
    assert np.abs(again.astype(int) - picture).max() <= 2


def test_paste_touches_only_the_box_and_fades_in(picture):
    patch = np.full((64, 64, 3), 255, dtype=np.uint8)
    black = np.zeros_like(picture)
    result = paste(black, patch, CropBox(cx=80, cy=60, side=50), feather=0.2)
    assert (black == 0).all()
    assert result[60, 80, 0] == 255
    outside = np.ones(result.shape[:2], dtype=bool)
    outside[35:85, 55:105] = False
    assert (result[outside] == 0).all()
    profile = result[60, 55:81, 0].astype(int)
    assert profile[0] < 10 and (np.diff(profile) >= 0).all() and np.diff(profile).max() < 60
    hard = paste(black, patch, CropBox(cx=80, cy=60, side=50), feather=0)
    assert (hard[35:85, 55:105] == 255).all()


def test_paste_partly_and_wholly_outside(picture):
    patch = np.full((32, 32, 3), 200, dtype=np.uint8)
    result = paste(picture, patch, CropBox(cx=0, cy=0, side=40))
    assert result[0, 0, 0] == 200 and (result[20:, 20:] == picture[20:, 20:]).all()
    np.testing.assert_array_equal(paste(picture, patch, CropBox(cx=-500, cy=0, side=40)), picture)


def test_bad_arguments_are_named(picture):
    with pytest.raises(ValueError, match="positive side"):
        CropBox(cx=0, cy=0, side=0)
    with pytest.raises(ValueError, match="finite"):
        CropBox(cx=float("nan"), cy=0, side=1)
    with pytest.raises(ValueError, match="far larger"):
        crop(picture, CropBox(cx=0, cy=0, side=1e6), size=16)
    with pytest.raises(ValueError, match=r"square|size, size"):
        paste(picture, picture, CropBox(cx=0, cy=0, side=10))
    with pytest.raises(ValueError, match="feather"):
        paste(picture, picture[:20, :20], CropBox(cx=0, cy=0, side=10), feather=0.7)
