import fcntl
import io
import os
import pty
import re
import struct
import termios
import threading
from collections.abc import Iterator

import pytest

from trainer.callbacks.console import Console, Pace, clock_time, number
from trainer.loop.callback import EvaluationMetrics, StepMetrics
from trainer.loop.state import State

HIDE_CURSOR = "\x1b[?25l"
CONTROL = re.compile(r"\x1b\[(\??[\d;]*)([A-Za-z])")


def training(step: int, loss: float = 4.81234, speed: float = 5210.4) -> StepMetrics:
    return StepMetrics(
        step=step,
        epoch=step / 100,
        loss=loss,
        lr=2e-4,
        grad_norm=1.5,
        tokens=640,
        targets=320,
        positions=800,
        squares=102_400,
        tokens_per_second=speed,
        peak_memory_bytes=1 << 30,
        seconds=step * 0.5,
        processor_seconds=1.5,
    )


def validation(step: int, loss: float) -> EvaluationMetrics:
    return EvaluationMetrics(step=step, epoch=step / 100, loss=loss, tokens=64, targets=32, seconds=0.25)


class Clock:
    """Seconds that a test moves by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Terminal:
    """A real pseudo-terminal whose other end is read all the time, as a terminal window would."""

    def __init__(self, columns: int, encoding: str = "utf-8") -> None:
        self.columns = columns
        self._outer, inner = pty.openpty()
        self.resize(columns, inner)
        self.stream = os.fdopen(inner, "w", encoding=encoding)
        self._read = bytearray()
        self._reader = threading.Thread(target=self._keep_reading, daemon=True)
        self._reader.start()

    def resize(self, columns: int, descriptor: int) -> None:
        fcntl.ioctl(descriptor, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))

    def _keep_reading(self) -> None:
        # Linux answers EIO once the inner end is closed
        while True:
            try:
                chunk = os.read(self._outer, 65536)
            except OSError:
                return
            self._read.extend(chunk)

    def close(self) -> None:
        if not self.stream.closed:
            self.stream.close()
        self._reader.join()

    def output(self) -> str:
        """All that was written; closes the terminal."""
        self.close()
        return self._read.decode()

    def screen(self) -> list[str]:
        """What a person sees at the end; a line longer than the screen goes on below."""
        rows, row, column = [""], 0, 0
        text = self.output()
        at = 0
        while at < len(text):
            control = CONTROL.match(text, at)
            if control:
                if control[2] == "A":
                    row = max(0, row - int(control[1] or 1))
                elif control[2] == "K":
                    rows[row] = ""
                at = control.end()
                continue
            if text[at] == "\r":
                column = 0
            elif text[at] == "\n":
                row += 1
            else:
                if column == self.columns:
                    row, column = row + 1, 0
                while len(rows) <= row:
                    rows.append("")
                rows[row] = rows[row][:column].ljust(column) + text[at] + rows[row][column + 1 :]
                column += 1
            while len(rows) <= row:
                rows.append("")
            at += 1
        return [line.rstrip() for line in rows]


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[Terminal]:
    monkeypatch.setenv("TERM", "xterm-256color")
    made = Terminal(80)
    yield made
    made.close()


def steps(console: Console, clock: Clock, state: State, count: int, seconds: float) -> None:
    for _ in range(count):
        clock.now += seconds
        state.step += 1
        console.step_end(state)


def printed(total: int = 312, **state: int | float | None) -> tuple[Console, io.StringIO, State]:
    stream = io.StringIO()
    return Console(stream, Clock()), stream, State(steps=total, **state)  # type: ignore[arg-type]


def test_a_file_gets_one_plain_line_a_report() -> None:
    stream, clock, state = io.StringIO(), Clock(), State(steps=312)
    console = Console(stream, clock)
    console.start(state)
    steps(console, clock, state, 40, 0.25)
    console.report(state, training(40))
    console.end(state)

    assert stream.getvalue() == "step  40/312  loss  4.8123  lr 2.0e-04    5,210 tokens/s  left  1:08\n"


def test_plain_lines_stand_in_columns() -> None:
    console, stream, state = printed()
    console.start(state)
    console.report(state, training(5, loss=10.5, speed=987.0))
    console.report(state, training(310, loss=0.25, speed=123456.0))
    console.end(state)

    first, second = stream.getvalue().splitlines()
    assert [first.index(word) for word in ("loss", "lr", "tokens", "left")] == [
        second.index(word) for word in ("loss", "lr", "tokens", "left")
    ]


def test_a_file_gets_no_control_codes_even_where_colour_is_forced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    console, stream, state = printed(resumed_from=200, step=200)
    console.start(state)
    console.report(state, training(210))
    console.end(state)

    assert "\x1b" not in stream.getvalue()
    assert len(stream.getvalue().splitlines()) == 2


def test_a_terminal_that_cannot_move_its_cursor_gets_plain_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    dumb = Terminal(80)
    console, state = Console(dumb.stream, Clock()), State(steps=312)
    console.start(state)
    console.report(state, training(40))
    console.end(state)

    assert dumb.output() == "step  40/312  loss  4.8123  lr 2.0e-04    5,210 tokens/s  left  -:--\r\n"


def test_the_resume_is_told() -> None:
    console, stream, state = printed(resumed_from=200, step=200)
    console.start(state)

    assert stream.getvalue() == "resumed from step 200\n"


def test_a_checkpoint_is_told_by_its_name() -> None:
    console, stream, state = printed()
    console.saved(state, "runs/quickstart/checkpoints/step-00000200")

    assert stream.getvalue() == "saved step-00000200\n"


@pytest.mark.parametrize(
    "step, best_step, best_value, line",
    [
        (0, 0, 8.3166, "validation before the first step: loss 4.2110"),
        (100, 100, 4.211, "validation at step 100: loss 4.2110 (best so far; 8.32 at the start)"),
        (100, 50, 4.1, "validation at step 100: loss 4.2110 (best 4.1000 at step 50)"),
    ],
)
def test_a_validation_is_told_beside_the_best_or_the_first(
    step: int, best_step: int, best_value: float, line: str
) -> None:
    console, stream, state = printed(best_step=best_step, best_value=best_value, first_value=8.3166)
    console.evaluated(state, validation(step, 4.211))

    assert stream.getvalue() == line + "\n"


def test_a_validation_with_nothing_to_compare_stands_alone() -> None:
    console, stream, state = printed()
    console.evaluated(state, validation(100, 4.211))

    assert stream.getvalue() == "validation at step 100: loss 4.2110\n"


def test_a_long_line_stays_whole_so_that_a_path_can_be_copied() -> None:
    console, stream, _ = printed()
    line = "the model is in " + "a rather long folder name/" * 10
    console.say(line)

    assert stream.getvalue() == line + "\n"


def test_what_is_said_is_not_read_as_markup_or_as_terminal_codes() -> None:
    console, stream, _ = printed()
    console.say("[red]42[/red] :smile: \x1b[2J \r done")

    assert stream.getvalue() == "[red]42[/red] :smile: \ufffd[2J \ufffd done\n"


def test_text_that_the_stream_cannot_encode_does_not_end_the_run() -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii")
    Console(stream).say("caf\u00e9")

    assert raw.getvalue() == b"caf?\n"


def test_a_reader_that_goes_away_does_not_end_the_run() -> None:
    outer, inner = os.pipe()
    stream = os.fdopen(inner, "w")
    console, state = Console(stream), State(steps=312)
    os.close(outer)
    console.start(state)
    console.report(state, training(10))
    console.report(state, training(20))
    console.end(state)

    with pytest.raises(BrokenPipeError):
        stream.close()


def test_the_bar_shows_how_far_and_how_well_within_80_columns(terminal: Terminal) -> None:
    clock, state = Clock(), State(steps=12000)
    console = Console(terminal.stream, clock)
    console.start(state)
    steps(console, clock, state, 4000, 1.0)
    console.evaluated(state, validation(4000, 4.211))
    console.report(state, training(4000, speed=123456.0))
    console.end(state)

    screen = terminal.screen()
    assert screen[0] == "validation at step 4000: loss 4.2110"
    assert re.fullmatch(r"step  4000/12000  [\u2501\u2578\u257a]{20,}  elapsed 1:06:40", screen[1])
    assert screen[2:] == ["loss  4.8123  validation 4.2110  lr 2.0e-04  123,456 tokens/s", ""]


def test_the_time_left_stands_in_the_bar(terminal: Terminal) -> None:
    clock, state = Clock(), State(steps=312)
    console = Console(terminal.stream, clock)
    console.start(state)
    steps(console, clock, state, 12, 1.0)
    assert console._live is not None
    console._live.refresh()
    console.end(state)

    assert "elapsed 0:12  left  5:00" in terminal.output()


@pytest.mark.parametrize("columns", [40, 80, 120])
def test_no_frame_is_wider_than_the_terminal(columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    window = Terminal(columns)
    clock, state = Clock(), State(steps=100000)
    console = Console(window.stream, clock)
    console.start(state)
    for _ in range(20):
        steps(console, clock, state, 100, 30.0)
        console.report(state, training(state.step, speed=9876543.0))
        assert console._live is not None
        console._live.refresh()
    console.end(state)

    frames = CONTROL.sub("", window.output()).replace("\r", "\n").split("\n")
    assert max(len(line) for line in frames) <= columns
    assert len(window.screen()) == 3


def test_the_bar_takes_the_width_of_its_own_terminal_and_follows_it(terminal: Terminal) -> None:
    state = State(steps=312)
    console = Console(terminal.stream)
    console.start(state)
    terminal.resize(120, terminal.stream.fileno())
    console.end(state)

    assert max(len(line) for line in CONTROL.sub("", terminal.output()).replace("\r", "\n").split("\n")) == 120


def test_lines_stand_above_the_bar_in_their_order(terminal: Terminal) -> None:
    state = State(steps=312, resumed_from=200, step=200)
    console = Console(terminal.stream, Clock())
    console.say("4 per device = 64 examples a step")
    console.start(state)
    console.saved(state, "checkpoints/step-00000200")
    console.say("x" * 200)
    console.end(state)
    console.say("the model is in runs/quickstart/model")

    screen = terminal.screen()
    assert screen[:6] == [
        "4 per device = 64 examples a step",
        "resumed from step 200",
        "saved step-00000200",
        "x" * 80,
        "x" * 80,
        "x" * 40,
    ]
    assert screen[6].startswith("step 200/312 ")
    assert screen[8:] == ["the model is in runs/quickstart/model", ""]


def test_the_end_leaves_the_cursor_in_sight_and_below_the_bar(terminal: Terminal) -> None:
    console, state = Console(terminal.stream), State(steps=312)
    console.start(state)
    console.end(state)
    console.end(state)
    terminal.stream.write("rank 1 failed\n")

    assert HIDE_CURSOR not in terminal.output()
    assert terminal.screen()[-2:] == ["rank 1 failed", ""]


def test_a_terminal_that_is_closed_does_not_end_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    outer, inner = pty.openpty()
    stream = os.fdopen(inner, "w")
    console, state = Console(stream), State(steps=312)
    console.start(state)
    os.close(outer)
    console.say("nobody reads this")
    assert console._live is not None
    console._live.refresh()
    console.end(state)

    with pytest.raises(OSError):
        stream.close()


def test_the_pace_leaves_out_the_first_two_steps() -> None:
    pace = Pace()
    now = 0.0
    for seconds in [60.0, 30.0, 1.0, 1.0, 1.0]:
        now += seconds
        pace.step_ended(now)

    assert pace.seconds_a_step() == 1.0


def test_the_pace_follows_a_run_that_becomes_faster() -> None:
    pace = Pace()
    now = 0.0
    for seconds in [4.0] * 1000 + [1.0] * 256:
        now += seconds
        pace.step_ended(now)

    assert pace.seconds_a_step() == 1.0


def test_the_time_left_of_a_resumed_run_counts_only_its_own_steps() -> None:
    stream, clock, state = io.StringIO(), Clock(), State(steps=312, step=300, resumed_from=300)
    console = Console(stream, clock)
    console.start(state)
    steps(console, clock, state, 2, 50.0)
    console.report(state, training(302))
    steps(console, clock, state, 4, 10.0)
    console.report(state, training(306))

    lefts = [line.split("left")[1].strip() for line in stream.getvalue().splitlines() if "left" in line]
    assert lefts == ["-:--", "1:00"]


def test_a_long_wait_eats_no_more_than_the_step_under_way() -> None:
    clock, state = Clock(), State(steps=312)
    console = Console(io.StringIO(), clock)
    console.start(state)
    steps(console, clock, state, 12, 1.0)
    clock.now += 3600

    assert console._left() == 299.0


def test_a_report_before_the_end_of_its_step_counts_that_step() -> None:
    stream, clock, state = io.StringIO(), Clock(), State(steps=20)
    console = Console(stream, clock)
    console.start(state)
    steps(console, clock, state, 19, 30.0)
    clock.now += 1.0
    state.step = 20
    console.report(state, training(20))
    console.step_end(state)

    assert stream.getvalue() == "step 20/20  loss  4.8123  lr 2.0e-04    5,210 tokens/s  left  0:00\n"


def test_nothing_is_left_after_the_last_step() -> None:
    clock, state = Clock(), State(steps=2)
    console = Console(io.StringIO(), clock)
    console.start(state)
    steps(console, clock, state, 2, 1.0)

    assert console._left() == 0.0


def test_times_and_losses_read_well() -> None:
    assert [clock_time(seconds) for seconds in (None, 0, 59.6, 72, 7384)] == ["-:--", "0:00", "1:00", "1:12", "2:03:04"]
    assert [number(loss) for loss in (4.21, 1e9, float("nan"), float("inf"))] == ["4.2100", "1.000e+09", "nan", "inf"]
