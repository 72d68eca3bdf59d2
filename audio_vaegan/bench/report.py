"""What `bench` found, as Markdown tables."""

from collections.abc import Iterable, Sequence
from typing import Any

from audio_vaegan.bench.options import options_table


def tables(report: dict[str, Any]) -> str:
    """One section a group."""
    m = report["machine"]
    parts = [
        f"{m['name']}, {m['threads']} threads, {m['device']}, torch {report['torch']}, audio-vaegan "
        f"{report['audio_vaegan']}: {m['operations'] / 1e9:.0f} G operations a second in matrix products (float32), "
        f"{m['memory'] / 1e9:.0f} GB/s in copies"
    ]
    for group, write in WRITERS.items():
        if group in report:
            parts.append(write(report[group]))
    return "\n\n".join(parts)


def _sounds(found: dict[str, Any]) -> str:
    head = ("", "one sound, P50", "P95", f"{found['batch']} sounds: a second", "x real time", "G op a sound", "of roof")
    rows = [
        (
            r["name"],
            f"{r['one_p50_ms']:.1f} ms",
            f"{r['one_p95_ms']:.1f} ms",
            f"{r['clips_per_second']:.0f}",
            f"{r['times_real_time']:.0f}",
            f"{r['giga_operations_a_sound']:.3f}",
            f"{100 * r['share_of_roof']:.0f} %",
        )
        for r in found["rows"]
    ]
    title = f"Sounds: {found['model']}, {found['vocoder']}, {found['clip_seconds']:.3f} s at {found['sample_rate']} Hz"
    return f"{title}; {_memory(found)}\n\n{_table(head, rows)}"


def _peers(found: dict[str, Any]) -> str:
    head = ("", "x real time", "ours is times as fast", "one sound, P50", "P95", "G op a second of sound", "of roof")
    rows = [
        (r["name"], f"not measured: {r['missing']}", "", "", "", "", "")
        if "missing" in r
        else (
            r["name"],
            f"{r['times_real_time']:.1f}",
            f"{r['ours_is_times_as_fast']:.1f}",
            f"{r['one_p50_ms']:.1f} ms",
            f"{r['one_p95_ms']:.1f} ms",
            f"{r['giga_operations_a_second_of_sound']:.2f}",
            f"{100 * r['share_of_roof']:.0f} %",
        )
        for r in found["rows"]
    ]
    title = f"Peers, random weights, {found['batch']} sounds of {found['clip_seconds']:.3f} s, in turns, medians"
    return f"{title}\n\n{_table(head, rows)}"


def _training(found: dict[str, Any]) -> str:
    counts = ", ".join(f"{name} {count:,}" for name, count in found["parameters"].items())
    title = (
        f"Training: {found['recipe']}, {found['precision']} mixed precision, batches of {found['batch']}; {counts}, "
        f"all {sum(found['parameters'].values()):,}; {_memory(found)}"
    )
    whole = 1e3 * found["seconds_a_step"]
    rows = [("step", f"{whole:.0f} ms", "")]
    rows += [(n, f"{ms:.0f} ms", f"{100 * ms / whole:.0f} %") for n, ms in found["milliseconds_by_part"].items()]
    figures = (
        f"{found['clips_per_second']:.1f} clips/s, {found['giga_operations_a_step']:.1f} G op a step, "
        f"{100 * found['share_of_roof']:.0f} % of the roof"
    )
    return f"{title}\n\n{figures}\n\n{_table(('', 'time', 'of the step'), rows)}"


def _prepare(found: dict[str, Any]) -> str:
    return (
        f"Prepare: {found['files']} files, {found['files_per_second']:.0f} a second, {found['times_real_time']:.0f} "
        f"times real time; {_memory(found)}"
    )


def _dataset(found: dict[str, Any]) -> str:
    return (
        f"Data set: {found['sounds']} sounds, each measured, {found['sounds_per_second']:.1f} a second, "
        f"{found['times_real_time']:.0f} times real time; {_memory(found)}"
    )


def _scale(found: list[dict[str, Any]]) -> str:
    head = ("training clips", "a step", "reading its clips", "until the first step", "an epoch's order", "memory")
    rows = [
        (
            f"{r['clips']:,}",
            f"{r['step_ms']:.0f} ms",
            f"{r['read_ms']:.2f} ms",
            f"{r['ready_seconds']:.1f} s",
            f"{r['order_ms']:.1f} ms",
            f"{r['memory_gib']:.2f} GiB",
        )
        for r in found
    ]
    return f"Scale\n\n{_table(head, rows)}"


def _memory(found: dict[str, Any]) -> str:
    gpu = found["peak_gpu_memory_gib"]
    return f"peak memory {found['peak_memory_gib']:.2f} GiB" + (f", GPU {gpu:.2f} GiB" if gpu else "")


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])


WRITERS: dict[str, Any] = {
    "sounds": _sounds,
    "peers": _peers,
    "training": _training,
    "prepare": _prepare,
    "dataset": _dataset,
    "scale": _scale,
    "options": options_table,
}
