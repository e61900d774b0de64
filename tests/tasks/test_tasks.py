"""Every task: shapes, splits, loss, metric, baselines; and what a user reads when the data is not right."""

import dataclasses
import functools
import hashlib
import io
import lzma
import math
import shutil
import zipfile
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from noisylearn import tasks
from noisylearn.ground.errors import UserError
from noisylearn.tasks import cifar10, files, linear_teacher, mnist, mnist_sample, tiny_imagenet
from noisylearn.tasks.base import ClassificationTask, RegressionTask
from noisylearn.tasks.ridge import ridge_predictions

# (task, part): input shape, samples of the training part, samples of the held-out part
SIZES = {
    ("digits", "test"): ((64,), 1_438, 359),
    ("digits", "validation"): ((64,), 1_138, 300),
    ("mnist-sample", "test"): ((784,), 4_000, 1_000),
    ("mnist-sample", "validation"): ((784,), 3_200, 800),
    ("mnist", "test"): ((784,), 60_000, 10_000),
    ("mnist", "validation"): ((784,), 50_000, 10_000),
    ("cifar10", "test"): ((3, 32, 32), 50_000, 10_000),
    ("cifar10", "validation"): ((3, 32, 32), 45_000, 5_000),
    ("sarcos", "test"): ((21,), 3_560, 889),
    ("sarcos", "validation"): ((21,), 2_671, 889),
    ("linear-teacher", "test"): ((100,), 20_000, 2_000),
    ("linear-teacher", "validation"): ((100,), 16_000, 4_000),
}
# (low, high) of each baseline on the test part; the margins are for other versions of torch
BASELINES = {
    "digits": {"chance": (0.1, 0.1), "majority class": (0.1, 0.11), "ridge readout": (0.9, 0.96)},
    "mnist-sample": {"chance": (0.1, 0.1), "majority class": (0.1, 0.1), "ridge readout": (0.84, 0.87)},
    "mnist": {"chance": (0.1, 0.1), "majority class": (0.1135, 0.1135), "ridge readout": (0.855, 0.868)},
    "sarcos": {"zero": (1.07, 1.08), "mean": (1.07, 1.08), "ridge readout": (0.17, 0.19)},
    "linear-teacher": {
        "zero": (1.6, 2.1),  # expectation: n_in * 2 / (n_in + n_out) = 1.82
        "mean": (1.6, 2.1),
        "ridge readout": (0.0, 1e-10),
        "noise floor": (0.0, 1e-12),
    },
}
NEEDS_FILES = [name for name in tasks.names() if tasks.describe(name).files]
NEEDS_NO_FILES = [name for name in tasks.names() if name not in NEEDS_FILES]
PARTS = ("train_inputs", "train_targets", "test_inputs", "test_targets")


def load(name, request, held_out="test"):
    folder = request.getfixturevalue("data_dir") if name in NEEDS_FILES else None
    return tasks.load(name, folder, held_out=held_out)


@pytest.fixture(scope="module", autouse=True)
def unpacked_once():
    """The files of CIFAR-10 take ten seconds to unpack: once for all tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cifar10, "_read_records", functools.cache(cifar10._read_records))
        yield


@pytest.fixture(scope="module", params=SIZES, ids="-".join)
def sized(request):
    """A task with its expected sizes, read once for all tests of its data."""
    name, held_out = request.param
    return load(name, request, held_out), SIZES[request.param]


# The same code as their small variants read, but long in reading.
LARGE = {"cifar10-16", "tiny-imagenet", "tiny-imagenet-20"}


@pytest.fixture(params=[name for name in tasks.names() if not tasks.describe(name).in_time and name not in LARGE])
def small(request):
    """Every task cut to a few samples, for what does not depend on their number."""
    task = load(request.param, request) if request.param != "cifar10" else small_cifar10(request)
    return dataclasses.replace(task, **{part: getattr(task, part)[:500] for part in PARTS})


def small_cifar10(request):
    """CIFAR-10 at a quarter of its resolution, from one of its files: all six take ten seconds to unpack."""
    inputs, targets = cifar10.read_samples(request.getfixturevalue("data_dir"), "test_batch")
    inputs = inputs[:, :, ::4, ::4] / 255
    parts = (inputs[:500], targets[:500], inputs[500:1000], targets[500:1000])
    return ClassificationTask(cifar10.DESCRIPTION, "test", *parts, n_outputs=10)


def digests(inputs):
    return {hashlib.blake2b(row.tobytes(), digest_size=16).digest() for row in inputs.numpy()}


def single_line_error(function, *args, **kwargs):
    with pytest.raises(UserError) as caught:
        function(*args, **kwargs)
    message = str(caught.value)
    assert "\n" not in message
    return message


# data


def test_sizes_and_types(sized):
    task, (input_shape, n_train, n_held_out) = sized
    assert task.input_shape == input_shape
    assert task.train_inputs.shape == (n_train, *input_shape)
    assert task.test_inputs.shape == (n_held_out, *input_shape)
    assert task.train_inputs.dtype == task.test_inputs.dtype == torch.float32
    for targets, n in ((task.train_targets, n_train), (task.test_targets, n_held_out)):
        if isinstance(task, ClassificationTask):
            assert (targets.dtype, targets.shape) == (torch.int64, (n,))
            assert targets.unique().tolist() == list(range(task.n_outputs))
        else:
            assert (targets.dtype, targets.shape) == (torch.float32, (n, task.n_outputs))


def test_values_are_finite(sized):
    task, _ = sized
    assert all(getattr(task, part).isfinite().all() for part in PARTS)


def test_parts_do_not_overlap(sized):
    task, _ = sized
    assert not digests(task.train_inputs) & digests(task.test_inputs)


def test_scaling_uses_the_training_part(sized):
    task, _ = sized
    if task.name in ("mnist", "mnist-sample"):
        assert (task.train_inputs.min(), task.train_inputs.max()) == (0.0, 1.0)
    if task.name in ("cifar10", "sarcos"):
        dim = (0, 2, 3) if task.name == "cifar10" else (0,)
        std, mean = torch.std_mean(task.train_inputs.double(), dim=dim, correction=0)
        torch.testing.assert_close(mean, torch.zeros_like(mean), atol=1e-5, rtol=0)
        torch.testing.assert_close(std, torch.ones_like(std), atol=1e-5, rtol=0)
        assert task.test_inputs.mean(dim=dim).abs().max() > 1e-3


def test_mnist_is_in_the_published_order(data_dir):
    task = tasks.load("mnist", data_dir)
    assert task.train_targets[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    assert task.train_inputs.mean() == pytest.approx(0.1307, abs=1e-4)
    assert task.train_inputs.std() == pytest.approx(0.3081, abs=1e-4)


def test_validation_part_is_the_end_of_the_training_part(data_dir):
    full, validation = (tasks.load("mnist", data_dir, held_out=part) for part in ("test", "validation"))
    assert torch.equal(torch.cat([validation.train_inputs, validation.test_inputs]), full.train_inputs)
    assert torch.equal(torch.cat([validation.train_targets, validation.test_targets]), full.train_targets)


def test_cifar10_takes_the_published_binary_file_too(data_dir, tmp_path):
    (tmp_path / "cifar10").mkdir()
    content = lzma.decompress((data_dir / "cifar10" / "test_batch.bin.xz").read_bytes())
    (tmp_path / "cifar10" / "test_batch.bin").write_bytes(content)
    inputs, labels = cifar10.read_samples(tmp_path, "test_batch")
    assert labels[:4].tolist() == [3, 8, 8, 0]
    assert bytes(inputs[1].flatten().byte().tolist()) == content[3074 : 2 * 3073]


def test_mnist_sample_is_balanced_and_from_mnist(data_dir):
    with np.load(resources.files("noisylearn") / "data" / "mnist_sample.npz", allow_pickle=False) as sample:
        for part, per_class in (("train", 400), ("test", 100)):
            images, labels = mnist.read_arrays(data_dir, part)
            index = sample[f"{part}_index"]
            assert np.array_equal(sample[f"{part}_images"], images[index])
            assert np.array_equal(sample[f"{part}_labels"], labels[index])
            assert (np.bincount(labels[index]) == per_class).all()
            assert len(np.unique(index)) == len(index)


def test_mnist_sample_is_small_and_documented():
    folder = resources.files("noisylearn") / "data"
    assert mnist_sample.FILE.size < 2_000_000
    assert mnist_sample.FILE.checksum in (folder / "README.md").read_text()


@pytest.mark.parametrize("name", NEEDS_NO_FILES)
def test_loading_again_gives_the_same(name):
    one, again = tasks.load(name), tasks.load(name)
    for part in PARTS:
        assert torch.equal(getattr(one, part), getattr(again, part))


# linear teacher


def test_linear_teacher_depends_on_its_seed_alone():
    torch.manual_seed(1)
    before = torch.get_rng_state()
    one, same, other = (tasks.load("linear-teacher", seed=seed) for seed in (0, 0, 1))
    assert torch.equal(before, torch.get_rng_state())
    assert torch.equal(one.teacher, same.teacher)
    assert torch.equal(one.train_inputs, same.train_inputs)
    assert torch.equal(one.train_targets, same.train_targets)
    assert not torch.equal(one.teacher, other.teacher)
    assert not torch.equal(one.train_inputs, other.train_inputs)


def test_linear_teacher_follows_its_definition():
    task = linear_teacher.load(n_in=200, n_out=50, noise=0.5, n_train=5_000)
    assert task.teacher.shape == (50, 200)
    assert task.teacher.var() == pytest.approx(2 / 250, rel=0.05)
    residual = task.train_targets - task.train_inputs @ task.teacher.T
    assert residual.std() == pytest.approx(0.5, rel=0.01)
    assert task.train_inputs.std() == pytest.approx(1.0, rel=0.01)
    assert task.baselines["noise floor"] == pytest.approx(0.25, rel=0.02)
    assert task.baselines["noise floor"] < task.baselines["ridge readout"] < task.baselines["zero"]


def test_linear_teacher_shares_what_its_options_leave_alone():
    clean, noisy, longer = (
        linear_teacher.load(n_train=n, noise=noise) for n, noise in ((100, 0.0), (100, 0.3), (200, 0.0))
    )
    assert torch.equal(clean.train_inputs, noisy.train_inputs)
    assert not torch.equal(clean.train_targets, noisy.train_targets)
    assert torch.equal(clean.test_targets, longer.test_targets)


@pytest.mark.parametrize("options", [{"n_in": 0}, {"n_train": 4}, {"noise": -1.0}, {"noise": math.nan}])
def test_linear_teacher_refuses_impossible_options(options):
    message = single_line_error(linear_teacher.load, **options)
    assert next(iter(options)) in message


# loss, metric, baselines


def test_loss_and_metric_are_per_sample(small):
    output = torch.randn(7, small.n_outputs, generator=torch.Generator().manual_seed(0))
    target = small.train_targets[:7]
    loss, metric = small.loss_fn(output, target).numpy(), small.metric(output, target).numpy()
    o, t = output.numpy().astype(float), target.numpy()
    if isinstance(small, ClassificationTask):
        picked = o[np.arange(len(t)), t]
        expected_loss = np.log(np.exp(o).sum(axis=1)) - picked
        expected_metric = picked == o.max(axis=1)
        assert (small.metric_name, small.higher_is_better) == ("accuracy", True)
    else:
        squared = ((o - t) ** 2).sum(axis=1)
        expected_metric = squared / small.n_outputs
        expected_loss = squared / 2 if small.name == "linear-teacher" else expected_metric
        assert (small.metric_name, small.higher_is_better) == ("mse", False)
    np.testing.assert_allclose(loss, expected_loss, rtol=1e-5)
    np.testing.assert_allclose(metric, expected_metric, rtol=1e-5)


def test_loss_has_a_gradient(small):
    output = torch.zeros(3, small.n_outputs, requires_grad=True)
    small.loss_fn(output, small.train_targets[:3]).sum().backward()
    assert output.grad.abs().sum() > 0


@pytest.mark.parametrize("name", BASELINES)
def test_baselines_are_in_their_known_ranges(name, request):
    baselines = load(name, request).baselines
    assert baselines.keys() == BASELINES[name].keys()
    for key, (low, high) in BASELINES[name].items():
        assert low - 1e-9 <= baselines[key] <= high + 1e-9, (key, baselines[key])


def test_baselines_of_every_task(small):
    kind = ClassificationTask if small.higher_is_better else RegressionTask
    trivial = {ClassificationTask: "majority class", RegressionTask: "mean"}[kind]
    assert isinstance(small, kind)
    assert all(math.isfinite(score) for score in small.baselines.values())
    gain = small.baselines["ridge readout"] - small.baselines[trivial]
    assert (gain > 0) == small.higher_is_better


def test_ridge_recovers_a_linear_map_with_bias():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(300, 2, 3, generator=generator)
    weights = torch.randn(6, 2, generator=generator)
    y = x.flatten(1) @ weights + 5.0
    torch.testing.assert_close(ridge_predictions(x[:200], y[:200], x[200:]), y[200:], atol=1e-4, rtol=0)


def test_ridge_penalty_guards_against_more_features_than_samples():
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(250, 100, generator=generator), torch.randn(250, 1, generator=generator)
    error = (ridge_predictions(x[:120], y[:120], x[120:]) - y[120:]).square().mean()
    assert error < 1.7 * y.var()  # without penalty: 120 / (120 - 101), about six times


def test_ridge_of_inputs_that_are_all_zero_is_the_mean():
    y = torch.arange(10.0)[:, None]
    torch.testing.assert_close(ridge_predictions(torch.zeros(10, 3), y, torch.zeros(2, 3)), torch.full((2, 1), 4.5))


# registry and errors


def test_every_task_is_described_without_its_data(monkeypatch, tmp_path):
    monkeypatch.setenv(files.ENVIRONMENT_VARIABLE, str(tmp_path))
    without_time = {"mnist", "cifar10", "sarcos", "linear-teacher", "mnist-sample", "digits"}
    without_time |= {"cifar10-16", "tiny-imagenet", "tiny-imagenet-20", "tiny-imagenet-20-16"}
    assert {name for name in tasks.names() if not tasks.describe(name).in_time} == without_time
    assert {name for name in tasks.names() if tasks.describe(name).in_time} == {
        "mackey-glass", "copying", "copying-fixed", "weather", "weather-1h", "weather-48h", "psmnist", "psmnist-sample",
        "latency-mnist", "latency-mnist-sample",
    }  # fmt: skip
    for name in tasks.names():
        description = tasks.describe(name)
        assert description.name == name
        assert description.title in str(description)
        assert all(file.path in str(description) for file in description.files)


def test_unknown_name():
    assert "did you mean mnist" in single_line_error(tasks.load, "mnits")
    assert "unknown task" in single_line_error(tasks.describe, "imagenet")


@pytest.mark.parametrize("name", NEEDS_NO_FILES)
def test_unknown_part(name):
    assert "did you mean validation" in single_line_error(tasks.load, name, held_out="validate")


@pytest.mark.parametrize("name", NEEDS_FILES)
def test_missing_file(name, tmp_path):
    message = single_line_error(tasks.load, name, tmp_path)
    assert str(tmp_path / tasks.describe(name).files[0].path) in message
    assert "--data-dir" in message
    assert "NOISYLEARN_DATA" in message


@pytest.mark.parametrize("name", NEEDS_FILES)
def test_truncated_file(name, tmp_path):
    file = tasks.describe(name).files[0]
    path = tmp_path / file.path
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"x" * 1000)
    message = single_line_error(tasks.load, name, tmp_path)
    for part in (str(path), "1000 bytes", f"{file.size} bytes", file.checksum[:12], "download it again"):
        assert part in message


def test_same_size_but_other_content(data_dir, tmp_path):
    folder = tmp_path / "sarcos"
    folder.mkdir()
    path = Path(shutil.copyfile(data_dir / "sarcos" / "sarcos_inv_test.mat", folder / "sarcos_inv_test.mat"))
    content = bytearray(path.read_bytes())
    content[5000] ^= 1
    path.write_bytes(content)
    assert "damaged" in single_line_error(tasks.load, "sarcos", tmp_path)


@pytest.mark.parametrize("kind", ["absent", "file"])
def test_data_dir_that_is_no_folder(kind, tmp_path, monkeypatch):
    path = tmp_path / "nowhere"
    if kind == "file":
        path.touch()
    for name in NEEDS_FILES:
        message = single_line_error(tasks.load, name, path)
        assert str(path) in message
        assert "data_dir" in message
    monkeypatch.setenv(files.ENVIRONMENT_VARIABLE, str(path))
    assert "from NOISYLEARN_DATA" in single_line_error(tasks.load, "mnist")


def test_order_in_which_folders_are_taken(tmp_path, monkeypatch):
    argument, environment = tmp_path / "argument", tmp_path / "environment"
    argument.mkdir()
    environment.mkdir()
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv(files.ENVIRONMENT_VARIABLE, str(environment))
    assert files.data_folder(argument) == argument
    assert files.data_folder() == environment
    monkeypatch.setenv(files.ENVIRONMENT_VARIABLE, "")
    assert files.data_folder() == tmp_path / ".cache" / "noisylearn"


def test_cifar10_averaged_to_16_pixels(data_dir):
    half = tasks.load("cifar10-16", data_dir)
    assert half.train_inputs.shape == (50_000, 3, 16, 16)
    inputs, targets = cifar10.read_samples(data_dir, "test_batch")
    assert torch.equal(half.test_targets, targets)
    means = inputs[:50].reshape(50, 3, 16, 2, 16, 2).mean((3, 5))
    for channel in range(3):  # equal but for scale and shift
        found = torch.stack([means[:, channel].flatten(), half.test_inputs[:50, channel].flatten()])
        assert torch.corrcoef(found)[0, 1] > 0.99999


def test_tiny_imagenet_of_every_tenth_class(data_dir):
    task = tasks.load("tiny-imagenet-20-16", data_dir)
    assert task.train_inputs.shape == (10_000, 3, 16, 16)
    assert task.test_inputs.shape == (1_000, 3, 16, 16)
    assert (task.train_targets.bincount() == 500).all()
    validation = tasks.load("tiny-imagenet-20-16", data_dir, held_out="validation")
    assert (validation.test_targets.bincount() == 50).all()


def tiny_archive(path, side=64):
    """An archive as the published one: 20 classes, two training images and one test image of each of one colour."""

    def jpeg(shade):
        content = io.BytesIO()
        Image.new("RGB", (side, side), (shade, shade, shade)).save(content, "JPEG")
        return content.getvalue()

    names = [f"n{i:02}" for i in range(20)]
    root = "tiny-imagenet-200"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{root}/wnids.txt", "\n".join(reversed(names)))
        for i, name in enumerate(names):
            for k in range(2):
                archive.writestr(f"{root}/train/{name}/images/{name}_{k}.JPEG", jpeg(10 * i + k))
            archive.writestr(f"{root}/val/images/val_{i}.JPEG", jpeg(10 * i + 5))
        lines = [f"val_{i}.JPEG\t{name}\t0\t0\t62\t62" for i, name in enumerate(names)]
        archive.writestr(f"{root}/val/val_annotations.txt", "\n".join(lines))


def test_tiny_imagenet_reads_the_published_archive_too(tmp_path, monkeypatch):
    tiny_archive(tmp_path / "a.zip")
    monkeypatch.setattr(tiny_imagenet, "PER_CLASS", 2)
    jpegs = list(tiny_imagenet._from_zip(tmp_path / "a.zip", every=10))
    assert [(label, part) for _, label, part in jpegs] == [(0, 0), (0, 0), (1, 0), (1, 0), (0, 1), (1, 1)]
    images, labels = tiny_imagenet._decoded(tmp_path / "a.zip", iter(jpegs), tiny_imagenet.TRAIN, shrink=4)
    assert labels.tolist() == [0, 1, 0, 1]
    assert images.shape == (4, 3, 16, 16)
    assert [round(float(image.mean())) for image in images] == [0, 100, 1, 101]


@pytest.mark.parametrize(("content", "named"), [(b"no image", "cannot be decoded"), (None, "shape")])
def test_tiny_imagenet_with_a_broken_image(content, named, tmp_path):
    if content is None:
        tiny_archive(tmp_path / "a.zip", side=32)
        with zipfile.ZipFile(tmp_path / "a.zip") as archive:
            content = archive.read("tiny-imagenet-200/val/images/val_0.JPEG")
    with pytest.raises(UserError, match=named):
        tiny_imagenet._decoded(tmp_path / "a.zip", iter([(content, 0, 0)]), tiny_imagenet.TRAIN, shrink=1)
