"""The generator of `lite` on inputs made for the question."""

from dataclasses import replace

import torch

from mmfa.geometry import image_grid
from mmfa.models.lite import tiny
from mmfa.nets.appearance import MirroredFeatures, SourceFeatures
from mmfa.nets.dense_motion import FaceFlow
from mmfa.nets.generator import LiteGenerator, _in_mouth

_GREY = 0.4


def _network(*, colour=-20.0, keep=20.0, tint=0.0):
    """Keeps the photo wherever it may, and else paints black, whatever it sees."""
    torch.manual_seed(0)
    network = LiteGenerator(tiny().generator).eval()
    for output in network.outputs:
        assert isinstance(output, torch.nn.Conv2d) and output.bias is not None
        torch.nn.init.zeros_(output.weight)
        torch.nn.init.constant_(output.bias[:3], colour)
        torch.nn.init.constant_(output.bias[3:4], keep)
        torch.nn.init.constant_(output.bias[4:], tint)
    return network


def _inputs(openings=None, *, inside=1.0, picture=None, mirrored=None, light=1.0):
    """A white photo at rest, or another picture, whose mirror image is grey where it shows (B,1,32,32), and lit so."""
    params = tiny().generator
    white = torch.ones(1, 3, 64, 64) if picture is None else picture
    skips = tuple(torch.zeros(1, channels, 64 >> level, 64 >> level) for level, channels in enumerate(params.skips))
    grid = image_grid(32, 32)[None]
    volume = torch.zeros(1, params.volume_channels, params.depth, 8, 8)
    places = torch.zeros(1, params.depth, 8, 8, 3)
    shut = torch.full((1, 4, 16, 16), -1.0)
    flow = FaceFlow(
        volume=places,
        image=grid,
        mirror=None if mirrored is None else grid,
        mirror_volume=None if mirrored is None else places,
        mirrored=mirrored,
        follow=torch.zeros(1, 1, 17, 17),
        inside=torch.full((1, 1, 32, 32), inside) if isinstance(inside, float) else inside,
        occlusion=torch.ones(1, 1, 8, 8),
        skip_occlusion=torch.ones(1, 3, 16, 16),
        hint=torch.zeros(1, params.hint, 16, 16),
        openings=shut if openings is None else openings,
    )
    mirror = SourceFeatures(volume=volume, skips=skips, image=torch.full_like(white, _GREY))
    lit = torch.full((1, 3, 24, 24), light)
    return MirroredFeatures(volume=volume, skips=skips, image=white, mirror=mirror, light=lit), flow


def _drawn(*inputs, **network):
    with torch.no_grad():
        return _network(**network)(*inputs)


def _picture(openings=None, *, colour=-20.0, **inputs):
    return _drawn(*_inputs(openings, **inputs), colour=colour).images[-1]


def _mouth(depth=0.3):
    opened = torch.full((1, 4, 16, 16), -1.0)
    opened[:, 0, 6:10, 6:10] = depth
    return opened


def test_the_photo_is_kept_less_where_a_mouth_opens_that_it_shows_shut():
    plain, changed = _picture(), _picture(_mouth())
    assert float(plain.min()) > 0.999
    assert float(changed[..., 31:33, 31:33].max()) < 0.2, "generated colour where the mouth opened, however sure the blend is"
    torch.testing.assert_close(changed[..., :8, :], plain[..., :8, :])


def test_a_mouth_that_the_photo_shows_open_is_kept():
    both = _mouth()
    both[:, 2] = both[:, 0]
    assert float(_picture(both).min()) > 0.999


def test_outside_the_face_and_where_nothing_changed_nothing_is_drawn():
    """However sure the generator is of its own colour, and whatever it would like to tint."""
    opened = torch.full((1, 4, 16, 16), -1.0)
    opened[:, 0] = 0.3
    assert float(_picture(opened).max()) < 0.2
    for opening in (None, opened):
        drawn = _drawn(*_inputs(opening, inside=0.0, picture=torch.rand(1, 3, 64, 64)), keep=-20.0, tint=3.0)
        assert not drawn.share.any() and not drawn.tint.any()
    picture = torch.rand(1, 3, 64, 64)
    half = torch.zeros(1, 1, 32, 32)
    half[..., 16:] = 1
    drawn = _drawn(*_inputs(inside=half), keep=-20.0)
    torch.testing.assert_close(drawn.images[-1][..., :30], torch.ones(1, 3, 64, 30))
    assert float(drawn.images[-1][..., 34:].max()) < 1e-3 and float(drawn.share[..., 34:].min()) > 0.999
    kept = _drawn(*_inputs(inside=0.0, picture=picture)).images[0]
    torch.testing.assert_close(kept, torch.nn.functional.avg_pool2d(picture, 4), atol=0.05, rtol=0)


def test_a_tint_moves_colours_no_further_than_it_may_and_leaves_the_texture():
    texture = 0.3 + 0.2 * torch.rand(1, 3, 64, 64)
    plain, tinted = (_drawn(*_inputs(picture=texture), tint=tint) for tint in (0.0, 20.0))
    torch.testing.assert_close(tinted.tint, torch.full((1, 3, 64, 64), 0.3))
    torch.testing.assert_close(tinted.images[-1], plain.images[-1] + 0.3, atol=1e-5, rtol=0)


def test_the_drawing_is_the_picture_laid_over_the_photo_by_its_own_rule():
    """Whoever lays paint, share and tint over a sharper photo gets the model's own picture, sharper."""
    torch.manual_seed(0)
    network, (features, flow) = LiteGenerator(tiny().generator).eval(), _inputs(_mouth())
    with torch.no_grad():
        drawn = network(features, flow)
    laid = torch.lerp(features.image + drawn.tint, drawn.paint, drawn.share)
    torch.testing.assert_close(laid.clamp(0, 1), drawn.images[-1], atol=1e-5, rtol=0)
    assert drawn.light is None


def test_the_mirror_image_takes_the_photos_place_where_it_shows_in_its_own_light():
    shown = torch.zeros(1, 1, 32, 32)
    shown[..., :16] = 1
    for light in (1.0, 1.5):
        features, flow = _inputs(mirrored=shown, light=light)
        drawn = _drawn(features, flow)
        picture = drawn.images[-1]
        torch.testing.assert_close(picture[..., :30], torch.full((1, 3, 64, 30), light * _GREY))
        torch.testing.assert_close(picture[..., 34:], torch.ones(1, 3, 64, 30))
        assert drawn.light is not None and float(drawn.light.mean()) == light


def test_a_mirror_image_of_which_nothing_shows_may_as_well_be_absent():
    torch.manual_seed(0)
    network = LiteGenerator(tiny().generator).eval()
    features, flow = _inputs(_mouth(), mirrored=torch.zeros(1, 1, 32, 32))
    features = replace(features, skips=tuple(torch.rand_like(skip) for skip in features.skips))
    with torch.no_grad():
        there = network(features, flow)
        absent = network(features, replace(flow, mirror=None, mirror_volume=None, mirrored=None))
    for name in ("paint", "share", "tint"):
        torch.testing.assert_close(getattr(there, name), getattr(absent, name), atol=1e-6, rtol=0)
    torch.testing.assert_close(there.images[-1], absent.images[-1], atol=1e-6, rtol=0)


def test_deep_inside_a_mouth_even_white_paint_is_dark_and_at_the_lips_it_is_white():
    opened = torch.full((1, 4, 16, 16), -1.0)
    opened[:, 0] = torch.linspace(0.0, 0.15, 16)[:, None]
    rows = _picture(opened, colour=20.0)[0, :, :, 32]
    red, green = rows[0], rows[1]
    assert float(red[-1]) < 0.6 and float(green[-1]) < float(red[-1]) - 0.1
    assert float(red[4]) > 0.95 and bool((red.diff() <= 1e-6).all())


def test_inside_a_mouth_blue_paint_turns_to_what_red_it_has_and_before_the_lips_it_stays():
    blue = torch.tensor([0.5, 0.6, 0.9])[None, :, None, None].expand(1, 3, 1, 3)
    painted = _in_mouth(blue, torch.tensor([-0.1, 0.0, 0.015])[None, None, None])
    torch.testing.assert_close(painted[..., :2], blue[..., :2])
    torch.testing.assert_close(painted[0, :, 0, 2], torch.full((3,), 0.5))
