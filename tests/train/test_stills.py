"""Pictures without motion as training pairs."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from mmfa.errors import MediaError
from mmfa.faces import PixelFace, crop_box
from mmfa.geometry import similarity, transform_image, transform_points
from mmfa.media.crop import crop
from mmfa.media.image import read_image, write_image
from mmfa.priors.landmarks import FaceTracker
from mmfa.train.cache import prepare
from mmfa.train.config import TrainConfig
from mmfa.train.data import Augmentation, Clip, ClipDataset, Pair, mirror
from mmfa.train.stills import SHARE, draw_move, move_head
from mmfa.train.trainer import Trainer


@pytest.fixture(scope="module")
def mixed(clips: Path, portrait: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The two clips, the portrait as a person who has one picture, and a picture without a face."""
    root = tmp_path_factory.mktemp("mixed")
    photo = read_image(portrait)
    face = FaceTracker().track(photo)
    assert face is not None
    write_image(root / "her.png", crop(photo, crop_box(PixelFace.of(face, photo)), size=96))
    Image.new("RGB", (96, 96), (90, 120, 90)).save(root / "wall.png")
    listed = {
        "clips": [{"file": f"{name}/clip.mp4", "person": name, "split": "train"} for name in ("one", "two")],
        "images": [{"file": file, "person": file, "split": "train"} for file in ("her.png", "wall.png")],
    }
    for name in ("one", "two"):
        (root / name).symlink_to(clips / name)
    (root / "index.json").write_text(json.dumps(listed))
    return root


@pytest.fixture(scope="module")
def stills(mixed: Path, tmp_path_factory: pytest.TempPathFactory) -> ClipDataset:
    return ClipDataset(prepare(mixed, tmp_path_factory.mktemp("cache"), fps=8, stills=True, quiet=True), size=64)


@pytest.fixture(scope="module")
def still(stills: ClipDataset) -> Clip:
    return stills.stills[0]


def test_pictures_are_read_beside_the_clips_and_left_out_unless_asked_for(mixed, stills, tmp_path, capsys) -> None:
    assert set(stills.people) == {"one", "two"} and [clip.person for clip in stills.stills] == ["her.png"]
    files = prepare(mixed, tmp_path, fps=8, stills=True, quiet=True)
    assert "wall.png shows no face" in capsys.readouterr().out and len(files) == 3
    assert not ClipDataset(prepare(mixed, tmp_path / "other", fps=8, quiet=True), size=64).stills


def test_stills_alone_are_no_data(stills, mixed, tmp_path) -> None:
    files = [file for file in prepare(mixed, tmp_path, fps=8, stills=True, quiet=True) if file.person == "her.png"]
    with pytest.raises(MediaError, match="pictures alone"):
        ClipDataset(files, size=64)


def test_the_share_of_stills_and_no_other_pairs_without_them(stills) -> None:
    def drawn(data: ClipDataset, share: float) -> list[Pair]:
        return data.draw(1000, torch.Generator().manual_seed(1), augmentation=Augmentation(stills=share))

    shares = [sum(pair.move is not None for pair in drawn(stills, share)) / 1000 for share in (0.0, 0.25, 1.0)]
    assert shares[0] == 0 and 0.21 < shares[1] < 0.29 and shares[2] == 1
    alone = _with(stills, stills=[])
    for data, share in ((stills, 0.0), (alone, 0.5)):
        pairs = zip(drawn(data, share), drawn(alone, 0.0), strict=True)
        assert all(a.source == b.source and a.clip is b.clip and torch.equal(a.turn, b.turn) for a, b in pairs)


def test_the_head_moves_by_the_transform_and_the_edge_stays(still) -> None:
    image, landmarks = still.images([0], size=96)[0], still.landmarks[0]
    assert torch.allclose(move_head(image, landmarks, torch.eye(2, 3)), image, atol=1e-5)
    move = similarity(torch.tensor([6.0]), torch.tensor([1.05]), torch.tensor([[0.04, -0.04]]))
    moved, whole = move_head(image, landmarks, move[0]), transform_image(image[None], move)[0]
    grid = torch.linspace(-1, 1, 96)
    y, x = torch.meshgrid(grid, grid, indexing="ij")
    points = transform_points(landmarks[None], move)[0]
    inside = (x > points[:, 0].min()) & (x < points[:, 0].max()) & (y > points[:, 1].min()) & (y < points[:, 1].max())
    assert torch.allclose(moved[:, inside], whole[:, inside], atol=1e-5)
    corner = moved[:, :6, :6]
    assert torch.allclose(corner, image[:, :6, :6], atol=1e-4) and not torch.allclose(corner, whole[:, :6, :6], atol=0.02)


def test_no_move_folds_the_picture(still) -> None:
    """Columns of a ramp stay in order under the largest moves there are."""
    ramp = torch.linspace(0, 1, 96).expand(3, 96, 96)
    generator, ranges = torch.Generator().manual_seed(0), Augmentation()
    for _ in range(40):
        move = draw_move(generator, ranges.transform_angle, ranges.transform_scale, ranges.transform_shift)
        moved = move_head(ramp, still.landmarks[0], move)
        assert float(moved.diff(dim=2).min()) > -1e-4
    assert SHARE * ranges.transform_angle == 6


def test_landmarks_of_a_pair_lie_where_a_tracker_finds_them(still, stills) -> None:
    for flip in (False, True):
        pairs = stills.draw(3, torch.Generator().manual_seed(2), augmentation=Augmentation(stills=1.0))
        batch = ClipDataset.batch(_with(stills, size=96), [replace(pair, flip=flip) for pair in pairs])
        for image, landmarks in zip(batch.driving.image, batch.landmarks, strict=True):
            found = FaceTracker().track((image.permute(1, 2, 0) * 255).round().byte().numpy())
            assert found is not None and float((found.points - landmarks)[:, :2].norm(dim=1).mean()) < 0.03
        source = still.landmarks[0]
        torch.testing.assert_close(batch.source_landmarks[0], mirror(source) if flip else source)
        assert not batch.known.any()


def _with(data: ClipDataset, **changes: object) -> ClipDataset:
    copy = object.__new__(ClipDataset)
    copy.__dict__.update(vars(data), **changes)
    return copy


def test_a_run_learns_from_stills_without_a_pull_to_a_face_nobody_knows(mixed, config: TrainConfig, tmp_path) -> None:
    config = replace(config, data=str(mixed), cache=str(tmp_path / "cache"), stills=1.0, steps=2, loss_canonical=5.0)
    trainer = Trainer(config, quiet=True)
    pairs = trainer.data.draw(2, torch.Generator().manual_seed(0), augmentation=Augmentation(stills=1.0))
    values = trainer.objective.motion_losses(trainer.data.batch(pairs))
    assert float(values["canonical"].detach()) == 0
    trainer.run()
    losses = [json.loads(line) for line in (Path(config.output) / "log.jsonl").read_text().splitlines()]
    assert len(losses) == 2 and all(line["canonical"] == 0 and line["keypoint"] > 0.001 for line in losses)
