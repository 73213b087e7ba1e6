"""Which studies form a cohort."""

from pathlib import Path

import numpy as np

from kmm.data.cohorts import LEAST_OF_A_HEADING, find_cohorts
from kmm.data.study import ImageFile, Report, Study

TAGS = [{"view": "pa"}, {"view_position": "AP"}, {"projection": "Frontal"}, {"view_meaning": "postero-anterior"}]


def make_studies(count=40):
    """Every fourth film is of another direction, every second of another kind; the last study has no film."""
    studies = []
    for place in range(count):
        film = ImageFile(Path(f"{place}.{('png', 'DCM')[place % 2]}"), "frontal", tags=TAGS[place % 4])
        report = Report(findings="Clear.", impression="Clear." if place % 5 else "")
        terms = ("Opacity/lung",) if place < 10 else ("opacity",) if place < 20 else ("normal",)
        terms += ("Rare",) if place < LEAST_OF_A_HEADING - 1 else ()
        studies.append(Study(str(place), str(place), (film,), report, terms, attributes={"age": float(place)}))
    return [*studies[:-1], Study("last", "last", report=Report(findings="Clear."))]


def count(values):
    return {value: int(mask.sum()) for value, mask in values.items()}


def test_cohorts_of_every_grouping():
    studies = make_studies()
    present = np.tile([1, 1], (40, 1))
    present[-1, 0] = 0
    cohorts = find_cohorts(studies, present)
    assert count(cohorts["present"]) == {"film and report": 39, "report alone": 1}
    assert count(cohorts["view"]) == {"AP": 10, "PA": 19, "frontal": 10}
    assert count(cohorts["source"]) == {"DICOM": 19, "PNG": 20}
    assert count(cohorts["sections"]) == {"with impression": 31, "without impression": 9}
    assert count(cohorts["heading"]) == {"Opacity": 20}  # in every spelling; `Rare` has too few, `normal` is none
    assert count(cohorts["age"]) == {"0-17": 18, "18-39": 21, "unknown": 1}
    assert "sex" not in cohorts  # of which nothing is known


def test_a_heading_of_few_studies_is_no_cohort():
    studies = [Study(str(place), str(place), mesh_major=("Rare",)) for place in range(LEAST_OF_A_HEADING - 1)]
    assert find_cohorts(studies, np.ones((len(studies), 2))) == {}


def test_a_film_that_was_not_read_has_no_view():
    studies = make_studies()[:8]
    assert "view" not in find_cohorts(studies, np.tile([0, 1], (8, 1)))


def test_no_studies_have_no_cohorts():
    assert find_cohorts([], np.zeros((0, 2))) == {}
