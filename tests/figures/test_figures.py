"""Figures: each verb draws a whole picture, and what is drawn is what was computed."""

from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image

from bleedmap.datasets.ct_ich import TYPES, SliceRecord, open_ct_ich
from bleedmap.datasets.splits import Split
from bleedmap.errors import OutputError
from bleedmap.figures import architecture, style
from bleedmap.figures.curves import TrainingCurve, curves
from bleedmap.figures.prediction import PredictedSlice, prediction, score_in_words
from bleedmap.figures.samples import Sample, draw_slices, samples
from bleedmap.models.export import export_onnx
from bleedmap.models.networks import NETWORKS, UNetSettings
from bleedmap.models.unet import Block, build
from bleedmap.training.config import TrainConfig
from bleedmap.training.device import choose_machine
from bleedmap.training.run import Run
from command_line import run

SPLIT = Split("patient", 0, True, "0" * 64, "1.0.0 JPEG", None, None, ("049/1",), ("050/1",), ("051/1",))
METRICS = [
    {"epoch": 1, "loss": 0.5},
    {"epoch": 2, "loss": 0.3, "validation_loss": 0.4, "validation_dice": 0.6, "validation_mean_iou": 0.7},
    {"epoch": 3, "loss": 0.2},
    {"epoch": 4, "loss": 0.1, "validation_loss": 0.35, "validation_dice": 0.5, "validation_mean_iou": 0.65},
]


def pixels(path: Path) -> np.ndarray:
    """A written picture as (row, column, 3), checked to be 180 mm wide at 300 dpi and not blank."""
    with Image.open(path) as picture:
        assert picture.width == pytest.approx(180 / 25.4 * 300, abs=1)
        assert picture.info["dpi"] == pytest.approx((300, 300), abs=0.1)
        colours = np.asarray(picture.convert("RGB"))
    assert colours.std() > 10
    assert list(path.parent.glob(".part*")) == []
    return colours


def words(figure) -> str:
    """All text on a figure."""
    return " ".join([text.get_text() for text in figure.texts] + [t.get_text() for a in figure.axes for t in a.texts])


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    """An untrained network, which says that it learned from patient 49."""
    settings = UNetSettings((2, 4))
    record = {
        "name": "untrained", "trained_on": "nothing", "trained_patients": ["049"], "threshold": 0.5,
        "network": settings.to_dict(),
        "preprocessing": {"size": 32, "frame": "whole", "window": {"level_hu": 40, "width_hu": 120}},
    }  # fmt: skip
    path = tmp_path_factory.mktemp("weights") / "untrained.onnx"
    export_onnx(build(settings, seed=0), 32, record, path)
    return path


def make_run(folder: Path, entries: list[dict]) -> Path:
    made = Run(folder)
    made.begin(TrainConfig(), SPLIT, choose_machine("cpu", "fp32"))
    made.write_metrics(entries)
    return folder


def test_samples_of_the_small_data_set(jpeg_release, tmp_path, capsys):
    assert run("figure", "samples", "--data", jpeg_release, "-o", tmp_path / "a.png") == 0
    pixels(tmp_path / "a.png")
    told = capsys.readouterr().out
    assert all(name in told for name in ("049/2", "049/3", "051/2"))
    assert run("figure", "samples", "--data", jpeg_release, "--slices", "050/1", "-o", tmp_path / "b.png") == 0
    assert "050/1" in capsys.readouterr().out


def test_data_without_a_lesion_are_refused(jpeg_release, tmp_path, capsys):
    for mask in jpeg_release.glob("Patients_CT/*/brain/*_HGE_Seg.jpg"):
        mask.unlink()
    assert run("figure", "samples", "--data", jpeg_release, "-o", tmp_path / "a.png") == 2
    assert "no slice has a lesion's mask" in capsys.readouterr().err


def test_samples_show_the_reference_and_its_place(jpeg_release):
    data = open_ct_ich(jpeg_release)
    record = data.slice("051/2")
    mask = np.zeros((24, 24), bool)
    mask[6:18, :12] = True
    figure = samples([Sample(record, np.full((24, 24), 0.5, np.float32), mask)], data.release)
    for words_shown in ("SDH", "patient 051, slice 2", "SDH subdural hemorrhage"):
        assert words_shown in words(figure)
    assert np.array_equal(figure.axes[1].images[0].get_array(), mask)


def test_slices_are_drawn_type_by_type_and_by_seed():
    records = [
        SliceRecord(patient, number, frozenset({TYPES[patient % 5]}), False, number > 1, True)
        for patient in range(1, 16)
        for number in range(1, 4)
    ]
    drawn = draw_slices(records, 10, seed=3)
    assert [next(iter(record.types)) for record in drawn] == list(TYPES) * 2
    assert len({record.patient for record in drawn}) == 10
    assert all(record.has_lesion for record in drawn)
    assert drawn == draw_slices(records, 10, seed=3) != draw_slices(records, 10, seed=4)
    assert len(set(draw_slices(records, 99, seed=0))) == 30


@pytest.mark.parametrize(("suffix", "begins"), [(".png", b"\x89PNG"), (".pdf", b"%PDF"), (".svg", b"<?xml")])
def test_the_suffix_is_the_format_and_the_same_figure_the_same_file(suffix, begins, tmp_path):
    for name in ("first", "second"):
        assert run("figure", "architecture", "--network", "model-1", "-o", tmp_path / f"{name}{suffix}") == 0
    content = (tmp_path / f"first{suffix}").read_bytes()
    assert content.startswith(begins)
    assert content == (tmp_path / f"second{suffix}").read_bytes()


@pytest.mark.parametrize("name", NETWORKS)
def test_the_drawn_shapes_are_the_network_s(name):
    """Held against the shapes that the layers of a network with real numbers put out."""
    settings = NETWORKS[name]
    thin = UNetSettings(
        tuple(count // 16 for count in settings.filters), 1, settings.batch_norm, settings.dropout,
        settings.bottom_dropout,
    )  # fmt: skip
    network, blocks, joins = build(thin, seed=1).eval(), [], []
    for module in network.modules():
        if isinstance(module, Block):
            module.register_forward_hook(lambda *call: blocks.append(tuple(call[-1].shape[1:])))
    for merge in network.merge:
        merge.register_forward_pre_hook(lambda _, inputs: joins.append(tuple(inputs[0].shape[1:])))
    with torch.no_grad():
        answer = network(torch.rand(1, 1, 64, 64))
    stages, parameters = architecture.trace(thin, size=64)
    assert parameters == thin.parameter_count()
    convolved = [stage.shape for stage in stages if "conv 3×3" in stage.operations]
    assert convolved[1::2] == blocks  # two convolutions a block
    assert [stage.shape for stage in stages if stage.direction == "join"] == joins
    assert stages[-1].shape == answer.shape[1:]
    figure = architecture.architecture(name, settings)
    assert f"{settings.parameter_count():,}" in words(figure)
    for level, filters in enumerate(settings.filters):
        assert f"{filters} × {256 >> level} × {256 >> level}" in words(figure)


def test_the_drawing_says_what_each_network_does():
    drawn = {name: words(architecture.architecture(name, NETWORKS[name])) for name in NETWORKS}
    assert "dropout 0.1, conv 3×3, batch norm, ReLU" in drawn["model-2"]
    assert "dropout" not in drawn["model-1"]
    assert "dropout 0.5" in drawn["original"]
    assert "batch norm" not in drawn["original"]
    for shown in drawn.values():
        assert all(
            f in shown for f in ("max-pool 2×2", "transposed conv 2×2, stride 2", "concatenate", "conv 1×1, sig")
        )


def test_no_box_overlaps_another_or_leaves_the_page():
    for settings in NETWORKS.values():
        stages, _ = architecture.trace(settings)
        boxes = architecture.layout(stages)
        assert all(box.left_mm >= 0 and box.right_mm <= style.WIDTH_MM for box in boxes)
        for index, one in enumerate(boxes):
            for other in boxes[index + 1 + (stages[min(index + 1, len(stages) - 1)].direction == "join") :]:
                apart = one.right_mm < other.left_mm or other.right_mm < one.left_mm
                assert apart or one.bottom_mm < other.top_mm or other.bottom_mm < one.top_mm


def test_an_operation_without_a_drawing_stops_it():
    slices = torch.empty(1, 1, 8, 8, device="meta")
    with pytest.raises(NotImplementedError, match="tanh"), architecture._Recorder(slices):
        torch.tanh(slices)


def test_curves_draw_the_metrics(tmp_path):
    folders = [make_run(tmp_path / name, METRICS[:count]) for name, count in (("one", 4), ("two$", 1))]
    assert run("figure", "curves", *folders, "-o", tmp_path / "curves.png") == 0
    pixels(tmp_path / "curves.png")
    curve = TrainingCurve("one", "model-2", METRICS)
    figure = curves([curve, TrainingCurve("two", "model-2", METRICS[:1])])
    lines = [[tuple(line.get_xydata().ravel()) for line in axes.lines] for axes in figure.axes[:3]]
    assert (1, 0.5, 2, 0.3, 3, 0.2, 4, 0.1) in lines[0]
    assert (2, 0.4, 4, 0.35) in lines[0]
    assert (2, 0.7, 4, 0.65) in lines[1]
    assert (2, 0.6, 4, 0.5) in lines[2]
    assert curve.best() == (2, 0.6)
    assert "highest validation Dice 0.600 in epoch 2" in words(figure)
    assert "not validated yet" in words(figure)


@pytest.mark.parametrize(
    ("content", "complaint"), [("", "no epoch has finished yet"), ("{", "cannot be read"), ('{"a": 1}\n', "cannot")]
)
def test_a_run_without_metrics_is_refused(content, complaint, tmp_path, capsys):
    folder = make_run(tmp_path / "run", [])
    (folder / "metrics.jsonl").write_text(content)
    assert run("figure", "curves", folder, "-o", tmp_path / "curves.png") == 2
    assert complaint in capsys.readouterr().err
    assert not (tmp_path / "curves.png").exists()


def test_prediction_says_which_patient_was_trained_on(weights, jpeg_release, tmp_path, capsys):
    common = ("prediction", "--data", jpeg_release, "--weights", weights)
    assert run("figure", *common, "--slices", "049/2,051/2,050/1", "-o", tmp_path / "a.png") == 0
    pixels(tmp_path / "a.png")
    told = capsys.readouterr().out
    assert "049/2 (patient trained on)" in told
    assert "051/2 (unseen patient)" in told
    assert run("figure", *common, "-o", tmp_path / "b.png") == 0
    assert "049" not in capsys.readouterr().out  # drawn from unseen patients
    data = open_ct_ich(jpeg_release)
    sides = [("051/2",), ("050/1",), ("049/2",)]
    split = Split("patient", 0, False, data.content_sha256([s[0] for s in sides]), data.release, None, None, *sides)
    split.write(tmp_path / "split.json")
    assert run("figure", *common, "--split", tmp_path / "split.json", "-o", tmp_path / "c.png") == 0
    told = capsys.readouterr().out
    assert "049/3 (test side, patient trained on)" in told
    assert "051" not in told


def test_prediction_colours_nothing_below_a_half(jpeg_release, tmp_path):
    record = open_ct_ich(jpeg_release).slice("049/2")
    unit, reference = np.full((64, 64), 0.4, np.float32), np.zeros((64, 64), bool)
    reference[16:48, 16:48] = True
    probability = np.full((64, 64), 0.49, np.float32)
    probability[16:48, 16:32] = 1
    one = PredictedSlice(record, unit, reference, probability, "patient trained on", True)
    figure = prediction([one], "made up", 0.5)
    shown = [axes.images[0].get_array() for axes in figure.axes[:4]]
    assert np.array_equal(shown[1], reference)
    assert np.array_equal(shown[2], probability >= 0.5)
    coloured = np.ptp(np.asarray(shown[3]).astype(int), axis=-1) > 0
    assert coloured[18:46, 18:30].all()
    assert not coloured[:, 34:].any()
    assert "Dice 0.67" in words(figure)
    assert "trained on 049" in words(figure).replace("\n", " ")
    style.save(figure, tmp_path / "prediction.png")
    drawn = pixels(tmp_path / "prediction.png").astype(int)
    assert (np.ptp(drawn[:, 1600:1900], axis=-1) > 100).any()


def test_marks_far_from_the_head_are_shown(jpeg_release):
    """The crop to the head may not hide a false positive."""
    record = open_ct_ich(jpeg_release).slice("050/1")
    unit, probability = np.zeros((256, 256), np.float32), np.zeros((256, 256), np.float32)
    unit[100:200, 100:200] = 0.5
    probability[3:6, 250:254] = 0.9
    figure = prediction([PredictedSlice(record, unit, unit > 1, probability, "", False)], "made up", 0.5)
    shown = np.asarray(figure.axes[2].images[0].get_array())
    assert shown.sum() == 12
    assert shown.shape < (256, 256)
    assert "12 pixels marked" in words(figure)


def test_dice_is_not_given_where_it_says_nothing():
    empty = np.zeros((4, 4), bool)
    assert score_in_words(empty, ~empty) == "16 pixels marked"
    assert score_in_words(~empty, empty) == "Dice 0.00"


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("samples", "-o", "a.gif"), "suffix '.gif'"),
        (("architecture", "-o", "plain"), "no suffix"),
        (("samples", "--slices", "999/1", "-o", "a.png"), "no slice '999/1'"),
        (("samples", "--slices", ",", "-o", "a.png"), "0 slices"),
        (("samples", "--slices", ",".join(["049/1"] * 19), "-o", "a.png"), "19 slices"),
        (("prediction", "--weights", "none.onnx", "-o", "a.png"), "none.onnx"),
        (("curves", "nowhere", "-o", "a.svg"), "no such folder"),
        (("curves", *["nowhere"] * 8, "-o", "a.svg"), "8 runs"),
    ],
)
def test_bad_input_is_refused(arguments, complaint, jpeg_release, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BLEEDMAP_DATA", str(jpeg_release))
    before = sorted(tmp_path.iterdir())
    assert run("figure", *arguments) == 2
    assert complaint in capsys.readouterr().err
    assert sorted(tmp_path.iterdir()) == before


def test_a_figure_that_cannot_be_written_leaves_nothing(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be written"):
        style.save(style.page(10, "caption"), tmp_path / "file" / "a.png")


def test_captions_stay_on_the_page():
    lines = style.wrapped("The quick brown WOLF " * 30, 100)
    figure = style.page(10, "")
    figure.set_dpi(style.PNG_DPI)
    drawn = [figure.text(0, 0, line, fontsize=style.TEXT_PT, family="DejaVu Sans") for line in lines]
    assert " ".join(lines) == ("The quick brown WOLF " * 30).strip()
    renderer = FigureCanvasAgg(figure).get_renderer()
    for text in drawn:
        assert text.get_window_extent(renderer).width / figure.dpi * 25.4 <= 101


def test_real_slices_are_drawn_one_of_each_type(ct_ich_root, tmp_path):
    assert run("figure", "samples", "--data", ct_ich_root, "-o", tmp_path / "a.png") == 0
    pixels(tmp_path / "a.png")
    drawn = draw_slices(open_ct_ich(ct_ich_root).slices, 5, seed=0)
    assert [record.types for record in drawn] == [frozenset({name}) for name in TYPES]
