import numpy as np

from dino_diffusion.segmentation.zones import lung_zones


def test_each_lung_is_parted_into_thirds_of_its_own_height() -> None:
    labels = np.zeros((20, 10), dtype=np.uint8)
    labels[2:11, 1:4] = 1  # nine rows
    labels[5:17, 6:9] = 2  # twelve rows
    labels[0, 0] = 16
    zones = lung_zones(labels)
    assert [int(zones[row, 2]) for row in (2, 4, 5, 7, 8, 10)] == [3, 3, 4, 4, 5, 5]
    assert [int(zones[row, 7]) for row in (5, 8, 9, 12, 13, 16)] == [6, 6, 7, 7, 8, 8]
    assert zones[0, 0] == 16
    assert np.array_equal(zones > 0, labels > 0)


def test_a_picture_without_lungs_stays_as_it_is() -> None:
    assert not lung_zones(np.zeros((4, 4), dtype=np.uint8)).any()


def test_a_lung_lower_than_three_rows_has_no_zone_twice() -> None:
    labels = np.array([[1, 1], [0, 2]], dtype=np.uint8)
    assert lung_zones(labels).tolist() == [[3, 3], [0, 6]]
