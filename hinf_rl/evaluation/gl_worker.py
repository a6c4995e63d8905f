"""Draws MuJoCo frames in a process of its own: `gl_worker.py FOLDER`, run as a script.

MuJoCo chooses its GL library when it is first imported, from `MUJOCO_GL`, and a broken driver may
end the process. Here neither can touch the caller, which tries one library after the other.
Reads `model.mjb` and `scene.npz` from FOLDER and writes `frames.npy` there.
"""

# MuJoCo's compiled module carries no types.
# pyright: reportAttributeAccessIssue=false

import sys
from pathlib import Path

import mujoco
import numpy as np

_ARROW_RADIUS_M = 0.018
_ABOVE_M = 0.13
_RED = np.array([0.85, 0.1, 0.1, 1.0], np.float32)


def main(folder: Path) -> None:
    """Draws every pose of `scene.npz` with its force as an arrow on the followed body."""
    model = mujoco.MjModel.from_binary_path(str(folder / "model.mjb"))
    data = mujoco.MjData(model)
    scene = dict(np.load(folder / "scene.npz"))
    body = int(scene["body"])
    camera = mujoco.MjvCamera()
    camera.distance, camera.azimuth, camera.elevation = (float(x) for x in scene["camera"])
    frames = []
    with mujoco.Renderer(model, int(scene["height"]), int(scene["width"])) as renderer:
        for qpos, arrow in zip(scene["qpos"], scene["arrow_m"], strict=True):
            data.qpos[:] = qpos
            mujoco.mj_forward(model, data)
            camera.lookat[:] = data.xpos[body]
            renderer.update_scene(data, camera)
            if np.any(arrow):
                # Above the body, which would hide an arrow that points away from the camera.
                start = data.xipos[body] + np.array([0.0, 0.0, _ABOVE_M])
                _add_arrow(renderer.scene, start, start + arrow)
            frames.append(renderer.render().copy())
    np.save(folder / "frames.npy", np.array(frames, np.uint8))


def _add_arrow(scene: mujoco.MjvScene, start: np.ndarray, end: np.ndarray) -> None:
    if scene.ngeom >= scene.maxgeom:
        return
    geom = scene.geoms[scene.ngeom]
    kind = mujoco.mjtGeom.mjGEOM_ARROW
    mujoco.mjv_initGeom(geom, kind, np.zeros(3), np.zeros(3), np.zeros(9), _RED)
    mujoco.mjv_connector(geom, kind, _ARROW_RADIUS_M, start, end)
    scene.ngeom += 1


if __name__ == "__main__":
    main(Path(sys.argv[1]))
