"""The result of a suite as a table: on a terminal, and as Markdown."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from trainer.bench.measured import COMPLETED
from trainer.bench.numbers import relative, rounded, share, size, spread

MEASURES = {
    "seconds_per_step": "seconds a step",
    "seconds_per_token": "seconds a token",
    "processor_seconds_per_token": "processor seconds a token",
    "memory_above_imports": "memory above imports",
    "peak_memory": "peak memory",
    "startup_seconds": "seconds to the first step",
}
"""What growth is fitted to, in words."""
COLUMNS = (
    "row",
    "tokens/s",
    "ratio",
    "tokens / processor s",
    "ratio",
    "learned/s",
    "padding",
    "MFU",
    "peak",
    "above imports",
    "loss",
    "validation",
    "train",
    "saved",
    "run",
)
_ON_A_TERMINAL = (0, 1, 3, 4, 6, 7, 8, 10, 11, 12, 13, 14)
"""The columns that a terminal has room for."""
Line = Sequence[str]


def lines(result: Mapping[str, Any]) -> tuple[Line, list[Line]]:
    """The columns, but for those that no row fills, and a line for each row; of one that failed, name and error."""
    found = [_line(row) for row in result["rows"]]
    filled = [index for index in range(len(COLUMNS)) if any(line[index] for line in found if _is_whole(line))]
    told = [[line[index] for index in filled] if _is_whole(line) else line for line in found]
    return [COLUMNS[index] for index in filled] or COLUMNS, told


def _is_whole(line: Line) -> bool:
    return len(line) == len(COLUMNS)


def _line(row: Mapping[str, Any]) -> Line:
    if row["status"] != COMPLETED:
        said = " ".join((row["error"] or "").split())
        return row["name"], f"{row['status'].replace('_', ' ')}{': ' if said else ''}{said}"
    flops, ratios = row["model_flops"], (row["ratio"], row["processor_ratio"])
    ratio, of_processors = ("" if one is None else relative(one) for one in ratios)
    return (
        row["name"],
        relative(row["tokens_per_second"]),
        ratio,
        relative(row["tokens_per_processor_second"]),
        of_processors,
        "" if row["peer"] else rounded(row["learned_tokens_per_second"]["mean"]),
        share(row["padding"]),
        "" if flops is None or flops["mfu"] is None else share(flops["mfu"]),
        size(row["memory"]["peak"]["mean"]),
        size(row["memory"]["above_imports"]["mean"]),
        _loss(row),
        *_left(row),
    )


def _left(row: Mapping[str, Any]) -> Line:
    """Validation, parameters that train, bytes of weights and seconds of a run whose result counts."""
    left = row["result"]
    if left is None:
        return ("", "", "", "")
    loss = left["validation_loss"]
    seconds = row["rounds"][0]["wall_seconds"]
    return "" if loss is None else f"{loss:.4f}", f"{left['trainable']:,}", size(left["nbytes"]), f"{seconds:,.0f} s"


def _loss(row: Mapping[str, Any]) -> str:
    """The last loss, and how far the losses lie from the reference row's."""
    last, parity = row["rounds"][0]["series"]["loss"][-1], row["parity"]
    if parity is None:
        return f"{last:.4f}"
    return f"{last:.4f} =" if parity["equal"] else f"{last:.4f} ≠ {parity['largest']:.0e}"


def grown(result: Mapping[str, Any]) -> list[Line]:
    """A line for each fit: sweep, measure, exponent, what the theory allows, and whether that holds."""
    found: list[Line] = []
    for entry in result["growth"]:
        fit = entry["fit"]
        exponent = "no fit" if fit is None else spread(fit["exponent"])
        found.append((entry["sweep"], MEASURES[entry["measure"]], exponent, f"{entry['at_most']:g}", _verdict(entry)))
    return found


def _verdict(entry: Mapping[str, Any]) -> str:
    if entry["faster"] is None:
        return "unknown"
    if entry["faster"]:
        return "faster than that"
    return "holds" if entry["fit"]["exponent"]["mean"] <= entry["at_most"] else "holds within the noise"


GROWTH = ("size", "what grows", "exponent", "at most", "")


def show(result: Mapping[str, Any], console: Console) -> None:
    """Prints the table; errors stand below it, whole."""
    found = [_line(row) for row in result["rows"]]
    whole = [line for line in found if _is_whole(line)]
    shown = [index for index in _ON_A_TERMINAL if any(line[index] for line in whole)]
    console.print(_table([COLUMNS[index] for index in shown], [[line[index] for index in shown] for line in whole]))
    for name, error in (line for line in found if not _is_whole(line)):
        console.print(Text(f"{name}: {error}", style="red"), soft_wrap=True)
    if result["growth"]:
        console.print(_table(GROWTH, grown(result)))


def _table(columns: Line, content: Sequence[Line]) -> Table:
    table = Table(box=None, pad_edge=False)
    for index, name in enumerate(columns):
        table.add_column(name, justify="right" if index else "left", overflow="fold")
    for line in content:
        table.add_row(*(Text(cell) for cell in line))
    return table


def markdown(result: Mapping[str, Any]) -> str:
    """The whole result as a page of Markdown: machine, versions, date, rows, growth, method."""
    suite = result["suite"]
    parts = [f"# {suite['name']}", "", f"    {result['command']}", ""]
    parts += [f"{suite['about'][:1].upper()}{suite['about'][1:]}.", ""] if suite["about"] else []
    parts += [*facts(result), ""]
    columns, rows = lines(result)
    parts += [*_pipes(columns, [[*line, *[""] * (len(columns) - len(line))] for line in rows]), ""]
    if result["growth"]:
        parts += ["## Growth", "", *_pipes(GROWTH, grown(result)), ""]
    parts += ["## How it was measured", ""]
    parts += [f"- {name}: {text}" for name, text in [*result["method"].items(), *peaks(result)]]
    return "\n".join(parts) + "\n"


def facts(result: Mapping[str, Any]) -> list[str]:
    """What it was measured on, as sentences."""
    suite, hardware, sources = result["suite"], result["hardware"], result["sources"]
    device = f"{hardware['devices']} x {result['device']}; " if hardware["devices"] else ""
    versions = ", ".join(f"{name} {version}" for name, version in result["versions"].items() if version)
    commit = (
        f", commit {sources['commit'][:12]}{' with changes' if sources['changed'] else ''}" if sources["commit"] else ""
    )
    features = f" ({', '.join(hardware['features'])})" if hardware["features"] else ""
    threads = f"{suite['threads']} thread{'s' if suite['threads'] > 1 else ''} a process"
    crowded = [row["name"] for row in result["rows"] if _shares_cores(result, row)]
    peers = {
        row["peer"]: ", ".join(f"{name} {version}" for name, version in row["packages"].items())
        for row in result["rows"]
        if row["status"] == COMPLETED and row["peer"]
    }
    plural = "s" if suite["rounds"] > 1 else ""
    shared = f" More threads than cores: {'; '.join(crowded)}." if crowded else ""
    complete = "" if result["complete"] else " The suite was stopped: rows are missing."
    memory = size(hardware["memory_bytes"])
    return [
        f"{device}{hardware['cores']} cores of {hardware['processor']}{features}, {memory}, {threads}.",
        f"shardtune {result['shardtune']}{commit}; {versions}; Python {hardware['python']}.",
        *(f"{name}: {packages}." for name, packages in peers.items()),
        f"{result['date'][:10]}: {suite['rounds']} round{plural}, interleaved, of {suite['steps']['measured']} steps "
        f"after {suite['steps']['warm_up']} to warm up.{complete}{shared}",
    ]


def _shares_cores(result: Mapping[str, Any], row: Mapping[str, Any]) -> bool:
    """Whether a row had more threads than there are cores, on a processor."""
    if row["status"] != COMPLETED or row["peer"] or row["memory"]["by_kind"]["allocated"] is not None:
        return False
    return bool(result["suite"]["threads"] * row["plan"]["batch"]["ranks"] > result["hardware"]["cores"])


def peaks(result: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What MFU is held against."""
    flops = [row["model_flops"] for row in result["rows"] if row.get("model_flops")]
    told = {one["peak_source"]: one["peak_flops_per_second"] for one in flops if one["mfu"] is not None}
    return [("MFU", f"{source}: {rate / 1e12:.3g} TFLOP/s a process") for source, rate in told.items()]


def _pipes(columns: Line, content: Sequence[Line]) -> list[str]:
    escaped = [" | ".join(cell.replace("|", "\\|") for cell in line) for line in (columns, *content)]
    return [f"| {escaped[0]} |", "|" + "---|" * len(columns), *(f"| {line} |" for line in escaped[1:])]
