"""What commands show of their results."""

from kmm.cli.result_tables import print_explanations

ROW = {
    "study": "s1",
    "target": "mass",
    "probability": 0.5,
    "regions": 1,
    "top_x": 3.0,
    "top_y": 4.0,
    "text_share": None,
    "map_error": 0.06,
    "error": "",
}
MISSED = "map error 0.06 is above its tolerance 0.05 after 216 steps"


def show(capsys, *rows):
    print_explanations({"out": "out", "studies": len(rows), "failed": 0, "rows": list(rows)})
    return capsys.readouterr().out


def test_a_study_that_missed_a_tolerance_is_marked_in_the_table_of_the_terminal(capsys):
    lines = show(capsys, {**ROW, "warnings": ""}, {**ROW, "study": "s2", "warnings": MISSED}).splitlines()
    (missed,) = [line for line in lines if "s2" in line]
    (good,) = [line for line in lines if "s1" in line]
    assert "map error 0.06" in missed and "0.06 is" not in good and "warnings" in " ".join(lines)


def test_without_warnings_there_is_no_such_column(capsys):
    for row in (ROW, {**ROW, "warnings": ""}):
        assert "warnings" not in show(capsys, row)
