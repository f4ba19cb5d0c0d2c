"""The figures of the benchmark as tables: one case as text, a suite as Markdown for the docs."""

from collections.abc import Mapping, Sequence
from typing import Any

from jaxseg.bench.cases import PUBLISHED, Case


def subjects_of(figures: Mapping[str, Any]) -> list[str]:
    """Returns the names of the implementations that have figures, ours first."""
    found = [
        name for name, value in figures.items() if isinstance(value, Mapping) and {"parameters", "error"} & {*value}
    ]
    return ["jaxseg", *(name for name in found if name != "jaxseg")]


def case_of(figures: Mapping[str, Any]) -> Case:
    """Returns the case that figures are of, which JSON keeps as lists."""
    return Case(**{**figures["case"], "size": tuple(figures["case"]["size"])})


def table(figures: Mapping[str, Any]) -> str:
    """Returns the figures of one case as text, a column for each implementation."""
    names = subjects_of(figures)
    width = max(12, *(len(name) + 2 for name in names))
    title = f"{case_of(figures).title()}, on {figures['machine']['device']}"
    lines = [title, "", f"{'':24}" + "".join(f"{name:>{width}}" for name in names)]
    rows = {
        "parameters": ("parameters", lambda n: f"{n / 1e6:.2f} M"),
        "init": ("init_s", _seconds),
        "trace and lower": ("trace_s", _seconds),
        "compile": ("compile_s", _seconds),
        "first step": ("first_step_s", _seconds),
        "forward": ("forward_s", _seconds),
        "images/s, forward": ("forward_images_per_s", lambda n: f"{n:.1f}"),
        "training step": ("step_s", _seconds),
        "augmentation alone": ("augment_s", _seconds),
        "training step, fastest": ("step_fastest_s", _seconds),
        "images/s in training": ("images_per_s", lambda n: f"{n:.1f}"),
        "memory of the step": ("program_bytes", _gibibytes),
        "peak memory": ("peak_bytes", _gibibytes),
        "peak of the process": ("process_peak_bytes", _gibibytes),
    }
    for label, (key, show) in rows.items():
        cells = [show(figures[name][key]) if key in figures[name] else "-" for name in names]
        if set(cells) != {"-"}:
            lines.append(f"{label:24}" + "".join(f"{cell:>{width}}" for cell in cells))
    return "\n".join([*lines, *_remarks(figures, names)])


def _remarks(figures: Mapping[str, Any], names: Sequence[str]) -> list[str]:
    """What the ratios are of, and what makes them unfair."""
    lines = [f"{name} failed: {figures[name]['error']}" for name in names if "error" in figures[name]]
    lines += _busy([figures])
    if "ratio" not in figures:
        return lines
    ratio = figures["ratio"]
    peer = ratio["peer"]
    lines += [
        "",
        f"jaxseg / {peer}: forward {ratio['forward_s']:.2f}, training step {ratio['step_s']:.2f} (medians);"
        f" {ratio['forward_of_turns']:.2f}, {ratio['step_of_turns']:.2f} (median of the turns' ratios)",
        f"jaxseg's training step augments the images; {peer}'s gets them ready.",
    ]
    if layout := figures[peer].get("layout_s"):
        tried = ", ".join(f"{name} {_seconds(value)}" for name, value in layout.items())
        lines.append(f"{peer} in the faster of its memory formats, a step each: {tried}.")
    here, there = (figures[name]["parameters"] for name in ("jaxseg", peer))
    if here != there:
        lines.append(f"The networks differ: {here:,} parameters here, {there:,} in {peer}. Do not compare their times.")
    if idle := figures[peer].get("idle_parameters"):
        lines.append(f"{peer}'s has {idle:,} parameters more, which it does not use.")
    return lines


def markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    """Returns the rows of a suite as a Markdown table, with what it was measured on, and the cases that failed."""
    done = [row for row in rows if "error" not in row]
    lines = []
    if done:
        first = done[0]
        peers = {name: row[name]["version"] for row in done for name in subjects_of(row) if "version" in row[name]}
        versions = [f"jax {first['machine']['jax']}", *(f"{name} {version}" for name, version in peers.items())]
        torch = {row[name]["torch"] for row in done for name in subjects_of(row) if "torch" in row[name]}
        versions += [f"torch {version}" for version in sorted(torch)]
        loads = [row["machine"]["load"] for row in done]
        lines += [
            f"`{_command(first)}` on {first['machine']['device']}, {first['date'][:10]}, commit {first['commit']},"
            f" {', '.join(versions)}, Python {first['machine']['python']}; load at the start of a case {min(loads):.1f}"
            f" to {max(loads):.1f}; medians of {first['steps']} turns.",
            "",
        ]
        lines += [*_busy(done), ""] if _busy(done) else []
        lines += _comparison(done) if any("ratio" in row for row in done) else _alone(done)
    lines += [f"\n{row['name']} failed: {row['error'].strip().splitlines()[-1]}" for row in rows if "error" in row]
    return "\n".join(lines) + "\n"


def _busy(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """A warning where others used the machine, beyond the load of a case that ran before."""
    machines = [row["machine"] for row in rows]
    loads = [f"{m['load']:.1f}" for m in machines if m["load"] > 1.5 * m.get("cores", float("inf")) + 1]
    if not loads:
        return []
    return [f"The machine was busy with other work (load {max(loads, key=float)}): these times say nothing of speed."]


def _comparison(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    lines = [
        "| case | step | peer's | ratio (of turns) | forward | peer's | ratio (of turns) | compile | first step, peer's"
        " | memory, peer's |",
        "|" + "---|" * 10,
    ]
    for row in rows:
        ours, ratio = row["jaxseg"], row.get("ratio")
        if ratio is None:
            lines.append(
                f"| {_name(row)} | {_seconds(ours['step_s'])} | {_published(row)} | {_seconds(ours['forward_s'])}"
                f" | – | – | {_seconds(ours['compile_s'])} | – | {_gibibytes(ours['program_bytes'])}, – |"
            )
            continue
        peer = row[ratio["peer"]]
        unequal = "" if peer["parameters"] == ours["parameters"] else ", unequal networks"
        cells = [f"{_name(row)}, beside {ratio['peer']}{unequal}"]
        for kind in ("step", "forward"):
            cells += [_seconds(ours[f"{kind}_s"]), _seconds(peer[f"{kind}_s"])]
            cells += [f"{ratio[f'{kind}_s']:.2f} ({ratio[f'{kind}_of_turns']:.2f})"]
        cells += [_seconds(ours["trace_s"] + ours["compile_s"]), _seconds(peer["first_step_s"])]
        if "process_peak_bytes" in peer and "process_peak_bytes" in ours:  # on a CPU, each from its start
            memory = [ours["process_peak_bytes"], peer["process_peak_bytes"]]
        else:
            memory = [ours["program_bytes"], peer.get("peak_bytes")]
        cells += [", ".join("–" if size is None else _gibibytes(size) for size in memory)]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def _alone(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    lines = ["| case | step | images/s | published | forward | compile | memory |", "|" + "---|" * 7]
    for row in rows:
        ours = row["jaxseg"]
        figure, source = PUBLISHED.get((row["suite"], row["name"]), (None, ""))
        lines.append(
            f"| {_name(row)} | {_seconds(ours['step_s'])} | {ours['images_per_s']:.1f}"
            f" | {'–' if figure is None else f'{figure:g} ({source})'} | {_seconds(ours['forward_s'])}"
            f" | {_seconds(ours['trace_s'] + ours['compile_s'])} | {_gibibytes(ours['program_bytes'])} |"
        )
    return lines


def _published(row: Mapping[str, Any]) -> str:
    """Two cells: a published figure, and ours over it in time."""
    figure, source = PUBLISHED.get((row["suite"], row["name"]), (None, ""))
    if figure is None:
        return "– | –"
    return f"{figure:g} images/s ({source}) | {figure / row['jaxseg']['images_per_s']:.2f}"


def _command(row: Mapping[str, Any]) -> str:
    """The command of the suite that a row is from."""
    peer = next((f" --peer {name}" for name in subjects_of(row)[1:2]), "")
    return f"jaxseg bench --suite {row['suite']} --steps {row['steps']}{peer}"


def _name(row: Mapping[str, Any]) -> str:
    return case_of(row).title()


def _seconds(value: float) -> str:
    return f"{value:.2f} s" if value >= 1 else f"{1e3 * value:.1f} ms"


def _gibibytes(value: int) -> str:
    return f"{value / 2**30:.2f} GiB"
