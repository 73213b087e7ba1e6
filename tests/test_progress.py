import io
import sys
import types

from kmm.progress import NotebookProgress, PlainProgress, Progress, TerminalProgress, choose_progress


def test_plain_lines_give_count_rate_and_time_left():
    stream = io.StringIO()
    with PlainProgress(stream, seconds=0).step("Reading", 3) as advance:
        advance()
        advance(2, text="loss 0.3")
    first, last = stream.getvalue().splitlines()
    assert first.startswith("Reading: 1/3, ") and "/s, " in first and "s left" in first
    assert last.startswith("Reading: 3/3 in ") and last.endswith("loss 0.3")


def test_plain_lines_are_few():
    stream = io.StringIO()
    with PlainProgress(stream, seconds=60).step("Reading", 1000) as advance:
        for _ in range(1000):
            advance()
    assert len(stream.getvalue().splitlines()) == 1


def test_a_failing_step_does_not_say_that_it_ended():
    stream = io.StringIO()
    try:
        with PlainProgress(stream).step("Reading", 3):
            raise OSError
    except OSError:
        pass
    assert stream.getvalue() == ""


def test_a_terminal_gets_a_bar_with_the_count():
    stream = io.StringIO()
    with TerminalProgress(stream).step("Reading", 2) as advance:
        advance(2, text="loss 0.3")
    assert "Reading" in stream.getvalue() and "2/2" in stream.getvalue()


def test_a_pipe_gets_lines_and_silence_says_nothing(capsys):
    assert isinstance(choose_progress(io.StringIO()), PlainProgress)
    with Progress().step("Reading", 1) as advance:
        advance()
    Progress().note("kept")
    assert capsys.readouterr() == ("", "")


class Cell:
    """The output of a notebook's cell: `display` of IPython, which returns a handle to what it showed."""

    def __init__(self):
        self.lines = []

    def display(self, data, *, raw, display_id=None):
        assert raw
        self.lines.append(data["text/plain"])
        return Handle(self.lines, len(self.lines) - 1)


class Handle:
    def __init__(self, lines, place):
        self.lines, self.place = lines, place

    def update(self, data, *, raw):
        self.lines[self.place] = data["text/plain"]


def test_a_notebook_gets_one_line_per_step_which_is_replaced():
    cell = Cell()
    progress = NotebookProgress(cell.display, seconds=0)
    with progress.step("Reading", 3) as advance:
        assert cell.lines == ["Reading: 0/3"]
        advance(2, text="loss 0.3")
        assert cell.lines[0].startswith("Reading: 2/3, ") and cell.lines[0].endswith("s left loss 0.3")
        advance()
    progress.note("Done")
    assert cell.lines[0].startswith("Reading: 3/3 in ") and cell.lines[1:] == ["Done"]


def test_a_notebook_is_recognised(monkeypatch):
    shell = types.SimpleNamespace(kernel=object())
    python = types.SimpleNamespace(get_ipython=lambda: shell)
    monkeypatch.setitem(sys.modules, "IPython", python)
    monkeypatch.setitem(sys.modules, "IPython.display", types.SimpleNamespace(display=Cell().display))
    assert isinstance(choose_progress(), NotebookProgress) and isinstance(choose_progress(io.StringIO()), PlainProgress)
    shell.kernel = None  # IPython on a terminal
    assert not isinstance(choose_progress(), NotebookProgress)
