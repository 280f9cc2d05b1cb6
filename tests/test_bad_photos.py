"""Photos that are hard to cut out or to move: each works, and what must not change doesn't."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter, ImageOps

from mmfa.demo import SOURCE, packaged
from mmfa.edit import Edit
from mmfa.errors import FaceError
from mmfa.media.image import Array
from mmfa.session import Photo, Session


@pytest.fixture(scope="module")
def session() -> Session:
    return Session.from_pretrained("lite", device="cpu")


@pytest.fixture(scope="module")
def portrait() -> Image.Image:
    return Image.open(packaged(*SOURCE)).convert("RGB")


def turned(session: Session, photo: Photo) -> Array:
    """One frame under a turn; the same size, and not the photo."""
    frame = next(session.render(photo, Edit(yaw=12.0, pitch=4.0).apply(photo.signal)))
    assert frame.shape == photo.image.shape and frame.dtype == np.uint8
    assert np.abs(frame.astype(int) - photo.image).max() > 20, "it moves"
    assert (next(session.render(photo, photo.signal)) == photo.image).all(), "and at rest it is the photo"
    return frame


def test_a_person_that_the_network_does_not_see(session: Session, portrait: Image.Image) -> None:
    flat = np.full((400, 400, 3), 128, np.uint8)
    face = np.asarray(portrait.crop((165, 50, 285, 190)))  # the face alone, as a mask on a wall
    flat[130:270, 140:260] = face
    photo = session.photo(flat)
    frame = turned(session, photo)
    assert (frame[:40, :40] == 128).all(), "the wall stays"


def test_a_drawing(session: Session, portrait: Image.Image) -> None:
    lines = ImageOps.posterize(ImageOps.grayscale(portrait).filter(ImageFilter.MedianFilter(7)), 2).convert("RGB")
    turned(session, session.photo(np.array(lines)))


@pytest.mark.parametrize("box", [(200, 0, 512, 320), (0, 70, 300, 512), (0, 0, 245, 512)], ids=["left", "top", "right"])
def test_a_face_that_the_edge_cuts(session: Session, portrait: Image.Image, box: tuple[int, int, int, int]) -> None:
    turned(session, session.photo(np.ascontiguousarray(portrait.crop(box))))


def test_a_small_face(session: Session, portrait: Image.Image) -> None:
    small = portrait.resize((256, 256), Image.Resampling.LANCZOS)
    photo = session.photo(np.array(small))
    assert photo.box.side < 2.2 * 60
    turned(session, photo)


def test_a_transparent_picture_lies_over_white(session: Session, portrait: Image.Image, tmp_path: Path) -> None:
    seen = portrait.copy()
    mask = Image.new("L", portrait.size, 255)
    mask.paste(0, (0, 0, 100, 512))
    seen.putalpha(mask)
    seen.save(tmp_path / "me.png")
    photo = session.photo(tmp_path / "me.png")
    assert (photo.image[:, :100] == 255).all()
    assert (turned(session, photo)[:100, :60] == 255).all()


def test_a_large_picture_is_reduced(session: Session, portrait: Image.Image, tmp_path: Path) -> None:
    large = Image.new("RGB", (6000, 4000), (90, 100, 110))
    large.paste(portrait.resize((3600, 3600)), (1500, 400))
    large.save(tmp_path / "large.png", compress_level=1)
    photo = session.photo(tmp_path / "large.png")
    assert photo.image.shape == (1280, 1920, 3) and photo.full_size == (6000, 4000)
    assert session.photo(tmp_path / "large.png", resolution=600).image.shape == (400, 600, 3)
    assert (turned(session, photo)[:60, :60] == (90, 100, 110)).all()


def test_two_people_who_overlap(session: Session, portrait: Image.Image) -> None:
    pair = Image.new("RGB", (700, 512), (128, 128, 128))
    pair.paste(portrait.crop((40, 0, 400, 512)), (300, 0))
    pair.paste(portrait.crop((40, 0, 400, 512)), (20, 30))
    photo = session.photo(np.array(pair))
    assert photo.faces == 2
    frame = turned(session, photo)
    face, other = photo.box, session.photo(np.array(pair), face=1).box
    x, y = round(other.cx), round(other.cy)
    assert abs(face.cx - other.cx) > 200
    assert (frame[y - 40 : y + 40, x - 30 : x + 30] == photo.image[y - 40 : y + 40, x - 30 : x + 30]).all(), "the other one stays"


def test_nobody(session: Session) -> None:
    with pytest.raises(FaceError, match="No face found in the source picture"):
        session.photo(np.random.default_rng(0).integers(0, 255, (300, 300, 3), np.uint8))
