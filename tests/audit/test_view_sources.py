"""Films by the source of their view: every kind of evidence has a name, which quotes no table and no header."""

from pathlib import Path

import pytest

from kmm.audit.view_sources import ELSEWHERE, SOURCES, TITLES, count_view_sources
from kmm.data.study import ImageFile, Study
from kmm.data.views.ranking import assign_views

FREE = "quaxley"
STUDIES = {  # source: tags of the images of a study, the first of which has it
    "view column": [{"view": "PA"}, {"view": "oblique"}],
    "projections table": [{"projection": "Frontal"}],
    "View Position": [{"view_position": "LL"}],
    "View Code": [{"view_code": FREE, "view_meaning": FREE}],
    "Patient Orientation": [{"patient_orientation": "A\\F"}],
    "only image of the study": [{}],
    "first image by id with a frontal tag": [{"view_position": "PA"}, {"view_position": "AP"}],
    "first image by id that is not lateral": [{}, {"view": "lateral"}],
    "first image of the study by id": [{}, {}],
}


def make(images, **options):
    films = tuple(ImageFile(Path(f"{number}.png"), tags=tags) for number, tags in enumerate(images))
    return assign_views(Study("1", "1", films), **options)


@pytest.mark.parametrize("source", STUDIES)
def test_every_kind_of_evidence_has_a_name(source):
    study = make(STUDIES[source])
    found = count_view_sources([study])["sources"]
    assert source in found and ELSEWHERE not in found
    assert sum(sum(views.values()) for views in found.values()) == len(study.images)
    assert FREE not in str(found)


def test_the_names_of_all_sources_are_tested():
    assert {*STUDIES, "view override file"} == {TITLES.get(source, source) for source in SOURCES}


def test_films_are_counted_by_view_and_source():
    studies = [make([{"view": "PA"}, {"view": "lateral"}]), make([{"view_position": "LL"}]), make([{"view": "PA"}, {}])]
    studies.append(make([{"view": "lateral"}], override={Path("0.png"): "frontal"}))
    assert count_view_sources(studies) == {
        "sources": {
            "view override file": {"frontal": 1, "lateral": 0, "other": 0, "unknown": 0},
            "view column": {"frontal": 2, "lateral": 1, "other": 0, "unknown": 0},
            "View Position": {"frontal": 0, "lateral": 1, "other": 0, "unknown": 0},
            "nothing": {"frontal": 0, "lateral": 0, "other": 0, "unknown": 1},
        },
        "conflicts": 1,
    }


def test_no_film_has_no_source():
    assert count_view_sources([Study("1", "1")]) == {"sources": {}, "conflicts": 0}
