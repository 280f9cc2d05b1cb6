"""The person's matte: the network against the original, the cures, bad and odd pictures."""

import resource
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mmfa.priors import masks
from mmfa.priors.groups import FACE_OVAL
from mmfa.priors.guided import box_mean, refine
from mmfa.priors.matte import Matte, PersonMatte


@pytest.fixture(scope="module")
def person() -> PersonMatte:
    return PersonMatte()


@pytest.fixture(scope="module")
def points(reference: dict) -> np.ndarray:
    """The astronaut's landmarks (478, 3) in pixels."""
    return np.array(reference["second"])


@pytest.fixture(scope="module")
def oval(points: np.ndarray) -> np.ndarray:
    """The pixels of the astronaut's face, a little inside its outline."""
    middle = points[:468, :2].mean(0)
    return masks.polygon(middle + 0.9 * (points[list(FACE_OVAL), :2] - middle), 512, 512)


class _Saying(PersonMatte):
    """A network that says what a test wants: the mask (H, W) of the whole photo, in every window that is the whole photo."""

    def __init__(self, mask: np.ndarray) -> None:
        super().__init__()
        self.said = torch.from_numpy(np.array(Image.fromarray(mask.astype(np.float32)).resize((256, 256))))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        said = self.said.expand(len(images), -1, -1).clone()
        said[1] = said[1].flip(1)  # the mirrored look
        return said


def _close_up(astronaut: np.ndarray, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """256 x 256 pixels about the head: a photo that is looked at in one window; and its landmarks."""
    return np.ascontiguousarray(astronaut[:256, 96:352]), points - [96, 0, 0]


def test_agrees_with_mediapipe(person: PersonMatte, astronaut: np.ndarray) -> None:
    expected = np.load(Path(__file__).parent / "reference_matte.npy").astype(np.float32)
    halved = astronaut.reshape(256, 2, 256, 2, 3).mean((1, 3)).round().astype(np.uint8)
    with torch.no_grad():
        said = person(torch.from_numpy(halved).permute(2, 0, 1)[None] / 255)[0].numpy()
    assert 0.3 < expected.mean() < 0.7
    assert np.abs(said[2::4, 2::4] - expected).max() < 1e-3


def test_the_astronaut_is_cut_out(person: PersonMatte, astronaut: np.ndarray, points: np.ndarray, oval: np.ndarray) -> None:
    found = person.matte(astronaut, torch.from_numpy(points))
    assert found.useful and found.reason == ""
    assert found.alpha.shape == (512, 512) and found.alpha.dtype == np.float32
    assert found.alpha.min() == 0 and found.alpha.max() == 1
    assert (found.alpha[oval] == 1).all()
    assert found.alpha[60, 150:300].max() == 1 and found.alpha[40:60, 215:235].min() > 0.95  # hair
    assert found.alpha[350, 150:250].min() > 0.95  # the suit
    assert found.alpha[511, 60:280].min() > 0.9  # it leaves the photo: no soft edge there
    assert found.alpha[:150, :120].max() < 0.05 and found.alpha[:250, 400:].max() < 0.05  # the flag and the shuttle


def test_the_edge_follows_the_photo(astronaut: np.ndarray) -> None:
    """A mask whose edge is ten pixels off snaps to a step in the picture."""
    picture = np.full((240, 240, 3), (40, 60, 40), np.uint8)
    picture[:, 120:] = (200, 180, 160)
    coarse = np.zeros((60, 60), np.float32)
    coarse[:, 31:] = 1
    alpha = refine(picture, coarse, np.zeros((60, 60), bool), radius=4)
    assert alpha[120, 119] < 0.35 and alpha[120, 120] > 0.65
    assert alpha[:, :95].max() == 0 and alpha[:, 150:].min() == 1


@pytest.mark.parametrize("shape", [(40, 50), (400, 50), (256, 257), (601, 73)])
def test_a_full_and_an_empty_mask_stay_so_over_any_picture(shape: tuple[int, int]) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    grid = (-(-shape[0] // 2), -(-shape[1] // 3))
    nothing = np.zeros(grid, bool)
    assert refine(noise, np.ones(grid, np.float32), nothing, radius=5).min() == 1
    assert refine(noise, np.zeros(grid, np.float32), nothing, radius=5).max() == 0


def test_only_what_hangs_together_with_the_face_is_kept(astronaut: np.ndarray, points: np.ndarray) -> None:
    photo, landmarks = _close_up(astronaut, points)
    said = np.zeros((256, 256), np.float32)
    said[20:256, 70:200] = 1  # the sitter
    said[150:256, 226:256] = 1  # someone else
    said[100:110, 200:226] = 1  # a bar of his chair, thin
    said[60:256, 0:20] = 1
    alpha = _Saying(said).matte(photo, landmarks).alpha
    assert alpha[200, 80:190].min() > 0.95
    assert alpha[:, 236:].max() < 0.05 and alpha[:, :14].max() < 0.05
    assert said[200, 240] == 1 and said[200, 5] == 1


def test_holes_in_the_head_are_closed_and_those_beside_the_body_are_not(astronaut: np.ndarray, points: np.ndarray) -> None:
    photo, landmarks = _close_up(astronaut, points)
    photo[:] = 128  # no edges: what the mask says
    said = np.zeros((256, 256), np.float32)
    said[20:256, 40:216] = 1
    said[120:150, 120:140] = 0  # in the face
    said[34:44, 118:128] = 0  # in the hair
    said[230:250, 50:90] = 0  # between arm and body
    alpha = _Saying(said).matte(photo, landmarks).alpha
    assert alpha[24:170, 110:150].min() > 0.95
    assert alpha[240, 70] < 0.05


def test_a_hat_that_the_network_drops_comes_back(astronaut: np.ndarray, points: np.ndarray) -> None:
    photo, landmarks = _close_up(astronaut, points)
    photo[:] = 128
    said = np.zeros((256, 256), np.float32)
    said[90:256, 80:180] = 1
    brim = landmarks[10, 1]
    crown = np.s_[int(brim - 15) : int(brim - 5), 120:135]
    assert said[crown].max() == 0
    assert _Saying(said).matte(photo, landmarks).alpha[crown].min() > 0.95  # the skull, by the landmarks alone
    feather = np.zeros((256, 256))
    feather[0:90, 60:80] = 1
    feather[60:90, 60:130] = 1
    assert _Saying(said).matte(photo, landmarks).alpha[20, 65:75].max() < 0.05
    assert _Saying(said).matte(photo, landmarks, head=feather).alpha[20, 65:75].min() > 0.95


def test_people_who_touch_are_parted(astronaut: np.ndarray, points: np.ndarray) -> None:
    photo, landmarks = _close_up(astronaut, points)
    photo[:] = 128
    said = np.ones((256, 256), np.float32)
    said[:10] = 0
    low, high = landmarks[:468, :2].min(0), landmarks[:468, :2].max(0)
    own, neighbour = [*low, *high], [low[0] + 110, low[1], high[0] + 110, high[1]]
    alone = _Saying(said).matte(photo, landmarks, others=[own]).alpha
    parted = _Saying(said).matte(photo, landmarks, others=[own, neighbour]).alpha
    assert alone[200, 240] == 1
    assert parted[200, 240] < 0.05 and parted[200, 60:160].min() == 1


def test_a_person_who_fills_the_photo(person: PersonMatte, astronaut: np.ndarray, points: np.ndarray) -> None:
    left, top = points[:468, :2].min(0).round().astype(int) + 22
    right, bottom = points[:468, :2].max(0).round().astype(int) - 22
    found = person.matte(np.ascontiguousarray(astronaut[top:bottom, left:right]), points - [left, top, 0])
    assert found.useful
    assert found.alpha.min() == 1


@pytest.mark.parametrize("fill", [0.0, 0.3])
def test_no_person_where_the_face_is(astronaut: np.ndarray, points: np.ndarray, oval: np.ndarray, fill: float) -> None:
    found = _Saying(np.full((512, 512), fill, np.float32)).matte(astronaut, points)
    assert not found.useful and "no person" in found.reason
    _is_head_and_shoulders(found, points, oval)


def test_a_face_without_a_head_isnt_trusted(astronaut: np.ndarray, points: np.ndarray, oval: np.ndarray) -> None:
    found = _Saying(oval.astype(np.float32)).matte(astronaut, points)
    assert not found.useful and "hardly more than a face" in found.reason
    _is_head_and_shoulders(found, points, oval)


def test_a_picture_of_noise_gets_a_drawn_matte(person: PersonMatte, points: np.ndarray, oval: np.ndarray) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (512, 512, 3), dtype=np.uint8)
    found = person.matte(noise, points)
    assert not found.useful
    assert (found.alpha[oval] == 1).all()


def _is_head_and_shoulders(found: Matte, points: np.ndarray, oval: np.ndarray) -> None:
    chin = points[152]
    height = float(np.linalg.norm(points[10] - points[152]))
    assert (found.alpha[oval] == 1).all()
    assert found.alpha[511, int(chin[0] - height) : int(chin[0] + height)].min() > 0.9  # down to the lower edge
    assert found.alpha[int(chin[1] + 0.25 * height), int(chin[0])] > 0.9  # the neck
    assert found.alpha[:, :40].max() == 0 and found.alpha[:, 400:].max() == 0
    assert found.alpha[:150, :120].max() == 0 and found.alpha[:150, 320:].max() == 0  # beside the head
    assert 0.1 < found.alpha.mean() < 0.6


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 40), (40, 1), (2, 3), (16, 4000), (3000, 20), (300, 900)])
def test_any_size_gives_a_matte(person: PersonMatte, points: np.ndarray, height: int, width: int) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    scale = min(height, width) / 512
    found = person.matte(noise, points * scale + [width / 2 - 256 * scale, height / 2 - 256 * scale, 0])
    assert found.alpha.shape == (height, width)
    assert np.isfinite(found.alpha).all() and found.alpha.min() >= 0 and found.alpha.max() <= 1


def test_a_small_person_in_a_panorama(person: PersonMatte, astronaut: np.ndarray, points: np.ndarray, oval: np.ndarray) -> None:
    wide = np.full((512, 3000, 3), (100, 120, 140), np.uint8)
    wide[:, 2300:2812] = astronaut
    found = person.matte(wide, points + np.array([2300, 0, 0]))
    assert found.useful
    assert (found.alpha[:, 2300:2812][oval] == 1).all()
    assert found.alpha[350, 2450:2550].min() > 0.95
    assert found.alpha[:, :2200].max() < 0.05


@pytest.mark.parametrize(
    "moved",
    [
        lambda p: p + np.array([5000, 5000, 0]),
        lambda p: p * 0,
        lambda p: p * 1e6,
        lambda p: p * 1e-6,
        lambda p: -p,
        lambda p: p * [1, -1, 1] + [0, 400, 0],
    ],
    ids=["outside", "one point", "huge", "tiny", "negative", "upside down"],
)
def test_odd_landmarks_give_a_matte(person: PersonMatte, astronaut: np.ndarray, points: np.ndarray, moved: object) -> None:
    assert callable(moved)
    found = person.matte(astronaut, moved(points))
    assert found.alpha.shape == (512, 512)
    assert np.isfinite(found.alpha).all() and found.alpha.min() >= 0 and found.alpha.max() <= 1


def test_a_face_outside_the_photo_is_said(person: PersonMatte, astronaut: np.ndarray, points: np.ndarray) -> None:
    found = person.matte(astronaut, points + np.array([5000, 0, 0]))
    assert not found.useful and "outside" in found.reason


def test_the_photo_isnt_changed_and_may_be_a_view(person: PersonMatte, astronaut: np.ndarray, points: np.ndarray) -> None:
    mirrored = astronaut[:, ::-1]
    flipped = points * [-1, 1, 1] + [512, 0, 0]
    kept = mirrored.copy()
    mirrored.flags.writeable = False
    alpha = person.matte(mirrored, flipped).alpha
    assert (mirrored == kept).all()
    straight = person.matte(astronaut, points).alpha
    assert np.abs(alpha[:, ::-1] - straight).mean() < 0.01


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"image": np.zeros((8, 8), np.uint8)}, "uint8"),
        ({"image": np.zeros((8, 8, 3), np.float32)}, "uint8"),
        ({"image": np.zeros((0, 8, 3), np.uint8)}, "uint8"),
        ({"landmarks": np.zeros((68, 2))}, "478"),
        ({"landmarks": np.full((478, 3), np.nan)}, "finite"),
        ({"head": np.zeros((4, 4))}, "head must be"),
        ({"others": [(1, 2, 3)]}, "others must be"),
    ],
)
def test_wrong_arguments_are_refused(person: PersonMatte, points: np.ndarray, arguments: dict, message: str) -> None:
    good = {"image": np.zeros((64, 64, 3), np.uint8), "landmarks": points / 8}
    with pytest.raises(ValueError, match=message):
        person.matte(**{**good, **arguments})


def test_a_large_photo_takes_little_time_and_memory(person: PersonMatte, astronaut: np.ndarray, points: np.ndarray) -> None:
    large = np.array(Image.fromarray(astronaut).resize((1920, 1920), Image.Resampling.BICUBIC))
    person.matte(astronaut, points)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.process_time()
    found = person.matte(large, points * 1920 / 512)
    spent = time.process_time() - start
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    assert found.useful and found.alpha.shape == (1920, 1920)
    assert spent < 4  # seconds of processor time; 0.3 on the machine it was written on
    assert grown < 400  # MB


def test_connected_goes_round_corners_and_not_across_them() -> None:
    mask = np.array([[1, 1, 1, 0, 1], [0, 0, 1, 0, 1], [1, 0, 1, 0, 1], [1, 0, 0, 1, 1]], bool)
    seed = np.zeros_like(mask)
    seed[0, 0] = True
    expected = np.array([[1, 1, 1, 0, 0], [0, 0, 1, 0, 0], [0, 0, 1, 0, 0], [0, 0, 0, 0, 0]], bool)
    assert (masks.connected(mask, seed) == expected).all()
    assert not masks.connected(mask, np.zeros_like(mask)).any()


def test_connected_agrees_with_scipy() -> None:
    ndimage = pytest.importorskip("scipy.ndimage")
    generator = np.random.default_rng(1)
    for share in (0.3, 0.55, 0.7):
        mask = generator.random((80, 57)) < share
        seed = np.zeros_like(mask)
        seed[30:50, 20:30] = True
        labels, _ = ndimage.label(mask)
        wanted = np.isin(labels, np.unique(labels[seed & mask])) & mask
        assert (masks.connected(mask, seed) == wanted).all()


@pytest.mark.parametrize("by", [1, 3, 20, 500])
def test_growing_and_shrinking_agree_with_scipy(by: int) -> None:
    ndimage = pytest.importorskip("scipy.ndimage")
    mask = np.random.default_rng(2).random((40, 33)) < 0.05
    square = np.ones((2 * min(by, 60) + 1,) * 2, bool)
    assert (masks.grown(mask, by) == ndimage.binary_dilation(mask, square)).all()
    assert (masks.grown(~mask, -by) == ndimage.binary_erosion(~mask, square, border_value=1)).all()


def test_small_holes_are_found_and_bays_are_not() -> None:
    mask = np.zeros((20, 20), bool)
    mask[2:18, 2:18] = True
    mask[5:8, 5:8] = False
    mask[12:18, 10] = False
    assert masks.holes(mask, 9).sum() == 9
    assert not masks.holes(mask, 8).any()
    assert not masks.holes(np.ones((1, 1), bool), 8).any()


@pytest.mark.parametrize("radius", [1, 4, 50])
def test_box_means_are_cut_at_the_edges(radius: int) -> None:
    field = torch.rand(2, 23, 17, generator=torch.Generator().manual_seed(0))
    means = box_mean(field, radius)
    for y, x in ((0, 0), (11, 8), (22, 16), (5, 16)):
        part = field[:, max(y - radius, 0) : y + radius + 1, max(x - radius, 0) : x + radius + 1]
        assert torch.allclose(means[:, y, x], part.mean((1, 2)), atol=1e-6)
