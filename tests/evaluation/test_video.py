import numpy as np
import pytest
from PIL import Image

from hinf_rl.errors import UserError
from hinf_rl.evaluation import video


def _frames(count=12, height=120, width=160):
    """A bright square that moves over a dark ground."""
    frames = np.full((count, height, width, 3), 30, np.uint8)
    for i in range(count):
        frames[i, 40:80, 8 * i : 8 * i + 40] = (220, 120, 20)
    return frames


@pytest.mark.smoke
def test_a_gif_keeps_frames_speed_and_colours(tmp_path):
    path = video.write_gif(_frames(), tmp_path / "new" / "film.gif", fps=12.5)
    with Image.open(path) as film:
        assert film.n_frames == 12 and film.size == (160, 120)
        assert film.info["duration"] == 80 and film.info["loop"] == 0
        film.seek(5)
        pixel = np.array(film.convert("RGB"))[60, 60]
    np.testing.assert_allclose(pixel, (220, 120, 20), atol=12)


def test_a_gif_is_made_coarser_until_it_fits(tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (16, 120, 400, 3)).astype(np.uint8)
    path = video.write_gif(noise, tmp_path / "noise.gif", fps=10.0, max_bytes=100_000)
    assert path.stat().st_size <= 100_000
    with Image.open(path) as film:
        assert film.width < 400
        # Dropped frames leave the film as long as it was.
        assert film.n_frames * film.info["duration"] == pytest.approx(1600, rel=0.05)


def test_a_film_that_never_fits_is_refused(tmp_path):
    path = tmp_path / "film.gif"
    with pytest.raises(UserError, match="fewer than 12 frames"):
        video.write_gif(_frames(), path, fps=10.0, max_bytes=10)
    assert not path.exists()


def test_an_mp4_is_written_where_an_encoder_is_installed(tmp_path):
    imageio_ffmpeg = pytest.importorskip("imageio_ffmpeg")
    del imageio_ffmpeg
    # Odd sizes are cut by one pixel: the codec wants even ones.
    path = video.write_mp4(_frames(height=121, width=161), tmp_path / "film.mp4", fps=25.0)
    assert path is not None and path.stat().st_size > 500
    assert path.read_bytes()[4:8] == b"ftyp"


def test_without_an_encoder_there_is_no_mp4(tmp_path, monkeypatch):
    monkeypatch.setattr(video.importlib.util, "find_spec", lambda name: None)
    assert video.write_mp4(_frames(), tmp_path / "film.mp4", fps=25.0) is None


def test_a_strip_shows_the_frames_side_by_side(tmp_path):
    frames = _frames()
    path = video.write_strip(frames, tmp_path / "strip.png", indices=[0, 11])
    strip = np.asarray(Image.open(path).convert("RGB"))
    assert strip.shape == (124, 2 * 164, 3)
    np.testing.assert_array_equal(strip[2:122, 2:162], frames[0])
    np.testing.assert_array_equal(strip[2:122, 166:326], frames[11])


def test_a_label_is_legible_and_leaves_the_rest_alone():
    frame = _frames()[11]
    labelled = video.annotate(frame, "1.00 s  100 N")
    assert (labelled[:20] == 255).any() and (labelled[:20] == 0).any()
    np.testing.assert_array_equal(labelled[30:], frame[30:])


def test_no_frames_are_refused(tmp_path):
    with pytest.raises(UserError, match="F > 0"):
        video.write_gif(np.zeros((0, 4, 4, 3), np.uint8), tmp_path / "film.gif", fps=10.0)


def test_films_side_by_side_wait_for_the_longer_one():
    short, long = _frames()[:3], _frames()
    joined = video.side_by_side([short, long])
    height, width = short.shape[1:3]
    assert joined.shape == (12, height, 2 * width, 3)
    np.testing.assert_array_equal(joined[11, :, :width], short[2])
    np.testing.assert_array_equal(joined[11, :, width:], long[11])
    # Pictures much wider than high go below each other.
    assert video.side_by_side([_frames(width=400)] * 2).shape[1] == 2 * height


def test_a_title_is_a_bar_above_the_picture():
    frames = _frames()
    made = video.titled(frames, "ours")
    added = made.shape[1] - frames.shape[1]
    assert added > 10
    np.testing.assert_array_equal(made[:, added:], frames)
    assert made[:, :added].min() < 64 and made[:, :added].max() > 192
