#!/usr/bin/env python3
"""Draws what the example `prometheus` showed during an outage.

    cargo run --example prometheus --features metrics -- --outage 50
    docs/outage.py http://127.0.0.1:9464 100 > docs/outage.svg

reads /metrics and /health/ready each second for 100 s.
"""

import re
import sys
import time
import urllib.error
import urllib.request

LINE = re.compile(r"^(?P<series>[^ #]+) (?P<value>\S+)$")
WIDTH, LEFT, RIGHT, PANEL, GAP, TOP = 900, 190, 20, 86, 26, 56
INK, FAINT, GRID = "#1f2937", "#6b7280", "#e5e7eb"
PHASES = [("live", "#16a34a"), ("reconnecting", "#f59e0b"), ("recreating", "#dc2626"), ("connecting", "#3b82f6")]


def fetch(url):
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def scrape(base, seconds):
    """One sample a second: time, readiness, series."""
    samples, begun = [], time.monotonic()
    while (at := time.monotonic() - begun) < seconds:
        ready, _ = fetch(base + "/health/ready")
        _, text = fetch(base + "/metrics")
        found = (LINE.match(line) for line in text.splitlines())
        samples.append((at, ready == 200, {m["series"]: float(m["value"]) for m in found if m}))
        time.sleep(max(0.0, begun + len(samples) - time.monotonic()))
    return samples


def total(series, prefix):
    return sum(value for name, value in series.items() if name.split("{")[0] == prefix)


def phase(series, name):
    return sum(v for k, v in series.items() if k.startswith("ringcentral_subscriptions{") and f'phase="{name}"' in k)


def rates(samples, prefix, label=""):
    """The increase from one sample to the next."""
    values = [sum(v for k, v in s.items() if k.split("{")[0] == prefix and label in k) for _, _, s in samples]
    return [0.0] + [max(0.0, b - a) for a, b in zip(values, values[1:])]


def lags(samples):
    """The mean lag of the events of each second; None without one."""
    sums = rates(samples, "ringcentral_event_lag_seconds_sum")
    counts = rates(samples, "ringcentral_event_lag_seconds_count")
    return [s / c if c else None for s, c in zip(sums, counts)]


def draw(samples):
    end = samples[-1][0]
    across = lambda at: LEFT + (WIDTH - LEFT - RIGHT) * at / end
    out, panels = [], []

    def text(x, y, what, size=12, fill=INK, anchor="start", weight="normal"):
        out.append(f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" fill="{fill}" text-anchor="{anchor}" font-weight="{weight}">{what}</text>')

    height = TOP + 5 * (PANEL + GAP) + 14
    for second in range(0, int(end) + 1, 10):
        out.append(f'<line x1="{across(second):.1f}" y1="{TOP}" x2="{across(second):.1f}" y2="{height - 34}" stroke="{GRID}"/>')
        text(across(second), height - 18, f"{second} s", 11, FAINT, "middle")

    def frame(title, unit, most):
        y = TOP + len(panels) * (PANEL + GAP)
        panels.append(title)
        text(LEFT - 12, y + 16, title, 13, anchor="end", weight="bold")
        text(LEFT - 12, y + 34, unit, 11, FAINT, "end")
        out.append(f'<rect x="{LEFT}" y="{y}" width="{WIDTH - LEFT - RIGHT}" height="{PANEL}" fill="none" stroke="{GRID}"/>')
        if most is not None:
            text(LEFT - 12, y + PANEL, f"0 to {most:g}", 11, FAINT, "end")
        return y

    def bars(y, values, most, colour):
        for (at, _, _), value in zip(samples, values):
            if value:
                height = PANEL * min(1.0, value / most)
                out.append(f'<rect x="{across(at) - 2.5:.1f}" y="{y + PANEL - height:.1f}" width="5" height="{height:.1f}" fill="{colour}"/>')

    def legend(y, entries):
        x = LEFT + 6
        for name, colour in entries:
            out.append(f'<rect x="{x}" y="{y + 6}" width="9" height="9" fill="{colour}"/>')
            text(x + 13, y + 14, name, 11)
            x += 30 + 6.2 * len(name)

    y = frame("Health", "readiness check", None)
    for (at, ready, _), (to, _, _) in zip(samples, samples[1:] + [(end, None, None)]):
        out.append(f'<rect x="{across(at):.1f}" y="{y + 24}" width="{across(to) - across(at) + 0.5:.1f}" height="{PANEL - 34}" fill="{"#16a34a" if ready else "#dc2626"}"/>')
    legend(y, [("200", "#16a34a"), ("503", "#dc2626")])
    y = frame("Phase", "ringcentral_subscriptions", None)
    for (at, _, series), (to, _, _) in zip(samples, samples[1:] + [(end, None, None)]):
        colour = next((colour for name, colour in PHASES if phase(series, name) > 0), "#9ca3af")
        out.append(f'<rect x="{across(at):.1f}" y="{y + 24}" width="{across(to) - across(at) + 0.5:.1f}" height="{PANEL - 34}" fill="{colour}"/>')
    legend(y, PHASES)
    push = rates(samples, "ringcentral_events_total", 'origin="push"')
    found = rates(samples, "ringcentral_events_total", 'origin="catch_up"')
    most = max(push + found + [1])
    y = frame("Events", "per second", most)
    bars(y, [a + b for a, b in zip(push, found)], most, "#7c3aed")
    bars(y, push, most, "#2563eb")
    legend(y, [("pushed", "#2563eb"), ("found by catch-up", "#7c3aed")])
    lag = lags(samples)
    most = max([value for value in lag if value] + [1])
    y = frame("Lag", "seconds to next()", round(most, 1))
    bars(y, lag, most, "#0891b2")
    gaps = rates(samples, "ringcentral_gaps_opened_total")
    closed = rates(samples, "ringcentral_gaps_closed_total")
    y = frame("Gaps", "opened, closed", None)
    for (at, _, _), opens, closes in zip(samples, gaps, closed):
        for number, colour, row in ((opens, "#dc2626", 44), (closes, "#16a34a", 66)):
            if number:
                out.append(f'<circle cx="{across(at):.1f}" cy="{y + row}" r="6" fill="{colour}"/>')
                text(across(at) + 10, y + row + 4, f"{number:g}", 11)
    legend(y, [("opened", "#dc2626"), ("closed", "#16a34a")])
    first, last = samples[0][2], samples[-1][2]
    count = lambda name: int(total(last, name) - total(first, name))
    title = (
        f"Events delivered: {count('ringcentral_events_total')}, duplicates dropped: {count('ringcentral_duplicates_total')}, "
        f"gaps opened: {count('ringcentral_gaps_opened_total')}, closed: {count('ringcentral_gaps_closed_total')}"
    )
    text(LEFT, 28, title, 15, weight="bold")
    body = "\n".join(out)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif">\n'
        f'<rect width="{WIDTH}" height="{height}" fill="white"/>\n{body}\n</svg>'
    )


if __name__ == "__main__":
    print(draw(scrape(sys.argv[1], float(sys.argv[2]))))
