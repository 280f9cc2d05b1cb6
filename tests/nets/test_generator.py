"""The generator of `lite` on inputs made for the question."""

import torch

from mmfa.geometry import image_grid
from mmfa.models.lite import tiny
from mmfa.nets.appearance import LayeredFeatures
from mmfa.nets.dense_motion import LayeredFlow
from mmfa.nets.generator import LiteGenerator, _in_mouth


def _images(openings, *, backdrop=0.0, around=0.0, colour=-20.0):
    """What a generator makes of a white photo at rest, if it keeps the photo wherever it may, and else paints black."""
    torch.manual_seed(0)
    params = tiny().generator
    network = LiteGenerator(params).eval()
    for output in network.outputs:
        assert isinstance(output, torch.nn.Conv2d) and output.bias is not None
        torch.nn.init.zeros_(output.weight)
        torch.nn.init.constant_(output.bias, colour)
        torch.nn.init.constant_(output.bias[3:], 20.0)
    white = torch.ones(1, 3, 64, 64)
    skips = tuple(torch.zeros(1, channels, 64 >> level, 64 >> level) for level, channels in enumerate(params.skips))
    grid = image_grid(32, 32)[None]
    flow = LayeredFlow(
        volume=torch.zeros(1, params.depth, 8, 8, 3),
        image=grid,
        occlusion=torch.ones(1, 1, 8, 8),
        skip_occlusion=torch.ones(1, 3, 16, 16),
        hint=torch.zeros(1, params.hint, 16, 16),
        plate=grid,
        background=torch.zeros(1, 1, 32, 32),
        backdrop=torch.full((1, 1, 32, 32), backdrop),
        around=torch.full((1, 1, 16, 16), around),
        openings=openings,
    )
    features = LayeredFeatures(
        volume=torch.zeros(1, params.volume_channels, params.depth, 8, 8),
        skips=skips,
        image=white,
        plate=white,
        plate_skips=skips,
    )
    with torch.no_grad():
        return network(features, flow)


def test_the_photo_is_kept_less_where_a_mouth_opens_that_it_shows_shut():
    shut = torch.full((1, 4, 16, 16), -1.0)
    opened = shut.clone()
    opened[:, 0, 6:10, 6:10] = 0.3
    plain, changed = _images(shut)[-1], _images(opened)[-1]
    assert float(plain.min()) > 0.85
    assert float(changed[..., 31:33, 31:33].max()) < 0.2, "generated colour where the mouth opened, however sure the blend is"
    torch.testing.assert_close(changed[..., :8, :], plain[..., :8, :])


def test_a_mouth_that_the_photo_shows_open_is_kept():
    both = torch.full((1, 4, 16, 16), -1.0)
    both[:, ::2, 6:10, 6:10] = 0.3
    assert float(_images(both)[-1].min()) > 0.85


def test_before_the_backdrop_nothing_is_painted():
    """However sure the generator is of its own colour, beside the head the picture is the photo's."""
    opened = torch.full((1, 4, 16, 16), -1.0)
    opened[:, 0] = 0.3
    assert float(_images(opened)[-1].max()) < 0.2
    torch.testing.assert_close(_images(opened, backdrop=1.0)[-1], torch.ones(1, 3, 64, 64))


def test_hair_is_touched_up_and_never_repainted():
    """What is painted black over a white photo changes it by a tenth around the face."""
    opened = torch.full((1, 4, 16, 16), -1.0)
    opened[:, 0] = 0.3
    picture = _images(opened, around=1.0)[-1]
    assert float(picture.min()) > 0.89 and float(picture.max()) < 0.92


def test_deep_inside_a_mouth_even_white_paint_is_dark_and_at_the_lips_it_is_white():
    opened = torch.full((1, 4, 16, 16), -1.0)
    opened[:, 0] = torch.linspace(0.0, 0.15, 16)[:, None]
    rows = _images(opened, colour=20.0)[-1][0, :, :, 32]
    red, green = rows[0], rows[1]
    assert float(red[-1]) < 0.6 and float(green[-1]) < float(red[-1]) - 0.1
    assert float(red[4]) > 0.95 and bool((red.diff() <= 1e-6).all())


def test_inside_a_mouth_blue_paint_turns_to_what_red_it_has_and_before_the_lips_it_stays():
    blue = torch.tensor([0.5, 0.6, 0.9])[None, :, None, None].expand(1, 3, 1, 3)
    painted = _in_mouth(blue, torch.tensor([-0.1, 0.0, 0.015])[None, None, None])
    torch.testing.assert_close(painted[..., :2], blue[..., :2])
    torch.testing.assert_close(painted[0, :, 0, 2], torch.full((3,), 0.5))
