"""Frames to files: a small GIF, an MP4 where an encoder is installed, a strip of key frames."""

import importlib.util
import io
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hinf_rl.errors import UserError

GIF_BYTES = 2_000_000
"""Largest GIF that `write_gif` leaves on disk."""

GIF_WIDTH = 400
"""Width of a GIF in pixels, unless it would be too large a file."""

# Tried in turn until the file is small enough: share of the width, every n-th frame, colours.
_GIF_SETTINGS = (
    (1.0, 1, 128),
    (1.0, 1, 64),
    (0.8, 1, 64),
    (0.8, 2, 48),
    (0.6, 2, 32),
    (0.4, 4, 16),
)


def write_gif(
    frames: NDArray[np.uint8],
    path: Path,
    *,
    fps: float,
    max_bytes: int = GIF_BYTES,
    width: int = GIF_WIDTH,
) -> Path:
    """Writes an endless GIF, coarser and coarser until it fits.

    Args:
      frames: [F, H, W, 3] pictures.
      path: file to write.
      fps: frames per second.
      max_bytes: size that the file must not exceed.
      width: pixels, where the file then is small enough.

    Raises:
      UserError: even the coarsest GIF is larger.
    """
    _check(frames)
    size = 0
    for share, stride, colours in _GIF_SETTINGS:
        content = _gif(frames[::stride], round(share * width), colours, stride / fps)
        size = len(content)
        if size <= max_bytes:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
            return path
    raise UserError(
        f"{path.name} would have {size} bytes at the coarsest, more than {max_bytes}; render fewer "
        f"than {len(frames)} frames"
    )


def write_mp4(frames: NDArray[np.uint8], path: Path, *, fps: float) -> Path | None:
    """Writes an MP4 (H.264) with imageio-ffmpeg; returns None where that is not installed.

    Args:
      frames: [F, H, W, 3] pictures.
      path: file to write.
      fps: frames per second.
    """
    _check(frames)
    if importlib.util.find_spec("imageio_ffmpeg") is None:
        return None
    import imageio_ffmpeg

    path.parent.mkdir(parents=True, exist_ok=True)
    height, width = (size - size % 2 for size in frames.shape[1:3])  # the codec wants even sizes
    with warnings.catch_warnings():
        # JAX warns of forks; this one runs nothing but the encoder.
        warnings.filterwarnings("ignore", message=r"os\.fork\(\) was called")
        writer = imageio_ffmpeg.write_frames(
            str(path),
            (width, height),
            fps=fps,  # pyright: ignore[reportArgumentType]  it takes any number
            macro_block_size=2,
            ffmpeg_log_level="error",
        )
        writer.send(None)
        for frame in frames:
            writer.send(np.ascontiguousarray(frame[:height, :width]))
        writer.close()
    return path


def write_strip(frames: NDArray[np.uint8], path: Path, *, indices: Sequence[int]) -> Path:
    """Writes key frames side by side as one PNG.

    Args:
      frames: [F, H, W, 3] pictures.
      path: file to write.
      indices: frames to show, from left to right.
    """
    from PIL import Image

    _check(frames)
    path.parent.mkdir(parents=True, exist_ok=True)
    strip = np.concatenate([np.pad(frames[i], ((2, 2), (2, 2), (0, 0))) for i in indices], axis=1)
    # 256 colours show a rendered scene as well, in about half of the bytes.
    Image.fromarray(strip).quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)
    return path


def annotate(frame: NDArray[np.uint8], text: str) -> NDArray[np.uint8]:
    """Returns a [H, W, 3] frame with `text` in its upper left corner, dark on a light bar."""
    from PIL import Image, ImageDraw, ImageFont

    image = Image.fromarray(frame)
    draw = ImageDraw.Draw(image)
    font = ImageFont.load_default(size=max(11, frame.shape[0] // 22))
    box = draw.textbbox((5, 3), text, font=font)
    draw.rectangle((0, 0, box[2] + 5, box[3] + 4), fill=(255, 255, 255))
    draw.text((5, 3), text, fill=(0, 0, 0), font=font)
    return np.asarray(image)


def titled(frames: NDArray[np.uint8], title: str) -> NDArray[np.uint8]:
    """Returns [F, H + h, W, 3] frames with a bar above them that says what is seen."""
    from PIL import Image, ImageDraw, ImageFont

    size = max(13, frames.shape[1] // 18)
    bar = Image.new("RGB", (frames.shape[2], size + 8), (32, 32, 32))
    font = ImageFont.load_default(size=size)
    ImageDraw.Draw(bar).text(
        (frames.shape[2] // 2, size // 2 + 4), title, fill=(255, 255, 255), font=font, anchor="mm"
    )
    bars = np.broadcast_to(np.asarray(bar), (len(frames), size + 8, frames.shape[2], 3))
    return np.concatenate([bars, frames], axis=1)


def side_by_side(parts: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """Joins films of equal frame size; one that ends earlier keeps its last frame.

    Wide pictures go below each other, so that a page shows them large enough.

    Args:
      parts: [F_i, H, W, 3] pictures.
    """
    count = max(map(len, parts))
    held = [
        np.concatenate([part, np.repeat(part[-1:], count - len(part), axis=0)]) for part in parts
    ]
    height, width = held[0].shape[1:3]
    return np.concatenate(held, axis=1 if width > 1.5 * height else 2)


def _gif(frames: NDArray[np.uint8], width: int, colours: int, seconds: float) -> bytes:
    from PIL import Image

    scale = min(1.0, width / frames.shape[2])
    size = (round(scale * frames.shape[2]), round(scale * frames.shape[1]))
    images = [Image.fromarray(frame).resize(size) for frame in frames]
    # One palette for all frames, else every frame carries its own and colours flicker.
    middle = images[len(images) // 2].quantize(colours)
    images = [image.quantize(palette=middle, dither=Image.Dither.NONE) for image in images]
    buffer = io.BytesIO()
    images[0].save(
        buffer,
        format="GIF",
        save_all=True,
        append_images=images[1:],
        duration=max(20, round(1000 * seconds)),
        loop=0,
    )
    return buffer.getvalue()


def _check(frames: NDArray[np.uint8]) -> None:
    if frames.ndim != 4 or frames.shape[-1] != 3 or len(frames) == 0:
        raise UserError(f"frames must be [F, H, W, 3] with F > 0, got shape {frames.shape}")


__all__ = [
    "GIF_BYTES",
    "GIF_WIDTH",
    "annotate",
    "side_by_side",
    "titled",
    "write_gif",
    "write_mp4",
    "write_strip",
]
