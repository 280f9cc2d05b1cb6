"""A finished frame, as properties: what stays is the photo, what moves is all of the person, and nothing breaks."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

import mmfa.compose.canvas as composing
from mmfa.compose import Pasted, PersonCanvas
from mmfa.compose.person import mean_pool
from mmfa.geometry import image_grid
from mmfa.media.crop import CropBox
from mmfa.media.image import Array
from mmfa.portrait import Layer, Rendered

Make = Callable[..., Any]
SIZES = [(257, 383), (256, 256), (383, 120), (40, 33), (40, 700), (7, 5)]


def gaps(found: Array, wanted: Array) -> NDArray[np.int64]:
    """Differences in levels (H,W)."""
    return np.abs(found.astype(int) - wanted).max(2)


def magenta(picture: Array | Tensor) -> NDArray[np.float64]:
    """How much redder than green (H,W), in levels: the wall is grey, the sitter is not."""
    values = np.asarray(picture, np.float64)
    return values[..., 0] - values[..., 1]


def stacked(layers: list[Layer]) -> Layer:
    """Layers of one frame each as one of all."""
    parts = [{name: value for name, value in vars(layer).items() if value is not None} for layer in layers]
    return Layer(**{name: torch.cat([part[name] for part in parts]) for name in parts[0]})


# -- at rest ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_a_head_at_rest_gives_the_photo_back(make: Make, size: tuple[int, int]) -> None:
    sitter = make(*size)
    canvas = sitter.canvas()
    frame = canvas.compose(sitter.layer())
    assert np.array_equal(frame, sitter.image) and frame is not canvas.image


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("matte", ["noise", "nothing", "all"])
@pytest.mark.usefixtures("all_changes")
def test_so_it_does_where_all_of_it_is_composed_whatever_photo_and_matte_are(
    make: Make, size: tuple[int, int], matte: str
) -> None:
    random = np.random.default_rng(0)
    sitter = make(*size)
    image = random.integers(0, 256, (*size, 3), dtype=np.uint8)
    alpha = {"noise": random.random(size), "nothing": np.zeros(size), "all": np.ones(size)}[matte].astype(np.float32)
    canvas = PersonCanvas(image, alpha, sitter.box, size=256)
    assert np.array_equal(canvas.compose(sitter.layer()), image)


@pytest.mark.usefixtures("all_changes")
def test_a_body_that_stands_still_under_a_head_that_nods_is_the_photos(make: Make) -> None:
    sitter = make()
    frame = sitter.canvas().compose(sitter.layer((0.0, 0.12 * sitter.face)))
    chin = round(sitter.box.cy + 1.0 * sitter.face)
    below = round(chin + 0.95 * 1.95 * sitter.face)
    assert not np.array_equal(frame[:chin], sitter.image[:chin])
    assert np.array_equal(frame[below:], sitter.image[below:])


# -- moving -------------------------------------------------------------------------------------------------------------


def test_the_head_goes_where_it_is_asked_to_and_nothing_of_it_stays(make: Make) -> None:
    sitter = make(260, 320, centre=(120, 100), face=30.0)
    frame = sitter.canvas().compose(sitter.layer((75.0, -5.0)))
    head = np.s_[70:130, 100:140]
    moved = np.s_[65:125, 175:215]
    assert magenta(sitter.image[head]).min() > 150 and magenta(frame[moved]).min() > 150
    above_the_shoulders = np.s_[50:95, 80:120]
    assert abs(magenta(frame[above_the_shoulders])).max() < 12, "wall is behind it"
    assert abs(np.median(frame[above_the_shoulders]) - 150) < 4


def test_a_frame_is_the_same_in_any_company(make: Make) -> None:
    """In a batch of three, alone, and after others."""
    sitter = make()
    drawn = {"paint": torch.rand(1, 3, 48, 48), "share": torch.full((1, 1, 48, 48), 0.5)}
    layers = [sitter.layer((9.0, 3.0)), sitter.layer((-20.0, 8.0), zoom=0.6), sitter.layer((0.0, 0.0), **drawn)]
    together, canvas = stacked(layers), sitter.canvas()
    rendered = Rendered(patch=torch.zeros(3, 3, 48, 48), layer=together)
    frames = {index: canvas.frame(rendered, index) for index in (2, 1, 0, 1)}
    for index, layer in enumerate(layers):
        assert np.array_equal(frames[index], sitter.canvas().compose(layer)) and not np.array_equal(frames[index], sitter.image)


@pytest.mark.parametrize(
    "moved", [{"shift": (12.0, -4.0)}, {"shift": (5.0, 3.0), "zoom": 1.15}, {"shift": (0.0, 0.0), "zoom": 0.7}]
)
def test_a_photo_of_twice_the_size_gives_the_same_frame_sharper(make: Make, moved: dict[str, Any]) -> None:
    smooth = Image.fromarray(np.random.default_rng(1).integers(0, 256, (16, 16, 3), dtype=np.uint8)).resize((256, 256), 3)
    sitter = make(256, 256, colour=np.asarray(smooth))
    small = Image.fromarray(sitter.image)
    large = np.array(small.resize((512, 512), Image.Resampling.LANCZOS))
    matte = np.array(Image.fromarray(sitter.matte).resize((512, 512), Image.Resampling.BILINEAR))
    box = CropBox(2 * sitter.box.cx, 2 * sitter.box.cy, 2 * sitter.box.side)
    drawn = {"paint": torch.full((1, 3, 48, 48), 0.8), "share": torch.zeros(1, 1, 48, 48)}
    drawn["share"][..., 20:28, 16:32] = 1
    layer = sitter.layer(**moved, **drawn)
    native = PersonCanvas(large, matte, box, size=256).compose(layer)
    assert native.shape == (512, 512, 3)
    reduced = np.asarray(Image.fromarray(native).resize((256, 256), Image.Resampling.BOX))
    found = gaps(sitter.canvas().compose(layer), reduced)
    assert found.mean() < 1.5 and np.percentile(found, 99) < 12
    assert gaps(sitter.image, reduced).mean() > 3, "for comparison: how far everything moved"


def test_every_photo_is_cut_in_strips_and_no_one_can_tell(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    sitter = make(330, 290)
    drawn = {"paint": torch.rand(1, 3, 48, 48), "share": torch.rand(1, 1, 48, 48)}
    for layer in (sitter.layer((14.3, -6.2), **drawn), sitter.layer((3.0, 2.0), zoom=0.8), sitter.layer((-60.0, 20.0))):
        frames = []
        for strip in (16, 64, 4096):
            monkeypatch.setattr(composing, "_STRIP", strip)
            frames.append(sitter.canvas().compose(layer))
        for frame in frames[1:]:  # sums in another order may round the other way
            assert gaps(frames[0], frame).max() <= 1 and (frames[0] != frame).mean() < 1e-4


def test_a_body_stays_sharp_under_a_head_that_goes_away(make: Make) -> None:
    sitter = make(330, 290, colour=chequered(330, 290))
    frame = sitter.canvas().compose(sitter.layer((2.0, 1.0), zoom=0.5)).astype(int)
    shoulders = np.s_[round(sitter.box.cy + 3.0 * sitter.face) :, :]
    assert gaps(frame[shoulders], sitter.image[shoulders]).max() <= 1


def test_what_is_not_composed_would_not_have_changed(make: Make, request: pytest.FixtureRequest) -> None:
    sitter = make(330, 290)
    layers = [
        sitter.layer((40.0, -20.0)),
        sitter.layer((-6.0, 9.0)),
        sitter.layer(zoom=1.4),
        sitter.layer((80.0, 80.0), zoom=0.5),
    ]
    quick = [sitter.canvas().compose(layer) for layer in layers]
    request.getfixturevalue("all_changes")
    for found, layer in zip(quick, layers, strict=True):
        assert gaps(found, sitter.canvas().compose(layer)).max() <= 1


# -- the body -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shift", [(0.0, 0.0), (3.0, -2.0), (0.37, 0.81), (-5.5, 4.25), (-0.001, 0.999)], ids=str)
def test_a_body_that_only_shifts_is_sampled_as_anything_else(make: Make, shift: tuple[float, float]) -> None:
    canvas = make().canvas()
    rows, columns, away = (31, 90), (20, 171), torch.tensor(shift)
    places = composing._pixel_grid(rows, columns) + away + canvas._margin
    grid = composing._on_grid(places, canvas._people[0].shape[-2:])
    found, wanted = canvas._shifted(away, rows, columns), canvas._sample_person(grid, make().layer(), torch.zeros(59, 151))
    torch.testing.assert_close(found, wanted, atol=0.05, rtol=0)  # of 255


def test_beyond_the_photos_edge_what_it_cuts_goes_on(make: Make) -> None:
    """A head cut by the left edge goes to the right: hair follows it into the frame, no wall."""
    sitter = make(260, 300, centre=(20, 110), face=36.0)
    frame = sitter.canvas().compose(sitter.layer((30.0, 0.0)))
    assert magenta(sitter.image[90:130, :3]).min() > 150
    assert magenta(frame[90:130, :60]).min() > 150


@pytest.mark.parametrize("way", [(0.0, 60.0), (60.0, 0.0)], ids=["down", "right"])
def test_beyond_the_photos_edge_nobody_waits(make: Make, way: tuple[float, float]) -> None:
    """A head 8 pixels inside the edge goes away from it: no mirror image of it follows."""
    face = 30.0
    inset = 1.45 * face * np.array([0.85, 1.0]) + 8
    centre = (150.0, float(inset[1])) if way[1] else (float(inset[0]), 150.0)
    sitter = make(300, 300, centre=centre, face=face)
    frame = sitter.canvas().compose(sitter.layer(way))
    behind = frame[:45, 80:220] if way[1] else frame[110:165, :45]
    assert abs(magenta(behind)).max() < 12


# -- sharpness ----------------------------------------------------------------------------------------------------------


def chequered(height: int, width: int) -> Array:
    rows, columns = np.mgrid[:height, :width]
    return np.repeat(((rows + columns) % 2 * 255)[..., None], 3, 2).astype(np.uint8)


@pytest.mark.parametrize(("zoom", "left"), [(0.5, 5.0), (0.35, 5.0), (0.25, 5.0), (0.7, 70.0)])
def test_a_sitter_who_goes_away_has_no_moire(make: Make, zoom: float, left: float) -> None:
    """Of a chequered jumper, 127 levels of contrast, so many are left, and the mean."""
    sitter = make(300, 300, centre=(150, 130), face=50.0, colour=chequered(300, 300))
    frame = sitter.canvas().compose(sitter.layer(zoom=zoom)).astype(float)
    reach = int(0.8 * 50 * zoom)
    face = frame[130 - reach : 130 + reach, 150 - reach : 150 + reach, 0]
    assert face.std() < left and abs(face.mean() - 127.5) < 4
    assert sitter.image[90:170, 110:190, 0].std() > 120


def test_a_sitter_who_turns_a_little_stays_as_sharp(make: Make) -> None:
    stripes = np.repeat(np.where(np.arange(300) // 4 % 2, 200, 60)[None, :, None], 300, 0).repeat(3, 2)
    sitter = make(300, 300, centre=(150, 130), face=50.0, colour=stripes)
    frame = sitter.canvas().compose(sitter.layer((5.5, 0.0), zoom=1.02)).astype(float)
    before, after = (
        np.abs(np.diff(picture[100:160, 120:180, 0].astype(float), axis=1)).mean() for picture in (sitter.image, frame)
    )
    assert after > 0.9 * before


# -- what the model draws -----------------------------------------------------------------------------------------------


def patch(inside: float = 1.0, channels: int = 1) -> Tensor:
    """Maps (1,C,48,48): `inside` in the middle, 0 elsewhere."""
    maps = torch.zeros(1, channels, 48, 48)
    maps[..., 16:32, 16:32] = inside
    return maps


def test_paint_covers_the_person_and_never_the_wall(make: Make) -> None:
    sitter = make()
    green = torch.tensor([0.0, 1.0, 0.0])[:, None, None].expand(1, 3, 48, 48)
    everywhere = sitter.canvas().compose(sitter.layer(paint=green, share=torch.ones(1, 1, 48, 48)))
    middle = np.s_[round(sitter.box.cy) - 10 : round(sitter.box.cy) + 10, round(sitter.box.cx) - 10 : round(sitter.box.cx) + 10]
    assert np.array_equal(np.unique(everywhere[middle].reshape(-1, 3), axis=0), [[0, 255, 0]])
    assert np.array_equal(everywhere[sitter.matte == 0], sitter.image[sitter.matte == 0])
    some = sitter.canvas().compose(sitter.layer(paint=green, share=patch()))
    assert np.array_equal(np.unique(some[middle].reshape(-1, 3), axis=0), [[0, 255, 0]])
    half = round(1.3 * sitter.face)
    corner = np.s_[round(sitter.box.cy) - half : round(sitter.box.cy) - half // 2, :]
    assert np.array_equal(some[corner], sitter.image[corner])


def test_a_tint_is_added_and_leaves_the_texture(make: Make) -> None:
    sitter = make(colour=chequered(220, 200) // 2 + 40)
    frame = sitter.canvas().compose(sitter.layer(tint=patch(0.1, 3)))
    middle = np.s_[round(sitter.box.cy) - 8 : round(sitter.box.cy) + 8, round(sitter.box.cx) - 8 : round(sitter.box.cx) + 8]
    assert set(np.unique(frame[middle].astype(int) - sitter.image[middle])) <= {25, 26}


def test_the_mirror_image_is_the_photos_about_the_heads_middle_in_its_light(make: Make) -> None:
    ramp = np.repeat(np.linspace(40, 240, 200)[None, :, None], 220, 0).repeat(3, 2)
    sitter = make(colour=ramp)
    shown = {"mirror": image_grid(16, 16)[None], "mirrored": torch.ones(1, 1, 16, 16)}
    middle = round(sitter.box.cx)
    area = np.s_[round(sitter.box.cy) - 10 : round(sitter.box.cy) + 10, middle - 15 : middle + 15]
    flipped = sitter.image[:, ::-1][area].astype(float)  # the head is in the middle of the photo
    for light in (1.0, 0.8):
        frame = sitter.canvas().compose(sitter.layer(**shown, light=torch.full((1, 3, 24, 24), light)))
        assert np.abs(frame[area] - light * flipped).max() <= 1
        assert np.array_equal(frame[sitter.matte == 0], sitter.image[sitter.matte == 0])
    none = {"mirrored": torch.zeros(1, 1, 16, 16), "light": torch.ones(1, 3, 24, 24)}
    assert np.array_equal(sitter.canvas().compose(sitter.layer(**(shown | none))), sitter.image)


# -- what no photo should meet ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "layer",
    [
        lambda sitter: sitter.layer((1e6, -1e6)),
        lambda sitter: sitter.layer((-3000.0, 0.0), zoom=0.01),
        lambda sitter: sitter.layer(zoom=1e-5),
        lambda sitter: sitter.layer(zoom=200.0),
        lambda sitter: sitter.layer(flow=torch.full((1, 16, 16, 2), 1e9)),
        lambda sitter: sitter.layer(flow=torch.full((1, 16, 16, 2), -torch.inf)),
        lambda sitter: sitter.layer((9.0, 9.0), jacobian=torch.full((1, 2, 2), 1e8)),
        lambda sitter: sitter.layer((9.0, 9.0), outline=torch.zeros(1, 12, 2)),
        lambda sitter: sitter.layer((9.0, 9.0), outline=torch.full((1, 12, 2), 1e9)),
    ],
    ids=[
        "far away",
        "far and small",
        "a point",
        "huge",
        "flow far away",
        "flow at infinity",
        "jacobian",
        "no face",
        "face far away",
    ],
)
def test_no_layer_breaks_a_frame(make: Make, layer: Callable[[Any], Layer]) -> None:
    """Whatever a model says of a head, where no person is or comes to be the wall stays, in the colours of the photo."""
    sitter = make()
    with np.errstate(all="raise"):
        frame = sitter.canvas().compose(layer(sitter))
    assert frame.shape == sitter.image.shape and frame.dtype == np.uint8
    if float(layer(sitter).window[0, 2]) < 10:  # else the head fills the photo, and may
        assert np.abs(np.median(frame[:10, :10].astype(int), axis=(0, 1)) - 150).max() < 80


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (2, 300)], ids=str)
def test_photos_of_hardly_a_pixel(make: Make, size: tuple[int, int]) -> None:
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    canvas = PersonCanvas(image, np.ones(size, np.float32), CropBox(size[1] / 2, size[0] / 2, 2.0), size=256)
    for layer in (make().layer(), make().layer((3.0, 1.0), zoom=0.4)):
        assert canvas.compose(layer).shape == image.shape
    assert np.array_equal(canvas.compose(make().layer()), image)


def test_threads_share_a_canvas(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is kept for sitters who go away is made once it is asked for, by whoever asks."""
    sitter = make(colour=chequered(220, 200))
    layer = sitter.layer(zoom=0.2)
    wanted = sitter.canvas().compose(layer)
    pool = mean_pool

    def slow(image: Tensor, times: int) -> Tensor:
        time.sleep(0.02)
        return pool(image, times)

    monkeypatch.setattr(composing, "mean_pool", slow)
    canvas, frames = sitter.canvas(), []
    threads = [threading.Thread(target=lambda: frames.append(canvas.compose(layer))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(frames) == 4 and all(np.array_equal(frame, wanted) for frame in frames)


def resident() -> int:
    """Bytes of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="Linux tells a process's memory")
def test_memory_does_not_grow_with_the_frames(make: Make) -> None:
    sitter = make(400, 400)
    canvas = sitter.canvas()

    def frames(count: int) -> None:
        for index in range(count):
            canvas.compose(sitter.layer((index % 50 - 25.0, index % 7), zoom=0.4 + index % 40 / 30))

    frames(60)
    before = resident()
    frames(200)
    assert resident() - before < 4e6, "a frame is half of a megabyte"


def test_a_model_that_draws_whole_crops_changes_nothing_around_them(make: Make) -> None:
    sitter = make()
    frame = Pasted(sitter.image, sitter.box).frame(Rendered(patch=torch.zeros(2, 3, 64, 64)), 1)
    x0, y0, x1, y1 = (round(edge) for edge in sitter.box.edges)
    changed = gaps(frame, sitter.image) > 0
    assert changed[y0 + 20 : y1 - 20, x0 + 20 : x1 - 20].all()
    changed[y0 - 1 : y1 + 1, x0 - 1 : x1 + 1] = False
    assert not changed.any()
