"""What the detector learns from: windows whose boxes are where the lesions are."""

import json

import cv2
import numpy as np
import pytest

from bonetumor.detection.train import DetectorTraining, LabelledPicture, write_data
from bonetumor.detection.windows import TrainingPicture, Windows, read_windows


def spotted(box=(100, 60, 130, 80), source="here"):
    """A dark picture with one white spot that the box bounds."""
    pixels = np.random.default_rng(3).integers(20, 60, (200, 256), np.uint8)
    x0, y0, x1, y1 = box
    pixels[y0:y1, x0:x1] = 255
    return TrainingPicture(pixels=pixels, boxes=np.array([box], float), source=source)


def normal(source, grey):
    return TrainingPicture(
        pixels=np.full((200, 256), grey, np.uint8), boxes=np.zeros((0, 4)), source=source
    )


def windows(pictures, repeats=None, normals=1.0, seed=0):
    return Windows(
        pictures,
        repeats or [1] * len(pictures),
        side_px=256,
        scale=1.25,
        normals=normals,
        seed=seed,
    )


def test_a_box_bounds_its_lesion_in_every_window():
    drawn = windows([spotted()], normals=0)
    inside, outside, seen = [], [], 0
    for _ in range(150):
        pixels, boxes = drawn.draw(0)
        mask = np.zeros(pixels.shape, bool)
        for x0, y0, x1, y1 in np.rint(boxes).astype(int):
            mask[y0:y1, x0:x1] = True
        if len(boxes):
            seen += 1
            inside.append(np.median(pixels[mask]))
            outside.append(np.median(pixels[~mask]))
    assert seen > 120
    assert np.mean(np.array(inside) > np.array(outside) + 60) > 0.9


def test_sizes_frames_and_sharpness_vary_between_windows():
    drawn = windows([spotted()], normals=0)
    sides, sharp = [], []
    for _ in range(120):
        pixels, boxes = drawn.draw(0)
        sides += [max(b[2] - b[0], b[3] - b[1]) for b in boxes]
        sharp.append(cv2.Laplacian(pixels, cv2.CV_64F).var())
    assert np.quantile(sides, 0.95) > 2 * np.quantile(sides, 0.05)
    assert np.quantile(sharp, 0.95) > 3 * np.quantile(sharp, 0.05)


def test_normal_windows_come_from_all_sources_alike():
    """Of one source with nine pictures and one with a single one."""
    pictures = [spotted(), *(normal("many", 60) for _ in range(9)), normal("one", 200)]
    drawn = windows(pictures, normals=1.0)
    assert len(drawn) == 2
    chosen = [drawn._chosen(1).source for _ in range(400)]
    assert 0.4 < chosen.count("one") / 400 < 0.6


def test_a_picture_with_a_lesion_is_shown_as_often_as_its_repeats_say():
    pictures = [spotted(source="a"), spotted(source="b")]
    drawn = windows(pictures, repeats=[1, 3], normals=0)
    assert [drawn._chosen(i).source for i in range(len(drawn))] == ["a", "b", "b", "b"]


def test_a_lesion_at_the_edge_counts_only_if_enough_of_it_is_seen():
    drawn = windows([spotted(box=(0, 0, 60, 60))], normals=0, seed=4)
    for _ in range(200):
        pixels, boxes = drawn.draw(0)
        assert (boxes >= 0).all()
        assert (boxes <= 256).all()
        assert ((boxes[:, 2:] - boxes[:, :2]) > 0).all()
        assert pixels.shape == (256, 256)


def test_pictures_to_learn_windows_of_are_written_standardised(tmp_path):
    pixels = np.zeros((300, 500), np.uint8)
    pixels[50:250, 100:400] = np.random.default_rng(0).integers(60, 255, (200, 300), np.uint8)
    picture = LabelledPicture(
        name="x", pixels=pixels, boxes=((130.0, 80.0, 160.0, 110.0),), source="s", repeats=2
    )
    plan = DetectorTraining(image_size_px=320, content_px=256)
    write_data({"train": [picture], "val": [picture]}, plan, tmp_path, lambda _: None)
    [line] = (tmp_path / "data" / "train" / "pictures.jsonl").read_text().splitlines()
    written = json.loads(line)
    assert written["boxes"][0] == pytest.approx([25.6, 25.7, 51.2, 51.3], abs=0.2)
    assert (written["source"], written["repeats"]) == ("s", 2)
    read = read_windows(tmp_path / "data" / "train", side_px=256, scale=1.25, normals=0, seed=0)
    assert len(read) == 2
    item = read[0]
    assert item["img"].shape == (1, 256, 256)
