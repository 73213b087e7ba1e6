import dataclasses
import json

import pytest

from kmm.errors import InputError
from kmm.explain.settings import ExplainSettings, RegionSettings

OTHER = ExplainSettings(
    method="smoothgrad",
    target="effusion",
    output="probability",
    baselines=("mean", "grey"),
    text_baseline="zero",
    rule="left",
    steps=12,
    map_tolerance=0.2,
    gap_tolerance=0.3,
    max_steps=24,
    layer="block3_relu",
    memory_gb=1.5,
    regions=RegionSettings(0.5, "quantile", 0.0, "dbscan", 3.0, 2, "quantile", 0.8),
)


@pytest.mark.parametrize("settings", [ExplainSettings(), OTHER])
def test_settings_survive_json(settings):
    assert ExplainSettings.from_dict(json.loads(json.dumps(settings.as_dict()))) == settings


def test_every_setting_of_the_other_example_differs_from_its_default():
    for one, other in ((ExplainSettings(), OTHER), (RegionSettings(), OTHER.regions)):
        assert all(getattr(one, field.name) != getattr(other, field.name) for field in dataclasses.fields(one))


@pytest.mark.parametrize(
    "change",
    [
        lambda values: values.update(stepps=3),
        lambda values: values["regions"].update(size=3),
        lambda values: values.update(regions=None),
        lambda values: values.pop("baselines"),
        lambda values: values.pop("regions"),
    ],
)
def test_unknown_or_missing_names_are_one_line(change):
    values = ExplainSettings().as_dict()
    change(values)
    with pytest.raises(InputError, match=r"^Expected the settings of an explanation[^\n]*$"):
        ExplainSettings.from_dict(values)


@pytest.mark.parametrize(
    "values, said",
    [
        ({"output": "odds"}, "`output` must be one of logit, probability. Received: 'odds'."),
        ({"baselines": ()}, "`baselines` must name at least one baseline. Received none."),
    ],
)
def test_what_no_explanation_can_have_is_refused(values, said):
    with pytest.raises(InputError, match=said):
        ExplainSettings(**values)
