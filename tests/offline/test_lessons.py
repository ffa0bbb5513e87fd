"""What a lesson compares: outputs with the steps that they describe, states that go on or begin."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from offline.constants import find_constants
from offline.examples import Batch, Cut, assemble, plan_in_order
from offline.learner import Learner, make_optimizer
from offline.lessons import Stream, make_lesson, past_steps
from offline.pictures import draw
from offline.recipe import Optimizer, Stage
from offline.sequences import Sequences
from offline.stages import _shared
from streamscore import plugins
from streamscore.bundle import Spec
from streamscore.errors import ConfigError
from streamscore.models import deepsleepnet, seqsleepnet, sleepeegnet, tinysleepnet, vgg16
from streamscore.models.base import Read, ScoringModel, State, Timing

N_CLASSES = 5
STEP = 4


class Echo(ScoringModel):
    """Says what it is shown: each epoch of its input holds the code of that epoch.

    Parameters
    ----------
    lags
        Of its reads, in epochs.
    step_epochs
        Epochs that it takes at a time; then every position of the step is read.
    chunk_steps
        As in :class:`~streamscore.models.base.Timing`.
    """

    def __init__(self, lags: tuple[int, ...], step_epochs: int = 1, chunk_steps: int = 0) -> None:
        super().__init__()
        self.n_channels, self.n_classes = 1, N_CLASSES
        self.lags, self.step_epochs = lags, step_epochs
        self.timing = Timing(
            step_epochs * STEP,
            tuple(Read(lag * STEP, max(lag + 1, step_epochs) * STEP) for lag in lags),
            None,
            epoch_samples=STEP,
            chunk_steps=chunk_steps,
        )

    def initial_state(self, batch_size: int) -> State:
        return (torch.zeros(batch_size, max(self.lags)),)

    def forward(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        n_steps = self.check_input(x)
        heard = torch.cat((state[0], x[:, 0, ::STEP]), dim=1)  # codes, a column an epoch
        newest = heard.shape[1] - 1 - self.step_epochs * torch.arange(n_steps - 1, -1, -1)
        codes = torch.stack([heard[:, newest - lag] for lag in self.lags], dim=2).long()
        return 100.0 * F.one_hot(codes, N_CLASSES).float(), (heard[:, heard.shape[1] - max(self.lags) :],)


def night(n_steps: int, seed: int = 0, runs: tuple[tuple[int, int], ...] = ()) -> Sequences:
    """A recording whose samples are the code of their step."""
    y = np.random.default_rng(seed).integers(0, N_CLASSES, n_steps)
    x = np.repeat(y, STEP).reshape(n_steps, 1, STEP).astype(np.float32)
    return Sequences("night", x, y, np.arange(n_steps), runs or ((0, n_steps),), n_steps)


def asked(lesson: Any, data: list[Sequences], n_steps: int) -> tuple[Tensor, Tensor]:
    """Codes said and wanted at all asked outputs, going through the recordings with the state carried."""
    state, said, wanted = None, [], []
    for cuts in plan_in_order(data, n_steps, batch=4):
        batch = assemble(data, cuts, past_steps(lesson.model.timing))
        logits, codes, state = lesson.ask(lesson.model, batch, state)
        said.append(logits.argmax(dim=2)[codes >= 0])
        wanted.append(codes[codes >= 0])
    return torch.cat(said), torch.cat(wanted)


@pytest.mark.parametrize("n_steps", [3, 7, 50])
def test_each_read_is_compared_with_the_step_that_it_describes(n_steps: int) -> None:
    data = [night(20), night(13, seed=1, runs=((0, 5), (5, 13)))]
    said, wanted = asked(Stream(Echo(lags=(0, 2))), data, n_steps)
    assert torch.equal(said, wanted)
    # At lag 0 all steps, at lag 2 all but the last two of each run, however the runs are cut.
    assert len(said) == (20 + 13) + (18 + 3 + 6)


def test_a_network_of_windows_is_asked_at_all_positions() -> None:
    data = [night(12), night(9, seed=1)]
    said, wanted = asked(Stream(Echo(lags=(0, 1, 2), step_epochs=3)), data, n_steps=6)
    assert torch.equal(said, wanted)
    assert len(said) == 12 + 9


def test_a_network_of_chunks_is_asked_when_they_close() -> None:
    said, wanted = asked(Stream(Echo(lags=(0, 1, 2, 3), chunk_steps=4)), [night(16)], n_steps=8)
    assert torch.equal(said, wanted)
    assert len(said) == 16


def test_context_is_not_asked() -> None:
    data, model = [night(20)], Echo(lags=(0,))
    batch = assemble(data, [Cut(0, 4, 12)], n_past=0, first=5)
    _, codes, _ = Stream(model).ask(model, batch, None)
    assert codes[0].tolist() == [-1] * 5 + data[0].y[9:12].tolist()


def network(**args: Any) -> deepsleepnet.DeepSleepNet:
    torch.manual_seed(0)
    small = {"sfreq": 32.0, "epoch_s": 4.0, "n_filters": 4, "n_hidden": 6, "chunk_epochs": 5}
    if args:
        del small["chunk_epochs"]
    return deepsleepnet.build(deepsleepnet.Config(**small, **args)).eval()


def noise(n_steps: int, seed: int = 0, samples: int = 128) -> Sequences:
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n_steps, 1, samples)).astype(np.float32)
    return Sequences(f"noise{seed}", x, rng.integers(0, 5, n_steps), np.arange(n_steps), ((0, n_steps),), n_steps)


def test_chunks_are_the_closing_reads_of_the_engine() -> None:
    model, data = network(), [noise(15), noise(15, seed=1)]
    batches = [assemble(data, cuts, 4) for cuts in plan_in_order(data, 5, batch=2)]
    lessons = make_lesson("chunks", model), make_lesson("stream", model)
    states: list[State | None] = [None, None]
    for batch in batches:
        (quick, codes, states[0]), (slow, closing, states[1]) = (
            lesson.ask(model, batch, state) for lesson, state in zip(lessons, states, strict=True)
        )
        newest_first = slow.reshape(2, 5, 5, 5)[:, :, -1]  # lag, step → at the last step, all lags
        torch.testing.assert_close(quick, newest_first.flip(1), atol=1e-5, rtol=1e-4)
        assert torch.equal(codes, closing.reshape(2, 5, 5)[:, :, -1].flip(1))
        assert (closing >= 0).sum() == (codes >= 0).sum() == 10


def test_rows_that_go_on_keep_their_state_and_others_begin() -> None:
    model = tinysleepnet.build(tinysleepnet.Config(sfreq=32.0, epoch_s=4.0, n_filters=4, n_hidden=6))
    data = [noise(8), noise(8, seed=1)]
    lesson = make_lesson("stream", model)
    whole = lesson.ask(model, assemble(data, [Cut(0, 0, 8), Cut(1, 4, 8)], 0), None)[0]
    _, _, state = lesson.ask(model, assemble(data, [Cut(0, 0, 4), Cut(1, 0, 4)], 0), None)
    goes_on, begins = Cut(0, 4, 8, seen=4), Cut(1, 4, 8)
    second = lesson.ask(model, assemble(data, [goes_on, begins], 0), state)[0]
    torch.testing.assert_close(second[0], whole[0, 4:])
    torch.testing.assert_close(second[1], whole[1, :4])


def test_the_cnns_are_taught_alone_and_are_those_of_the_network() -> None:
    model = network()
    lesson = make_lesson("epoch_cnn", model).train()
    batch = assemble([noise(6)], [Cut(0, 0, 3), Cut(0, 3, 6)], 4)
    logits, codes, _ = lesson.ask(model, batch, None)
    assert logits.shape == (2, 3, 5)
    assert torch.equal(codes, batch.y[:, 4:])
    logits.sum().backward()
    moved = {name for name, p in model.named_parameters() if p.grad is not None}
    assert moved == {name for name, _ in model.named_parameters() if name.startswith("cnn.")}
    assert {id(kernel) for kernel in lesson.kernels()} <= {id(p) for p in model.parameters()}


def test_the_decoder_is_told_the_stages_and_asked_for_the_end() -> None:
    config = sleepeegnet.Config(sfreq=32.0, epoch_s=4.0, window_epochs=3, n_filters=2, n_hidden=4)
    model = sleepeegnet.build(config)
    lesson = make_lesson("decoder", model)
    data = noise(6)
    data.y[4] = -1
    batch = assemble([data], [Cut(0, 0, 3), Cut(0, 3, 6)], past_steps(model.timing))
    logits, codes, _ = lesson.train().ask(model, batch, None)
    assert logits.shape == (2, 4, 7)  # three stages and the end; five classes, start and end
    assert codes[0].tolist() == [*data.y[:3].tolist(), 6]
    assert codes[1].tolist() == [-1] * 4  # a stage that is not known cannot be told
    logits, codes, _ = lesson.eval().ask(model, batch, None)
    assert logits.shape == (2, 3, 5)  # by itself, as the engine runs it, and where it can be compared
    assert sorted(codes[1].tolist()) == sorted(data.y[3:].tolist())


def picture_network(**args: Any) -> vgg16.Vgg16:
    torch.manual_seed(0)
    small: dict[str, Any] = {"n_classes": 5, "sfreq": 32.0, "epoch_s": 8.0, "stride_s": 8.0, "max_hz": 16.0}
    small |= {"image_size": 32, "n_filters": 2, "n_hidden": 8, "context_epochs": 1, "window_s": 2.0}
    return vgg16.build(vgg16.Config(**small, **args)).eval()


def loud(n_steps: int, seed: int = 0) -> Sequences:
    recording = noise(n_steps, seed, samples=256)
    return replace(recording, x=6.0 * recording.x)


def test_pictures_are_those_that_the_engine_shows_the_network(tmp_path: Path) -> None:
    model = picture_network(equalisation="running")
    recording = replace(loud(30), runs=((0, 14), (14, 30)))
    recording.step[14:] += 3  # a gap of three steps
    drawn = draw(model, recording, tmp_path)
    lesson = make_lesson("images", model)
    batch = assemble([drawn], [Cut(0, 0, len(drawn.y))], n_past=0)
    logits, codes, _ = lesson.ask(model, batch, None)

    state = model.initial_state(1)
    lag = model.timing.look_ahead_samples // 256
    first = -(-model.timing.warm_up_samples // 256) - 1
    said, wanted, steps = [], [], []
    for begin, end in recording.runs:
        if begin:
            state = model.state_after_gap(state, 3)
        heard, state = model(torch.from_numpy(recording.x[begin:end].reshape(1, 1, -1)), state)
        said.append(heard[0, first:, 0])
        wanted += recording.y[begin + first - lag : end - lag].tolist()
        steps += recording.step[begin + first - lag : end - lag].tolist()
    torch.testing.assert_close(logits[0], torch.cat(said), atol=1e-5, rtol=1e-4)
    assert codes[0].tolist() == wanted
    assert drawn.step.tolist() == steps
    assert [end - begin for begin, end in drawn.runs] == [14 - first, 16 - first]


def test_pictures_are_drawn_once(tmp_path: Path) -> None:
    model, recording = picture_network(equalisation="running"), noise(12, samples=256)
    draw(model, recording, tmp_path)
    (path,) = tmp_path.iterdir()
    made = path.stat().st_mtime_ns
    again = draw(model, recording, tmp_path)
    assert path.stat().st_mtime_ns == made
    assert again.x.dtype == np.uint8
    draw(model, noise(12, seed=1, samples=256), tmp_path)
    draw(picture_network(equalisation="fixed", fixed_db=(0.0, 5.0)), recording, tmp_path)
    assert len(list(tmp_path.iterdir())) == 3


def test_a_convlstm_that_remembers_is_not_taught_by_single_pictures() -> None:
    torch.manual_seed(0)
    config = {"n_filters": 1, "image_size": 32, "head": "convlstm_recurrent"}
    with pytest.raises(ConfigError, match="choose lesson stream"):
        make_lesson("images", vgg16.build(vgg16.Config(**config)))


def test_seqsleepnet_standardises_its_bins_by_the_training_set() -> None:
    model = seqsleepnet.build(
        seqsleepnet.Config(
            sfreq=32.0, epoch_s=4.0, frame_s=1.0, frame_step_s=0.5, n_fft=32, high_hz=16.0, n_hidden=4
        )
    )
    data = [noise(100), noise(30, seed=1)]
    find_constants(model, data)
    x = torch.from_numpy(np.concatenate([d.x for d in data]))
    spectra = model.encoder.log_spectra(x)
    torch.testing.assert_close(model.encoder.bin_mean, spectra.mean(dim=(0, 2)), atol=1e-3, rtol=1e-4)
    std = spectra.transpose(1, 2).flatten(0, 1).std(dim=0, correction=0)
    torch.testing.assert_close(model.encoder.bin_std, std, atol=1e-3, rtol=1e-3)
    before = model.encoder.bin_mean.clone()
    find_constants(model, [noise(50, seed=5)])  # those of the weights that a training starts from are kept
    assert torch.equal(model.encoder.bin_mean, before)


def test_a_stored_equalisation_is_fitted_to_the_training_set() -> None:
    model = picture_network()
    data = [loud(40), loud(40, seed=1)]
    linear = model.images.table.clone()
    find_constants(model, data)
    assert not torch.equal(model.images.table, linear)
    power = torch.cat([model.images.spectrogram(torch.from_numpy(d.x.ravel())) for d in data])
    levels = torch.bucketize(torch.log10(power + 1).clamp(max=1).float(), model.images.table[1:-1], right=True)
    # As often as each other, as far as the bins of an 8-bit picture let them be told apart.
    assert levels.float().mean().item() == pytest.approx(127.0, abs=4.0)


LOOKAHEAD = {
    "deepsleepnet": (
        {"sfreq": 32.0, "epoch_s": 4.0, "n_filters": 4, "n_hidden": 6, "variant": "lookahead"},
        (0.0, 4.0, 12.0),
        32.0,
    ),
    "cnn_bilstm": (
        {
            "frame_shape": (16, 16),
            "sfreq": 4.0,
            "variant": "lookahead",
            "max_look_ahead_s": 2.0,
            "attention_frames": 3,
            "n_filters": 4,
            "n_blocks": 2,
            "n_hidden": 3,
        },
        (0.0, 1.0, 2.0),
        4.0,
    ),
}


@pytest.mark.parametrize("kind", LOOKAHEAD)
def test_a_step_with_one_look_ahead_moves_all_the_others(kind: str) -> None:
    args, look_aheads_s, sfreq = LOOKAHEAD[kind]
    frames = args.get("frame_shape")
    spec = Spec(
        name="small",
        model=kind,
        model_args=args,
        preprocess=(),
        vocabulary="MOUSE3" if frames else "AASM5",
        sfreq=sfreq,
        channels=("movie",) if frames else ("EEG",),
        frame_shape=frames,
    )
    stage = Stage(look_aheads_s=look_aheads_s)
    torch.manual_seed(0)
    module = plugins.load("models", kind)
    own = {**args, "n_classes": len(spec.labels)}
    model = module.build(module.Config(**{**own, "look_ahead_s": look_aheads_s[-1]}))
    spec = spec.model_copy(update={"model_args": own})
    views = [_shared(spec, stage, model, ahead_s) for ahead_s in look_aheads_s]
    lesson = make_lesson("stream", model)
    learner = Learner(lesson, stage, torch.ones(len(spec.labels)), 0, views)
    optimizer = make_optimizer(lesson, Optimizer(lr=0.05))
    assert sum(p.numel() for g in optimizer.param_groups for p in g["params"]) == model.n_trainable()
    x = torch.randn(model.input_shape(2, 12 * model.timing.step_samples))
    n_past = max(past_steps(view.timing) for view in views)
    y = torch.randint(0, len(spec.labels), (2, n_past + 12))
    batch = Batch(x, y, torch.zeros(2, dtype=torch.int64), 0, n_past=n_past)

    before = [view.eval()(x, view.initial_state(2))[0] for view in views]
    for number in range(len(views)):
        logits, codes, _ = lesson.ask(learner.view(number), batch, None)
        assert logits.shape[:2] == codes.shape
        optimizer.zero_grad()
        F.cross_entropy(logits.flatten(0, 1), codes.flatten(), ignore_index=-1).backward()
        assert all(p.grad is not None for p in model.parameters() if p.requires_grad)
        optimizer.step()
    for view, said, ahead_s in zip(views, before, look_aheads_s, strict=True):
        now = view.eval()(x, view.initial_state(2))[0]
        assert not torch.allclose(now, said)
        alone = module.build(module.Config(**{**own, "look_ahead_s": ahead_s}))
        alone.load_state_dict(model.state_dict())
        torch.testing.assert_close(now, alone.eval()(x, alone.initial_state(2))[0])


def test_a_lesson_for_another_network_is_refused() -> None:
    with pytest.raises(ConfigError, match="lesson for DeepSleepNet cannot teach Echo"):
        make_lesson("chunks", Echo(lags=(0,)))
    with pytest.raises(ConfigError, match="unknown lesson 'nothing'; choose one of stream, chunks"):
        make_lesson("nothing", Echo(lags=(0,)))
