"""Radiographs and labels in the real MRML scene: where they lie, and what is never touched."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from DiNODiffusionLib.codec import files, nifti, nrrd
from DiNODiffusionLib.codec.geometry import Image
from DiNODiffusionLib.net.client import Result

from tests.slicer import doubles
from tests.slicer.drawn import SAMPLES, chest, write_dicom
from tests.slicer.fake_server import finish, lungs_of

USUAL = np.diag([-0.2, -0.2, 1.0, 1.0])
SWAPPED = np.array([[0, -0.143, 0, 12.5], [-0.143, 0, 0, -7.25], [0, 0, 1, 3], [0, 0, 0, 1.0]])


@pytest.fixture
def s() -> Iterator[SimpleNamespace]:
    """The scene's side of the extension, on an empty scene."""
    double = doubles.start()
    import slicer
    from DiNODiffusionLib.scene import generated, labels, nodes, parameters, segments, volumes

    slicer.mrmlScene.Clear(0)
    yield SimpleNamespace(
        slicer=slicer, volumes=volumes, labels=labels, segments=segments, generated=generated,
        parameters=parameters, nodes=nodes, double=double,
    )  # fmt: skip


def a_volume(s: SimpleNamespace, matrix: np.ndarray = USUAL, name: str = "chest", **more: int):
    return s.volumes.add_volume(Image(chest(**more), matrix), name)


def lungs(s: SimpleNamespace, volume: object) -> tuple[np.ndarray, list]:
    array = lungs_of(s.volumes.image_of(volume))
    told = {"labels": [
        {"name": "right lung", "value": 1, "code": "39607008", "meaning": "Lung", "colour": [86, 180, 233]},
        {"name": "left lung", "value": 2, "code": "39607008", "meaning": "Lung", "colour": [86, 180, 233]},
    ]}  # fmt: skip
    return array, s.labels.labels_of(told, array)


def state_of(s: SimpleNamespace, segmentation: object, volume: object) -> dict[str, bytes]:
    return {
        i: s.segments.mask_of(segmentation, i, volume).tobytes() for i in s.segments.segment_ids(segmentation)
    }


@pytest.mark.parametrize("codec", [nifti, nrrd], ids=["nifti", "nrrd"])
@pytest.mark.parametrize("matrix", [USUAL, SWAPPED], ids=["usual", "left-handed"])
def test_a_volume_comes_back_where_it_was_through_slicers_own_reader(
    s: SimpleNamespace, codec: object, matrix: np.ndarray, tmp_path: Path
) -> None:
    volume = a_volume(s, matrix)
    image = s.volumes.image_of(volume)
    assert np.array_equal(image.ijk_to_ras, matrix)
    path = tmp_path / ("x.nrrd" if codec is nrrd else "x.nii.gz")
    path.write_bytes(finish(codec.encode(image)))
    kind = s.slicer.vtkMRMLNRRDStorageNode if codec is nrrd else s.slicer.vtkMRMLVolumeArchetypeStorageNode
    storage = kind()
    storage.SetFileName(str(path))
    read = s.slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode")
    assert storage.ReadData(read)
    assert np.array_equal(s.slicer.util.arrayFromVolume(read), image.array)
    in_plane = [0, 1, 3]
    np.testing.assert_allclose(s.volumes.matrix_of(read)[:, in_plane], matrix[:, in_plane], atol=1e-6)
    if codec is nrrd or matrix is USUAL:
        # Slicer's archetype reader turns the one slice of a left-handed image over, whatever the file says.
        np.testing.assert_allclose(s.volumes.matrix_of(read), matrix, atol=1e-6)


@pytest.mark.parametrize("inverted", [False, True], ids=["MONOCHROME2", "MONOCHROME1"])
def test_dicom_is_sent_as_it_is_seen(s: SimpleNamespace, inverted: bool, tmp_path: Path) -> None:
    data = write_dicom(tmp_path / "x.dcm", chest(), inverted).read_bytes()
    volume = s.volumes.load_image(data, "whatever", "scan")
    image = s.volumes.image_of(volume)
    assert np.array_equal(image.array, chest()), "dark lungs, whichever way the file stores them"
    np.testing.assert_allclose(image.ijk_to_ras, USUAL)
    back = files.decode(finish(nrrd.encode(image)))
    assert np.array_equal(s.volumes.onto(volume, back), chest())


@pytest.mark.parametrize("name", ["synthetic-1.png", "synthetic-4.dcm"])
def test_the_sample_radiographs_load(s: SimpleNamespace, name: str) -> None:
    volume = s.volumes.load_image((SAMPLES / name).read_bytes(), name, "sample")
    image = s.volumes.image_of(volume)
    assert min(image.array.shape[1:]) >= 128 and image.array.std() > 0


@pytest.mark.parametrize("suffix", [".png", ".tif", ".jpg", ".mha"])
def test_other_formats_of_a_server_are_read(s: SimpleNamespace, suffix: str, tmp_path: Path) -> None:
    import SimpleITK as sitk

    file = tmp_path / f"x{suffix}"
    sitk.WriteImage(sitk.GetImageFromArray((chest()[0] // 16).astype(np.uint8)), str(file))
    read = s.volumes.read_image(file.read_bytes(), file.name)
    assert read.array.shape == chest().shape
    assert suffix == ".jpg" or np.array_equal(read.array, chest() // 16)


def test_a_file_that_refers_to_another_is_not_read(s: SimpleNamespace, tmp_path: Path) -> None:
    """Or a server could make a picture of any file on this machine."""
    secret = tmp_path / "secret"
    secret.write_bytes(b"x" * 16)
    head = f"NDims = 2\nDimSize = 4 4\nElementType = MET_UCHAR\nElementDataFile = {secret}\n".encode()
    for name in ("x.mha", "x.mhd", "x.vtk", "x.hdr", "x"):
        with pytest.raises(ValueError, match="cannot be read"):
            s.volumes.read_image(head, name)


def test_colours_become_grey(s: SimpleNamespace) -> None:
    import SimpleITK as sitk

    rgb = np.stack([chest()[0] // 16] * 3, -1).astype(np.uint8)
    volume = s.slicer.util.addVolumeFromArray(rgb[None], nodeClassName="vtkMRMLVectorVolumeNode")
    assert np.array_equal(s.volumes.image_of(volume).array[0], rgb[..., 0])
    assert s.volumes._from_itk(sitk.GetImageFromArray(rgb, isVector=True)).array.shape == (1, *rgb.shape[:2])


def test_several_slices_and_nothing_are_refused_with_a_sentence(s: SimpleNamespace) -> None:
    many = s.volumes.add_volume(Image(np.zeros((3, 4, 5), np.uint8), USUAL), "ct")
    with pytest.raises(s.volumes.NotARadiograph, match="3 slices"):
        s.volumes.image_of(many)
    with pytest.raises(s.volumes.NotARadiograph, match="Choose a radiograph"):
        s.volumes.image_of(None)


def test_a_result_that_lies_elsewhere_is_not_used(s: SimpleNamespace) -> None:
    volume = a_volume(s)
    label = np.zeros((1, 96, 80), np.uint8)
    assert s.volumes.onto(volume, Image(label, np.diag([-1.0, -1.0, 1, 1]))) is label, (
        "another pixel size is named"
    )
    flipped = USUAL @ np.diag([-1.0, 1, 1, 1])
    for wrong in (Image(label, flipped), Image(label[:, :-1], USUAL)):
        with pytest.raises(s.volumes.NotARadiograph, match="does not lie on"):
            s.volumes.onto(volume, wrong)


# Segments


def test_labels_become_segments_voxel_for_voxel_with_codes_and_distinct_colours(s: SimpleNamespace) -> None:
    volume = a_volume(s, SWAPPED)
    segmentation = s.segments.segmentation_for(volume)
    array, labels = lungs(s, volume)
    ids = s.segments.add_labels(segmentation, volume, array, labels)
    for value, segment in enumerate(ids, start=1):
        assert np.array_equal(s.segments.mask_of(segmentation, segment, volume), array == value)
    entry = s.slicer.vtkSlicerTerminologyEntry()
    logic = s.slicer.modules.terminologies.logic()
    tag = s.slicer.vtkSegment.GetTerminologyEntryTagName()
    assert logic.DeserializeTerminologyEntry(s.segments.tag_of(segmentation, ids[0], tag), entry)
    assert entry.GetTypeObject().GetCodeValue() == "39607008"
    assert entry.GetTypeModifierObject().GetCodeMeaning() == "Right"
    colours = [segmentation.GetSegmentation().GetSegment(segment).GetColor() for segment in ids]
    assert np.linalg.norm(np.subtract(*colours)) >= 0.15, "both asked for the same colour"


def test_segments_that_were_there_stay_bit_identical_also_below_the_new_ones(s: SimpleNamespace) -> None:
    volume = a_volume(s)
    segmentation = s.segments.segmentation_for(volume)
    array, labels = lungs(s, volume)
    mine = s.segments.add_empty(segmentation, s.segments.label_named("right lung"))
    drawn = np.zeros(array.shape, bool)
    drawn[0, 20:60, 10:70] = True
    s.segments.set_mask(segmentation, mine, drawn, volume)
    other = s.segments.add_empty(segmentation, s.segments.label_named("tube"))
    s.segments.set_mask(segmentation, other, ~drawn, volume)
    before = state_of(s, segmentation, volume)
    ids = s.segments.add_labels(segmentation, volume, array, labels)
    after = state_of(s, segmentation, volume)
    assert {key: after[key] for key in before} == before
    assert [s.segments.name_of(segmentation, i) for i in ids] == ["right lung (2)", "left lung"]
    for value, segment in enumerate(ids, start=1):
        assert np.array_equal(s.segments.mask_of(segmentation, segment, volume), array == value)


def test_labelling_again_replaces_what_nobody_edited_and_keeps_the_rest(s: SimpleNamespace) -> None:
    volume = a_volume(s)
    segmentation = s.segments.segmentation_for(volume)
    array, labels = lungs(s, volume)
    right, left = s.segments.add_labels(segmentation, volume, array, labels)
    corrected = s.segments.mask_of(segmentation, left, volume)
    corrected[0, 0, 0] = True
    s.segments.set_mask(segmentation, left, corrected, volume)
    shifted = np.roll(array, 3, axis=1)
    again = s.segments.add_labels(segmentation, volume, shifted, labels)
    assert again[0] == right and again[1] != left
    assert np.array_equal(s.segments.mask_of(segmentation, right, volume), shifted == 1)
    assert np.array_equal(s.segments.mask_of(segmentation, left, volume), corrected)


def test_undo_brings_everything_back(s: SimpleNamespace) -> None:
    volume = a_volume(s)
    editor = s.slicer.qMRMLSegmentEditorWidget()
    editor.setMRMLSegmentEditorNode(s.slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentEditorNode"))
    segmentation = s.segments.segmentation_for(volume)
    mine = s.segments.add_empty(segmentation, s.segments.label_named("tube"))
    s.segments.set_mask(segmentation, mine, chest() > 2600, volume)
    editor.setSegmentationNode(segmentation)
    editor.setSourceVolumeNode(volume)
    before = state_of(s, segmentation, volume)
    editor.saveStateForUndo()
    array, labels = lungs(s, volume)
    s.segments.add_labels(segmentation, volume, array, labels)
    after = state_of(s, segmentation, volume)
    assert len(after) == 3
    editor.undo()
    assert state_of(s, segmentation, volume) == before
    editor.redo()
    assert state_of(s, segmentation, volume) == after


def test_overlapping_segments_are_handed_in_without_loss(s: SimpleNamespace) -> None:
    volume = a_volume(s)
    segmentation = s.segments.segmentation_for(volume)
    array, labels = lungs(s, volume)
    ids = s.segments.add_labels(segmentation, volume, array, labels)
    for name, mask in (
        ("nodule", chest() < 650),
        ("empty", np.zeros(array.shape, bool)),
        ("bone", chest() > 2650),
    ):
        segment = s.segments.add_empty(segmentation, s.segments.label_named(name))
        s.segments.set_mask(segmentation, segment, mask, volume)
        ids.append(segment)
    layers = s.segments.layers_of(segmentation, volume, ids)
    assert [layer.names for layer in layers] == [
        {"right lung": 1, "left lung": 2, "bone": 17},
        {"nodule": 16},
    ]
    for segment in ids:
        name = s.segments.name_of(segmentation, segment)
        mask = s.segments.mask_of(segmentation, segment, volume)
        homes = [layer for layer in layers if name in layer.names]
        assert len(homes) == (1 if mask.any() else 0)
        for layer in homes:
            assert np.array_equal(layer.image.array == layer.names[name], mask)
            assert np.array_equal(layer.image.ijk_to_ras, USUAL)


def test_two_segments_of_one_name_are_both_handed_in(s: SimpleNamespace) -> None:
    volume = a_volume(s)
    segmentation = s.segments.segmentation_for(volume)
    masks = [chest() < 650, chest() > 2650]
    ids = []
    for mask in masks:
        ids.append(s.segments.add_empty(segmentation, s.segments.label_named("spot")))
        s.segments.set_mask(segmentation, ids[-1], mask, volume)
        segmentation.GetSegmentation().GetSegment(ids[-1]).SetName("spot")
    (layer,) = s.segments.layers_of(segmentation, volume, ids)
    assert layer.names == {"spot": 16, "spot (2)": 17}
    for value, mask in zip((16, 17), masks, strict=True):
        assert np.array_equal(layer.image.array == value, mask)


def test_two_radiographs_do_not_mix(s: SimpleNamespace) -> None:
    first, second = a_volume(s, name="one"), a_volume(s, SWAPPED, "two", rows=50, columns=70, seed=1)
    made = []
    for volume in (first, second):
        segmentation = s.segments.segmentation_for(volume)
        array, labels = lungs(s, volume)
        ids = s.segments.add_labels(segmentation, volume, array, labels)
        made.append((volume, segmentation, array, ids))
    for volume, segmentation, array, ids in made:
        assert np.array_equal(s.segments.mask_of(segmentation, ids[0], volume), array == 1)
    assert made[0][1].GetName() == "one labels" and made[1][1].GetName() == "two labels"


def test_a_stock_servers_label_names_get_codes_too(s: SimpleNamespace) -> None:
    array = np.array([[[0, 1, 7]]])
    labels = s.labels.labels_of({"label_names": {"left_lung": 1}}, array)
    assert [(label.name, label.value) for label in labels] == [("left lung", 1), ("segment 7", 7)]
    assert "SCT^39607008^Lung~SCT^7771000^Left" in labels[0].terminology


def test_twenty_colours_stay_apart(s: SimpleNamespace) -> None:
    taken: list = []
    for _ in range(20):
        taken.append(s.labels.distinct_colour((0.5, 0.7, 0.9), taken))
    apart = [np.linalg.norm(np.subtract(a, b)) for i, a in enumerate(taken) for b in taken[:i]]
    assert min(apart) > 0.1


# Generated images


def made_candidates(s: SimpleNamespace, volume: object, spoil: bool = False) -> list:
    image = s.volumes.image_of(volume)
    mask = np.zeros(image.array.shape, bool)
    mask[0, 10:20, 10:30] = True
    painted = np.where(mask, image.array + 100, image.array)
    if spoil:
        painted[0, 0, 0] += 1
    sent = {
        "c1.nrrd": finish(nrrd.encode(Image(painted, image.ijk_to_ras))),
        "m1.nrrd": finish(nrrd.encode(Image(mask, image.ijk_to_ras))),
    }
    told = {"candidates": [{"id": "c1", "mask_id": "m1.nrrd", "recipe": {"seed": 7}}]}
    return s.generated.candidates_of(Result(told, sent), volume)


def test_a_kept_candidate_is_a_new_volume_with_mask_and_recipe(s: SimpleNamespace, tmp_path: Path) -> None:
    volume = a_volume(s, SWAPPED)
    volume.GetDisplayNode().AutoWindowLevelOff()
    volume.GetDisplayNode().SetWindowLevelMinMax(100, 900)
    original = s.slicer.util.arrayFromVolume(volume).copy()
    candidate = made_candidates(s, volume)[0]
    assert candidate.untouched(original)
    kept = s.generated.keep(candidate, volume, "effusion")
    assert np.array_equal(s.slicer.util.arrayFromVolume(volume), original)
    array = s.slicer.util.arrayFromVolume(kept)
    assert array.dtype == original.dtype and np.array_equal(array[~candidate.mask], original[~candidate.mask])
    assert np.array_equal(s.volumes.matrix_of(kept), SWAPPED)
    assert kept.GetAttribute(s.generated.RECIPE_ATTRIBUTE) == '{"seed": 7}'
    assert kept.GetNodeReference(s.generated.RECIPE_ATTRIBUTE).GetText() == '{\n "seed": 7\n}'
    assert kept.GetDisplayNode().GetWindow() == 800
    segmentation = kept.GetNodeReference("DiNODiffusion.mask")
    segment = s.segments.segment_ids(segmentation)[0]
    assert np.array_equal(s.segments.mask_of(segmentation, segment, kept), candidate.mask)


def test_a_pixel_changed_outside_the_mask_is_noticed(s: SimpleNamespace) -> None:
    volume = a_volume(s)
    assert not made_candidates(s, volume, spoil=True)[0].untouched(s.slicer.util.arrayFromVolume(volume))


def test_a_candidate_whose_file_is_missing_is_named(s: SimpleNamespace) -> None:
    from DiNODiffusionLib.net.errors import BadAnswer

    with pytest.raises(BadAnswer, match="c9"):
        s.generated.candidates_of(Result({"candidates": [{"id": "c9"}]}, {}), a_volume(s))


# The parameter node


def test_choices_survive_saving_and_reopening_the_scene(s: SimpleNamespace, tmp_path: Path) -> None:
    node = s.slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScriptedModuleNode", "choices")
    parameters = s.parameters.Parameters(node)
    volume = a_volume(s)
    parameters.set("concepts", {"effusion": 0.5})
    parameters.set("strength", 0.35)
    parameters.set("zones", True)
    parameters.set_node("volume", volume)
    path = tmp_path / "scene.mrml"
    s.slicer.mrmlScene.SetURL(str(path))
    assert s.slicer.mrmlScene.Commit(str(path))
    s.slicer.mrmlScene.RemoveNode(volume)
    s.slicer.mrmlScene.Clear(0)
    s.slicer.mrmlScene.SetURL(str(path))
    s.slicer.mrmlScene.Import()
    again = s.parameters.Parameters(s.slicer.mrmlScene.GetFirstNodeByName("choices"))
    assert (again.get("concepts"), again.get("strength"), again.get("zones")) == (
        {"effusion": 0.5},
        0.35,
        True,
    )
    assert again.get("candidates") == 4, "what was never set has its default"
    assert again.node("volume").GetName() == "chest"


def test_a_spoilt_parameter_falls_back(s: SimpleNamespace) -> None:
    node = s.slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScriptedModuleNode")
    parameters = s.parameters.Parameters(node)
    for text in ("{", '"text"', "null"):
        node.SetParameter("strength", text)
        assert parameters.get("strength") == 1.0
    with pytest.raises(KeyError):
        parameters.set("token", "secret")


def test_a_node_that_went_is_a_sentence(s: SimpleNamespace) -> None:
    volume = a_volume(s)
    node_id = volume.GetID()
    assert s.nodes.node_of(node_id, "radiograph") is volume
    s.slicer.mrmlScene.RemoveNode(volume)
    with pytest.raises(s.nodes.SceneChanged, match="closed meanwhile"):
        s.nodes.node_of(node_id, "radiograph")


def test_the_servers_own_colours_are_kept_where_they_differ(s: SimpleNamespace) -> None:
    """Blues for the right lung and oranges for the left, as the project's codes have them."""
    zones = [(140, 210, 250), (55, 165, 225), (85, 130, 240), (255, 214, 110), (245, 150, 35), (214, 88, 20)]
    taken: list = []
    for zone in zones:
        wanted = tuple(level / 255 for level in zone)
        taken.append(s.labels.distinct_colour(wanted, taken))
        assert taken[-1] == wanted
