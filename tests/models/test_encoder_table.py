"""Encoders that installed packages offer, and names that are taken."""

import json
import sys

import keras
import pytest

from kmm.errors import InputError, look_up
from kmm.models.encoder_table import EncoderTable
from kmm.models.encoders_image import IMAGE_ENCODERS
from kmm.models.registration import register_image_encoder
from tests.factories.commands import run
from tests.factories.own_encoders import write_package

GROUP = "kmm.shapes"


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Installs packages that offer shapes; the modules are forgotten after the test."""

    def put(name, offers, module="ROUND = 'round'\n"):
        folder = tmp_path / name
        folder.mkdir()
        write_package(folder, name, offers=offers, group=GROUP, module=module)
        monkeypatch.syspath_prepend(folder)
        monkeypatch.delitem(sys.modules, name, raising=False)

    return put


def make_table():
    return EncoderTable("shape", GROUP, {"disk": "a disk"}, lambda made, name: f"{name}: {made}")


def test_an_offered_name_is_known_at_once_and_its_package_imported_when_it_is_looked_up(install):
    install("shapes_one", "square = shapes_one:ROUND")
    table = make_table()
    assert "square" in table and list(table) == ["disk", "square"] and len(table) == 2
    assert "shapes_one" not in sys.modules and list(table.loaded()) == ["disk"]
    assert table["square"] == "square: round" and "shapes_one" in sys.modules
    assert table.loaded() == {"disk": "a disk", "square": "square: round"}


def test_a_package_that_appears_later_is_found(install):
    table = make_table()
    assert "square" not in table
    install("shapes_two", "square = shapes_two:ROUND")
    assert table["square"] == "square: round"


@pytest.mark.parametrize(
    ("module", "reason"),
    [
        ("import no_such_module\n", "ModuleNotFoundError: No module named 'no_such_module'"),
        ("x = (\n", "SyntaxError: '(' was never closed"),
        ("ANGULAR = 1\n", "AttributeError: module 'shapes_bad' has no attribute 'ROUND'"),
        ("raise RuntimeError('first\\nsecond')\n", "RuntimeError: first"),
    ],
)
def test_a_broken_offer_is_an_error_of_its_own_name_alone(install, module, reason):
    install("shapes_bad", "bad = shapes_bad:ROUND", module)
    table = make_table()
    assert table["disk"] == "a disk" and "bad" in table
    with pytest.raises(InputError, match=r"^Unknown shape 'x'. Known: disk, bad.$"):
        look_up(table, "x", "shape")
    with pytest.raises(InputError) as caught:
        look_up(table, "bad", "shape")
    assert str(caught.value).startswith(f"The shape 'bad' of the package shapes_bad-project cannot be loaded ({reason}")
    assert str(caught.value).endswith("Update the package, or uninstall it.") and "\n" not in str(caught.value)


def test_a_name_that_is_taken_is_refused_whoever_took_it(install):
    install("shapes_three", "square = shapes_three:ROUND\ndisk = shapes_three:ROUND")
    table = make_table()
    with pytest.raises(InputError, match=r"^The name 'square' is taken by another shape. Choose another name.$"):
        table.add("square", "mine")
    with pytest.raises(
        InputError, match=r"^The shape 'disk' is offered more than once: by kmm or this program and the pa"
    ):
        table["disk"]
    install("shapes_four", "square = shapes_four:ROUND")
    with pytest.raises(InputError, match=r"by the package shapes_four-project and the package shapes_three-project"):
        table["square"]


@pytest.mark.parametrize("name", ["", "a b", "../x", "a/b"])
def test_a_name_must_be_safe_in_a_file_and_on_a_command_line(name):
    with pytest.raises(InputError, match=r"may have letters, digits"):
        make_table().add(name, "mine")


def test_what_is_registered_is_made_when_it_is_first_used():
    made, table = [], make_table()
    table._convert = lambda value, name: made.append(name) or value
    table.add("mine", "a shape")
    assert "mine" in table and not made
    assert (table["mine"], table["mine"], made) == ("a shape", "a shape", ["mine"])
    del table["mine"]
    assert "mine" not in table


def build_map(units=2):
    film = keras.Input((32, 32, 1))
    kernel = keras.initializers.Constant(0.1)
    return keras.Model(film, keras.layers.Conv2D(units, 3, activation="relu", kernel_initializer=kernel)(film))


@pytest.mark.parametrize("used", [False, True])
def test_the_same_encoder_may_be_registered_again(used):
    model = build_map()
    try:
        for name, given in (("again", model), ("built", build_map), ("entry", IMAGE_ENCODERS["small-cnn"])):
            register_image_encoder(name, given)
            if used:
                assert IMAGE_ENCODERS[name].network
            register_image_encoder(name, given)
        register_image_encoder("again", build_map())  # equal
        for name, given, options in (
            ("again", build_map(3), {}),
            ("again", model, {"scaling": "unit"}),
            ("built", build_map, {"scaling": "unit"}),
            ("built", lambda: build_map(), {}),
            ("densenet121", model, {}),
        ):
            with pytest.raises(InputError, match=f"The name '{name}' is taken by another image encoder"):
                register_image_encoder(name, given, **options)
    finally:
        for name in ("again", "built", "entry"):
            IMAGE_ENCODERS.pop(name, None)
    assert IMAGE_ENCODERS.find_added("again") is None


def test_an_unknown_option_is_named():
    with pytest.raises(InputError, match=r"Unknown option of the image encoder 'poolin'\. Known: pixels, scaling, po"):
        register_image_encoder("mine", build_map(), poolin="max")
    assert "mine" not in IMAGE_ENCODERS


def test_the_command_that_lists_encoders_says_which_offers_are_broken(tmp_path, monkeypatch):
    offers = "own-cnn = films_listed:build\nbroken-cnn = films_listed:nothing"
    monkeypatch.syspath_prepend(write_package(tmp_path, "films_listed", offers=offers))
    try:
        rows = json.loads(run("weights", "list", "--json", "-").stdout)["encoders"]
    finally:
        IMAGE_ENCODERS.pop("own-cnn", None)
    rows = {row["name"]: row for row in rows}
    assert (rows["own-cnn"]["pixels"], rows["own-cnn"]["weights"][0]) == (32, "given")
    said = "The image encoder 'broken-cnn' of the package films_listed-project cannot be loaded (AttributeError: "
    assert rows["broken-cnn"]["source"].startswith(said) and rows["broken-cnn"]["weights"] == []
    assert rows["densenet121"]["weights"][0] == "imagenet"
