import dataclasses
import json

import pytest

from kmm.errors import InputError
from kmm.explain.settings import ExplainSettings, RegionSettings

OTHER = ExplainSettings(
    method="smoothgrad",
    target="effusion",
    targets=("mass", "positive"),
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
def test_json_holds_every_setting(settings):
    values = json.loads(json.dumps(settings.as_dict()))
    assert ExplainSettings.from_dict(values) == settings
    assert ExplainSettings.from_dict({**values, "regions": {}}).regions == RegionSettings()
    with pytest.raises(InputError, match="The settings of an explanation cannot be read"):
        ExplainSettings.from_dict({**values, "colour": "red"})


def test_every_setting_of_the_other_example_differs_from_its_default():
    for one, other in ((ExplainSettings(), OTHER), (RegionSettings(), OTHER.regions)):
        assert all(getattr(one, field.name) != getattr(other, field.name) for field in dataclasses.fields(one))


@pytest.mark.parametrize(
    "values, said",
    [
        ({"output": "odds"}, "`output` must be one of logit, probability. Received: 'odds'."),
        ({"baselines": ()}, "`baselines` must name at least one baseline. Received none."),
        ({"map_tolerance": float("nan")}, "`map_tolerance` must be a number above 0. Received: nan."),
        ({"gap_tolerance": 0}, "`gap_tolerance` must be a number above 0. Received: 0."),
        ({"max_steps": 3}, "`max_steps` must be at least 5. Received: 3."),
        ({"memory_gb": 0}, "`memory_gb` must be a number above 0. Received: 0."),
        ({"memory_gb": float("nan")}, "`memory_gb` must be a number above 0. Received: nan."),
    ],
)
def test_what_no_explanation_can_have_is_refused(values, said):
    with pytest.raises(InputError, match=said):
        ExplainSettings(**values)
