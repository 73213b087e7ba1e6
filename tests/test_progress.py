import io

from kmm.progress import PlainProgress, Progress, TerminalProgress, choose_progress


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
