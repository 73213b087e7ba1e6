"""The notebook in examples/ runs from its first cell to its last; it is stored without outputs."""

import ast
import json
from pathlib import Path

import numpy as np
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


def check_served(folder, film, report, expected):
    """Compares the answers of a server and of the C++ loader for an export with a probability of the classifier."""
    served = running(ModelSettings(folder.name, folder))
    with served as (server, _), kmm.Client(f"localhost:{server.port}/{folder.name}") as client:
        assert client.predict(film, report).probabilities["abnormal"] == pytest.approx(expected, abs=1e-5)
        assert client.explain(film, report).words
    if open_library():
        inputs = {"image_bytes": [Path(film).read_bytes()], "report": [report.encode()]}
        arrays = {name: np.array(value, object) for name, value in inputs.items()}
        found = CppModel(folder / "1").run("serving_bytes", arrays)["probabilities"]
        assert found[0, 0] == pytest.approx(expected, abs=1e-5)


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
    assert names["own_map"].shape == names["kmm"].read_film(names["film"]).shape
    pictures = [value for value in shown if hasattr(value, "_repr_png_")]
    assert len(pictures) == 1
    for name, classifier in (("tuned", names["loaded"]), ("own", names["own"])):
        expected = classifier.predict(names["film"], report=names["report"]).probabilities["abnormal"]
        check_served(tmp_path / "models" / name, names["film"], names["report"], expected)
    texts = [text for text in names["frame"]["text"].dropna() if text]
    printed = "\n".join(repr(value) for value in shown if not hasattr(value, "columns"))
    assert not any(text in printed for text in texts)
