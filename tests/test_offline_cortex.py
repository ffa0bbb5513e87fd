"""Networks for simulated movies: they are taught what the engine sees, and figures are of what it says."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from offline import cortex_training, train_cortex
from offline.cortex_clips import Clip, area_means, clip, cortex, layout
from offline.cortex_evaluation import Said, figures, listen, onset_delays_s, trailing
from offline.cortex_report import page
from offline.cortex_training import Network, Recipe
from offline.pages import wrapped
from streamscore.bundle import Bundle, Spec, find_bundle, load_bundle, shipped_bundles
from streamscore.models import cnn_bilstm, efficientnet
from streamscore.preprocess.base import Chain

DOCS = Path(__file__).parents[1] / "docs" / "models"
SHAPE = (16, 16)
BILSTM = {"n_filters": 4, "n_blocks": 3, "n_hidden": 6, "attention_frames": 10, "epoch_frames": 10}
GRU = {"rnn": "gru", "variant": "causal", "width": 0.25, "depth": 0.3, "n_hidden": 6, "n_layers": 1}
RECIPE = Recipe(frame_steps=20, frame_batch=12, frame_lr=1e-2, steps=25, batch=6, lr=1e-2, sequence_frames=10)


def bilstm(variant: str, **changes: object) -> cnn_bilstm.CnnBilstm:
    torch.manual_seed(0)
    args = {**BILSTM, "frame_shape": SHAPE, "variant": variant, "sfreq": 10.0, **changes}
    return cnn_bilstm.build(cnn_bilstm.Config(**args))


def gru() -> efficientnet.EfficientNetDecoder:
    torch.manual_seed(0)
    return efficientnet.build(efficientnet.Config(**GRU, frame_shape=SHAPE))


def toy(seed: int = 0, n_classes: int = 3, n: int = 240) -> Clip:
    """Frames whose brightest part tells the class, which changes every 40 frames."""
    rng = np.random.default_rng(seed)
    codes = (np.arange(n) // 40) % n_classes
    x = 0.5 * rng.standard_normal((n, *SHAPE))
    for k in range(n_classes):
        x[codes == k, 5 * k : 5 * k + 5] += 1.5
    areas = np.stack([x[:, 5 * k : 5 * k + 5].mean(axis=(1, 2)) for k in range(3)], axis=1)
    return Clip(seed, x.astype(np.float16), codes.astype(np.int64), areas.astype(np.float32))


@pytest.fixture(scope="module")
def spec() -> Spec:
    """A small camera with one light, whose baselines warm up within a second."""
    plan = replace(train_cortex.PLANS[train_cortex.Task.RUNREST], frame_shape=(24, 24))
    described = train_cortex.spec(plan, train_cortex.Net("small", GRU))
    steps = [{**step, "warm_up_s": 1.0} if "warm_up_s" in step else step for step in described.preprocess]
    return described.model_copy(update={"preprocess": tuple(steps)})


def test_a_clip_is_what_the_chain_makes_of_the_movie(spec: Spec, tmp_path: Path) -> None:
    made = clip(tmp_path, spec, 3, 600.0, 2.0)
    movie = cortex(spec, 3, 600.0).read(90)
    x = Chain(spec.preprocess, layout(spec)).push(movie.frames.astype(np.float32), 0)[30:, 0]
    np.testing.assert_array_equal(made.x, x.astype(np.float16))
    np.testing.assert_array_equal(made.codes, movie.running[30:])
    brain = cortex(spec, 3, 600.0).areas == 2
    np.testing.assert_allclose(made.areas[:, 1], x[:, brain].mean(axis=1), atol=1e-5)
    (path,) = tmp_path.glob("*.npy")
    before = path.stat().st_mtime_ns
    clip(tmp_path, spec, 3, 600.0, 2.0)
    assert path.stat().st_mtime_ns == before
    clip(tmp_path, spec.model_copy(update={"preprocess": spec.preprocess[:2]}), 3, 600.0, 2.0)
    assert len(list(tmp_path.glob("*.npy"))) == 2


def test_area_means() -> None:
    areas = np.array([[1, 1], [0, 2]], np.int16)
    x = np.array([[[1.0, 3.0], [9.0, 5.0]]], np.float32)
    assert area_means(x, areas, 2).tolist() == [[2.0, 5.0]]


def test_focal_loss() -> None:
    logits, codes = torch.randn(20, 3), torch.arange(20) % 3
    torch.testing.assert_close(cortex_training.focal_loss(logits, codes, 0.0), F.cross_entropy(logits, codes))
    p = torch.softmax(logits[:1], dim=1)[0, 0]
    torch.testing.assert_close(cortex_training.focal_loss(logits[:1], codes[:1], 2.0), -((1 - p) ** 2) * p.log())


def test_classes_are_drawn_equally_often() -> None:
    codes = np.array([0] * 97 + [1, 2, 2])
    picked = cortex_training.drawn(codes, 30, np.random.default_rng(0))
    assert np.bincount(codes[picked]).tolist() == [10, 10, 10]


@pytest.mark.parametrize(
    "model", [bilstm("causal"), bilstm("lookahead", max_look_ahead_s=0.5, look_ahead_s=0.3), gru()]
)
def test_what_is_taught_is_what_runs(model: Network) -> None:
    """The features of a clip and what follows them give the logits of the network's only forward."""
    movie = toy(n=50)
    features, codes = cortex_training.features_of(model, movie)
    logits, lag = cortex_training.unroll(model, features[None])
    assert codes.tolist() == movie.codes.tolist()
    x = torch.from_numpy(movie.x.astype(np.float32))
    if isinstance(model, efficientnet.EfficientNetDecoder):
        x = torch.cat((x[:1], x[:1], x))  # before its start the first frame stands
    with torch.inference_mode():
        expected, _ = model(x[None], model.initial_state(1))
        if isinstance(model, efficientnet.EfficientNetDecoder):
            images = torch.stack([x[k : k + 3] for k in range(50)])
            assert model.rnn is not None
            z = model.head(model.rnn(model.cnn.features(images)[None])[0])
            expected = torch.cat((-z / 2, z / 2), dim=-1)[:, :, None]
    torch.testing.assert_close(logits, expected, atol=1e-5, rtol=0)
    assert lag == model.timing.look_ahead_samples
    later, _ = cortex_training.unroll(model, features[None], first=20)
    torch.testing.assert_close(later, logits[:, 20:])


def test_one_set_of_weights_takes_any_look_ahead() -> None:
    model = bilstm("lookahead", max_look_ahead_s=1.0, look_ahead_s=0.0)
    features = torch.randn(1, 30, 4)
    for n_ahead in (0, 3, 10):
        cortex_training.with_look_ahead(model, n_ahead)
        built = bilstm("lookahead", max_look_ahead_s=1.0, look_ahead_s=n_ahead / 10)
        built.load_state_dict(model.state_dict())
        with torch.inference_mode():
            logits, lag = cortex_training.unroll(model, features)
            expected, _ = built.advance(features, built.initial_state(1))
        assert lag == n_ahead == built.timing.look_ahead_samples
        torch.testing.assert_close(logits, expected)


def test_each_read_is_asked_about_the_frame_it_describes(monkeypatch: pytest.MonkeyPatch) -> None:
    codes = torch.randint(0, 3, (2, 40))
    right = 20.0 * F.one_hot(codes, 3)
    logits = torch.stack((right, right.roll(7, dims=1)), dim=2)  # the second read says it 7 frames later
    for lag, is_right in ((7, True), (6, False)):
        monkeypatch.setattr(cortex_training, "unroll", lambda *_, lag=lag: (logits[:, 10:], lag))
        loss = cortex_training.loss_of(bilstm("causal"), torch.zeros(2, 40, 4), codes, 10, 2.0)
        assert (loss < 1e-6) == is_right


def trained(kind: str, recipe: Recipe) -> Network:
    """Train on two toys; whatever comes second must leave the part that sees frames as it is."""
    n_classes, n_ahead = (2, 0) if kind == "gru" else (3, 5 if kind == "lookahead" else 0)
    model: Network = gru() if kind == "gru" else bilstm(kind, max_look_ahead_s=n_ahead / 10)
    clips, told = [toy(seed, n_classes) for seed in (0, 1, 2)], list[str]()
    cortex_training.teach_frames(model, clips[:2], recipe, 0, told.append)
    taught = {name: value.clone() for name, value in model.cnn.state_dict().items()}
    *features, held = (cortex_training.features_of(model, one) for one in clips)
    model = cortex_training.teach_time(model, features, [held], recipe, 0, told.append, n_ahead)
    for name, value in model.cnn.state_dict().items():
        assert torch.equal(value, taught[name])
    return model


@pytest.mark.parametrize("kind", ["causal", "lookahead", "gru"])
def test_training_learns(kind: str) -> None:
    model, unseen = trained(kind, RECIPE), toy(3, 2 if kind == "gru" else 3)
    with torch.inference_mode():
        logits, lag = cortex_training.unroll(model, cortex_training.features_of(model, unseen)[0][None])
    said = logits[0, :, -1].argmax(dim=-1).numpy()[lag:]
    assert (said == unseen.codes[: len(said)])[20:].mean() > 0.75


def test_training_repeats() -> None:
    few = replace(RECIPE, frame_steps=3, steps=3)
    first, again = (trained("lookahead", few).state_dict() for _ in range(2))
    for name, value in first.items():
        assert torch.equal(value, again[name]), name


def test_batch_norms_end_with_the_means_of_the_batches() -> None:
    model = gru().train()
    batches = [torch.randn(8, 3, *SHAPE) + k for k in range(3)]
    cortex_training.settle_norms(model, batches)
    stem = model.cnn._bn0
    with torch.no_grad():
        expected = torch.stack([model.cnn._conv_stem(batch).mean(dim=(0, 2, 3)) for batch in batches]).mean(dim=0)
    torch.testing.assert_close(stem.running_mean, expected, atol=1e-4, rtol=1e-4)
    assert stem.momentum == 0.01


def test_what_is_heard_is_what_the_scorer_says(spec: Spec) -> None:
    torch.manual_seed(1)
    model = efficientnet.build(efficientnet.Config(**spec.model_args))
    bundle = Bundle(spec, model, sha256="")
    codes, areas, said = listen({"net": bundle}, 0, 600.0, 3.0)
    movie = cortex(spec, 0, 600.0).read(90)
    x = torch.from_numpy(bundle.chain().push(movie.frames.astype(np.float32), 0)[:, 0])
    with torch.inference_mode():
        logits, _ = model(x[None, 30:], model.initial_state(1))
    first = 30 + model.timing.warm_up_samples - 1
    assert np.isnan(said["net"].probs[:first]).all()
    expected = torch.softmax(logits[0, :, 0], dim=-1).numpy()[first - 30 :]
    np.testing.assert_allclose(said["net"].probs[first:], expected, atol=1e-4)
    np.testing.assert_array_equal(codes, movie.running)
    assert areas.shape == (90, 28)


def test_onsets_are_timed_from_the_first_frame_of_the_bout() -> None:
    codes = np.array([0] * 30 + [1] * 30 + [0] * 30 + [1] * 5 + [0] * 30 + [1] * 30)
    scored = np.zeros_like(codes)
    scored[42:60] = 1
    assert onset_delays_s(codes, scored, 1, 10.0)[0] == pytest.approx(1.2)
    assert np.isnan(onset_delays_s(codes, scored, 1, 10.0)[1])  # the short bout does not count, the last is missed
    assert len(onset_delays_s(codes, scored, 1, 10.0)) == 2
    assert onset_delays_s(codes, np.full_like(codes, -1), 1, 10.0) == []


def test_figures_add_the_lag_and_leave_out_what_was_not_said() -> None:
    codes = np.array([0] * 30 + [1] * 30 + [0] * 30)
    probs = np.stack((1.0 - codes, codes), axis=1).astype(np.float32)
    probs[:10] = np.nan
    row = figures([codes], Said(probs, 0.5), ("rest", "run"), 10.0)
    assert row["accuracy"] == row["kappa"] == row["auc"]["run"] == row["recall"]["run"] == 1.0
    assert row["scored"] == pytest.approx(80 / 90)
    assert row["onsets"]["run"] == {"bouts": 1, "found": 1, "median_s": 0.5}


def test_trailing_mean_and_spread() -> None:
    areas = np.random.default_rng(0).standard_normal((30, 2)).astype(np.float32)
    rows = trailing(areas, 8)
    np.testing.assert_allclose(rows[20, :2], areas[13:21].mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(rows[20, 2:], np.log(areas[13:21].std(axis=0)), atol=1e-4)


def test_wrapping_leaves_tables_alone() -> None:
    row = "| " + "x " * 80 + "|"
    page = wrapped(f"# Title\n\n{'word ' * 50}\n\n{row}\n{row}")
    assert f"\n\n{row}\n{row}\n" in page
    assert all(len(line) <= 115 for line in page.splitlines() if not line.startswith("|"))


def test_page_of_figures_names_every_row() -> None:
    codes = np.array([0] * 30 + [1] * 30 + [0] * 30)
    row = figures([codes], Said(np.eye(2, dtype=np.float32)[codes], 0.5), ("rest", "run"), 10.0)
    run = {"command": "c", "date": "d", "git_commit": "g", "machine": "m", "wall_s": 2, "cpu_s": 1}
    training = {"animals": 1, "clip_s": 10.0}
    results = {"task": "runrest", "run": run, "training": training, "testing": {"animals": 1, "duration_s": 9.0}}
    text = page([{**results, "test": {"a net": row, "logistic regression": row}}])
    assert "SIMULATED" in text
    assert "| a net | 0.5 | 1.000 | 1.000 | 1.00 | 1.00 | 1.000 | 0.50 (1 of 1) | 0.50 (1 of 1) |" in text
    assert "| logistic regression | 0.5 |" in text


@pytest.mark.parametrize(
    "net", [net for plan in train_cortex.PLANS.values() for net in plan.nets], ids=lambda n: n.name
)
def test_shipped_bundles_say_that_they_are_simulated(net: train_cortex.Net) -> None:
    assert net.name in shipped_bundles()
    assert find_bundle(net.name).stat().st_size < 1_000_000
    described = load_bundle(net.name).spec
    assert (DOCS / f"{net.name}.md").read_text(encoding="utf-8") == described.card
    assert "SIMULATED" in described.card
    assert "medical use" in described.card
    row = described.provenance["test"][net.name]
    assert f"{row['kappa']:.3f}" in described.card
    assert row["kappa"] > 0.6
    assert row["scored"] > 0.7
