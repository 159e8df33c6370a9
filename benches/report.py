#!/usr/bin/env python3
"""Makes a Markdown table and SVG charts of the lines that the benches print.

    cargo bench --all-features --bench end_to_end | python3 benches/report.py OUT

writes OUT/figures.md and one OUT/NAME.svg per bench, with the machine and the date on them.
"""
import datetime
import html
import json
import pathlib
import platform
import sys


def machine():
    names = [line.split(":", 1)[1].strip() for line in read("/proc/cpuinfo") if line.startswith("model name")]
    cpu = f"{len(names)} x {names[0]}" if names else platform.machine()
    return f"{cpu}, {platform.system()} {platform.release()}, {datetime.date.today().isoformat()}"


def read(path):
    try:
        return pathlib.Path(path).read_text().splitlines()
    except OSError:
        return []


def name(figure):
    marks = [figure[key] for key in ("who", "figure") if key in figure]
    return figure["case"] + (f" ({', '.join(marks)})" if marks else "")


def table(figures):
    yield "| What | Figure | Floor | Ratio |"
    yield "| --- | ---: | ---: | ---: |"
    for it in figures:
        floor = "" if it["floor"] is None else f"{it['floor']:g} {it['unit']}"
        ratio = "" if it["ratio"] is None else f"{it['ratio']:.2f}"
        yield f"| {name(it)} | {it['value']:g} {it['unit']} | {floor} | {ratio} |"


def chart(bench, figures, where):
    """One pair of bars per figure, each pair to its own scale: units differ."""
    row, left, wide = 34, 380, 400
    height = row * len(figures) + 60
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="960" height="{height}" font-family="sans-serif" font-size="12">',
        '<rect width="100%" height="100%" fill="white"/>',
        f'<text x="10" y="20" font-size="15">{html.escape(bench)}: ours (blue) and the floor (grey)</text>',
    ]
    for number, it in enumerate(figures):
        y, floor = 40 + row * number, it["floor"]
        most = max(it["value"], floor or 0) or 1
        out.append(f'<text x="10" y="{y + 16}">{html.escape(name(it))}</text>')
        for at, value, colour in ((0, it["value"], "#1f6feb"), (13, floor, "#8c959f")):
            if value is not None:
                out.append(f'<rect x="{left}" y="{y + at}" width="{wide * value / most:.1f}" height="11" fill="{colour}"/>')
                out.append(f'<text x="{left + wide + 10}" y="{y + at + 10}">{value:g} {html.escape(it["unit"])}</text>')
    out.append(f'<text x="10" y="{height - 8}" fill="#57606a">{html.escape(where)}</text></svg>')
    return "\n".join(out) + "\n"


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    folder, where = pathlib.Path(sys.argv[1]), machine()
    folder.mkdir(parents=True, exist_ok=True)
    benches = {}
    for line in sys.stdin:
        if line.startswith("{"):
            figure = json.loads(line)
            benches.setdefault(figure["bench"], []).append(figure)
    if not benches:
        sys.exit("no figures on standard input")
    page = [f"Measured on {where}."]
    for bench, figures in benches.items():
        (folder / f"{bench}.svg").write_text(chart(bench, figures, where))
        page += ["", f"## {bench}", "", f"![{bench}]({bench}.svg)", "", *table(figures)]
    (folder / "figures.md").write_text("\n".join(page) + "\n")


if __name__ == "__main__":
    main()
