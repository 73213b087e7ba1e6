"""The notebook in examples/ runs from its first cell to its last; it is stored without outputs."""

import ast
import json
from pathlib import Path

import pytest

import kmm
from kmm.server.settings import ModelSettings
from tests.export.cpp_loader import CppModel, open_library
from tests.factories.servers import running

NOTEBOOK = Path(__file__).parents[1] / "examples" / "tour.ipynb"
CELLS = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
CODE = ["".join(cell["source"]) for cell in CELLS if cell["cell_type"] == "code"]


def run_cell(source, names, place):
    """Runs a cell as a notebook does; returns the value of its last expression, None without one."""
    tree = ast.parse(source)
    if isinstance(tree.body[-1], ast.Expr):
        target = ast.Name("shown", ast.Store())
        tree.body[-1] = ast.Assign([target], tree.body[-1].value)
    names["shown"] = None
    exec(compile(ast.fix_missing_locations(tree), place, "exec"), names)
    return names["shown"]


def check_export(folder, classifier, film, report):
    """The classifier with the notebook's own encoder answers alike here, from a server, and from the C++ loader."""
    inputs = {name: value for name, value in classifier.preprocess(film, report).items() if name != "present"}
    expected = classifier.predict(film, report).probabilities["abnormal"]
    with running(ModelSettings("own", folder)) as (server, _), kmm.Client(f"localhost:{server.port}/own") as client:
        assert client.predict(film, report).probabilities["abnormal"] == pytest.approx(expected, abs=1e-5)
        assert client.explain(film, report).words
    if open_library():
        answer = CppModel(folder / "1").run("serving_default", inputs)
        assert answer["probabilities"][0, 0] == pytest.approx(expected, abs=1e-5)


def test_the_notebook_has_no_outputs():
    assert len(CODE) > 10
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in CELLS)


@pytest.mark.large
def test_the_notebook_runs(tmp_path, monkeypatch):
    pytest.importorskip("pandas")
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    shown = [run_cell(source, names, f"tour.ipynb, cell {number}") for number, source in enumerate(CODE)]
    pages = [value._repr_html_() for value in shown if hasattr(value, "explanation")]
    assert len(pages) == 1 and "Patchy" in pages[0]
    check_export(tmp_path / "models" / "own", names["own"], names["film"], names["report"])
    assert names["own_map"].shape == names["kmm"].read_film(names["film"]).shape
    pictures = [value for value in shown if hasattr(value, "_repr_png_")]
    assert len(pictures) == 1
    texts = [text for text in names["frame"]["text"].dropna() if text]
    printed = "\n".join(repr(value) for value in shown if not hasattr(value, "columns"))
    assert not any(text in printed for text in texts)
