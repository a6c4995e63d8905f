"""Problems: trajectories replayed in NumPy, rewards by hand, host rewards that fail."""

import io

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from hinf_rl.diffusion import PretrainConfig, ScheduleConfig
from hinf_rl.diffusion.black_box import host_reward
from hinf_rl.diffusion.images import ImagesConfig, jpeg_size, make_images, shifted_templates
from hinf_rl.diffusion.problem import decision_log_prob, flatten_rows
from hinf_rl.diffusion.reach import ReachConfig, demonstrations, make_reach
from hinf_rl.diffusion.ring import RingConfig, make_ring
from hinf_rl.errors import UserError

SMALL = {
    "hidden": (16,),
    "schedule": ScheduleConfig(steps=3, sigma_min=0.2),
    "pretrain": PretrainConfig(steps=20, batch=64),
}


@pytest.fixture(scope="module")
def reach():
    problem = make_reach(ReachConfig(**SMALL))
    params = jax.jit(problem.pretrain)(jax.random.key(0))
    context = problem.draw_contexts(jax.random.key(1), 40)
    found = jax.jit(problem.rollout)(jax.random.key(2), params, context)
    return problem, params, context, jax.tree.map(np.asarray, found)


def test_an_episode_is_its_chunks_replayed(reach):
    problem, _, context, found = reach
    assert found.decisions.x.shape == (40, 4 * 3, 8)
    position = np.asarray(context, np.float64)
    for chunk in range(4):
        rows = slice(3 * chunk, 3 * chunk + 3)
        # Every step of a chunk is conditioned on where the robot was at its start.
        for k in range(3):
            condition = found.decisions.condition[:, rows][:, k]
            np.testing.assert_allclose(condition, position, atol=1e-5)
        actions = found.decisions.x_next[:, rows][:, -1].reshape(40, 4, 2)
        for t in range(4):
            position = position + 0.15 * np.clip(actions[:, t], -1, 1)
            np.testing.assert_allclose(
                found.outcome["path"][:, 1 + 4 * chunk + t], position, atol=1e-5
            )
    np.testing.assert_array_equal(found.decisions.step[0], [0, 1, 2] * 4)
    np.testing.assert_allclose(found.outcome["final"], position, atol=1e-5)
    assert problem.num_decisions == 12


def test_the_reach_reward_is_that_of_its_definition(reach):
    problem, _, context, found = reach
    path = np.asarray(found.outcome["path"], np.float64)
    hit = (np.linalg.norm(path[:, 1:], axis=-1) < 0.35).any(axis=1)
    expected = np.exp(-3 * np.linalg.norm(path[:, -1] - [1, 0], axis=-1)) - hit
    reward = problem.reward(found.outcome, context)
    np.testing.assert_allclose(reward, expected, atol=1e-5)
    chunks = problem.chunk_rewards(found.outcome)
    assert chunks.shape == (40, 4)
    np.testing.assert_allclose(chunks.sum(axis=1), expected, atol=1e-5)
    measured = problem.measure(found.outcome, context)
    np.testing.assert_array_equal(measured["collision"], hit)


def test_a_collision_costs_once_and_ends_no_success(reach):
    problem, *_ = reach
    outcome = {
        "hits": jnp.array([[False, True, True, False], [False] * 4]),
        "final": jnp.array([[1.0, 0.0], [1.0, 0.1]], jnp.float32),
        "path": jnp.zeros((2, 17, 2), jnp.float32),
    }
    chunks = problem.chunk_rewards(outcome)
    np.testing.assert_allclose(chunks[0], [0, -1, 0, 1], atol=1e-6)
    np.testing.assert_allclose(chunks[1], [0, 0, 0, np.exp(-0.3)], rtol=1e-5)
    measured = problem.measure(outcome, jnp.zeros((2, 2), jnp.float32))
    np.testing.assert_array_equal(measured["success"], [0, 1])


def test_rollouts_repeat_and_decisions_carry_their_log_probability(reach):
    problem, params, context, found = reach
    again = jax.jit(problem.rollout)(jax.random.key(2), params, context)
    np.testing.assert_array_equal(again.outcome["path"], found.outcome["path"])
    rows = flatten_rows(found.decisions, 2)
    table = decision_log_prob(problem.model, params, rows)
    assert table.shape == (40 * 12,) and np.isfinite(table).all()
    masked = decision_log_prob(problem.model, params, rows._replace(valid=jnp.arange(480) % 2 == 0))
    np.testing.assert_array_equal(masked, np.where(np.arange(480) % 2 == 0, table, 0.0))


def test_demonstrations_pass_the_disc_on_both_sides(key):
    config = ReachConfig(demo_noise=0.0)
    state, action = (np.asarray(x) for x in demonstrations(key, config))
    assert state.shape == (16_000, 2) and action.shape == (16_000, 8)
    start = state.reshape(4, 4000, 2)
    np.testing.assert_allclose(start[0, :, 0], -1.0)
    # Half of them lie above at the third chunk; none near the disc; all arrive.
    assert 0.4 < (start[2, :, 1] > 0).mean() < 0.6
    last = start[3] + 0.15 * action.reshape(4, 4000, 4, 2)[3].sum(axis=1)
    assert np.linalg.norm(last - [1.0, 0.0], axis=-1).max() < 0.05


def test_ring_measures_by_hand():
    problem = make_ring(RingConfig(**SMALL))
    context = jnp.array([[3.0, 4.0, 2.0, 9.0], [0.0, -2.0, 0.0, 0.0]], jnp.float32)
    outcome = {"sample": jnp.array([[1.0, 0.0], [0.0, 0.5]], jnp.float32)}
    measured = problem.measure(outcome, context)
    np.testing.assert_allclose(measured["alignment"], [0.6, -0.5], rtol=1e-6)
    np.testing.assert_allclose(measured["off_ring"], [0.0, 0.5], atol=1e-6)
    # The third number of the context is worth 3 and is the same for all samples of it.
    np.testing.assert_allclose(problem.reward(outcome, context), [6.6, -0.5], rtol=1e-6)


@pytest.mark.parametrize("shift", [0, 2])
def test_templates_are_told_apart_whatever_brightness_and_shift(shift):
    config = ImagesConfig(side=16, shift=shift, **SMALL)
    problem = make_images(config)
    template = shifted_templates(config)
    assert template.shape == (4, (2 * shift + 1) ** 2, 256)
    for label in range(4):
        picture = jnp.asarray(0.5 * template[label, -1] + 0.2)[None]
        context = jax.nn.one_hot(jnp.array([label]), 4, dtype=jnp.float32)
        measured = problem.measure({"sample": picture}, context)
        assert float(measured["class_accuracy"][0]) == 1.0
        assert float(measured["likeness"][0]) == pytest.approx(1.0, abs=1e-4)
    ids = problem.context_ids(jnp.eye(4, dtype=jnp.float32))
    np.testing.assert_array_equal(ids, [0, 1, 2, 3])


def test_the_quantised_reward_has_no_slope_and_ignores_the_class():
    problem = make_images(ImagesConfig(**SMALL))
    pictures = jnp.array([[0.1] * 64, [0.2] * 64, [7.0] * 64], jnp.float32)
    context = jnp.eye(3, 4, dtype=jnp.float32)
    reward = problem.reward({"sample": pictures}, context)
    np.testing.assert_allclose(reward, [0.0, 0.25, 1.0])
    slope = jax.grad(lambda x: problem.reward({"sample": x}, context).sum())(pictures)
    assert not np.any(slope)


def test_jpeg_reward_is_the_size_of_the_file_and_runs_compiled():
    problem = make_images(ImagesConfig(side=16, reward="compressible", **SMALL))
    noise = np.random.default_rng(0).uniform(-1, 1, (3, 256)).astype(np.float32)
    noise[0] = 0.0
    context = jnp.zeros((3, 4), jnp.float32)
    found = jax.jit(problem.reward)({"sample": jnp.asarray(noise)}, context)
    grey = Image.fromarray(np.full((16, 16), 128, np.uint8))
    file = io.BytesIO()
    grey.save(file, "JPEG", quality=75)
    assert float(found[0]) == pytest.approx(-len(file.getvalue()) / 100)
    assert found[1] < found[0] and found[2] < found[0]
    np.testing.assert_allclose(found, jpeg_size(noise, None))
    # Two seeds side by side are one batch of rows.
    both = jax.jit(jax.vmap(problem.reward))(
        {"sample": jnp.stack([noise, noise[::-1]])}, jnp.stack([context, context])
    )
    np.testing.assert_allclose(both, np.stack([found, found[::-1]]))


def test_the_classifier_reward_prefers_the_next_class():
    config = ImagesConfig(reward="relabelled", **SMALL)
    problem = make_images(config)
    template = jnp.asarray(shifted_templates(config)[:, 0])
    context = jnp.tile(jnp.eye(4, dtype=jnp.float32)[:1], (4, 1))
    reward = problem.reward({"sample": template}, context)
    assert int(np.argmax(reward)) == 1 and float(reward[0]) < -1.0


OUTCOME = {"sample": jnp.ones((3, 2), jnp.float32)}
CONTEXT = jnp.zeros((3, 1), jnp.float32)


def test_a_reward_that_fails_once_is_asked_again():
    calls = []

    def flaky(samples, contexts):
        calls.append(len(samples))
        if len(calls) == 1:
            raise ConnectionError("try later")
        return samples[:, 0] + (np.nan if len(calls) == 2 else 0.0)

    found = host_reward(flaky, name="remote")(OUTCOME, CONTEXT)
    np.testing.assert_array_equal(found, np.ones(3))
    assert calls == [3, 3, 3]


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda s, c: s, "returned shape (3, 2) for 3 samples; it must return (3,)"),
        (lambda s, c: np.full(3, np.inf), "failed in 2 tries: the last returned inf for sample 0"),
        (lambda s, c: 1 / 0, "failed in 2 tries: the last raised ZeroDivisionError"),
    ],
)
def test_a_reward_that_keeps_failing_says_how(function, message):
    with pytest.raises(Exception) as caught:
        jax.block_until_ready(host_reward(function, name="score", retries=1)(OUTCOME, CONTEXT))
    assert message in str(caught.value) and "'score'" in str(caught.value)


def test_a_reward_may_give_several_numbers():
    found = host_reward(lambda s, c: 2 * s, name="pair", num_rewards=2)(OUTCOME, CONTEXT)
    np.testing.assert_array_equal(found, 2 * np.ones((3, 2)))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RingConfig(modes=0), "modes must be at least 1"),
        (lambda: ReachConfig(chunks=0), "chunks must be at least 1"),
        (lambda: ReachConfig(obstacle_radius=2.0), "obstacle_radius must lie in"),
        (lambda: ReachConfig(demo_noise=-1.0), "demo_noise must not be negative"),
        (lambda: ImagesConfig(reward="bright"), "did you mean 'brightness'"),
        (lambda: ImagesConfig(network="cnn"), "unknown network 'cnn'"),
        (lambda: ImagesConfig(side=9, network="unet"), "divide by 2 for 2 resolutions, got 9"),
        (lambda: ImagesConfig(shift=4), "shift must lie in"),
    ],
)
def test_wrong_settings_are_named(make, message):
    with pytest.raises(UserError, match=message):
        make()
