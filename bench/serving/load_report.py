"""The arithmetic of bench/load: percentiles, slopes, recovery and verdicts. Runs nothing."""

import math
import statistics

OVERLOAD_GOODPUT = 0.9      # of the goodput at capacity
REFUSAL_P99_MS = 50
RECOVERY_SECONDS = 10
BATCH8_SPEEDUP = 4
GROWTH_MIB = 16             # resident memory, over a load
SLOPE_MIB_PER_HOUR = 2      # of a soak
NORMAL = 2                  # a first text within this factor of the light load's is normal
RAMP_GAIN = 1.05            # more callers must bring more than that, or capacity is reached


def slope(points):
    """(slope, its standard error) of the least-squares line through [(x, y), ...]."""
    n = len(points)
    if n < 3:
        return 0.0, math.inf
    mean_x = statistics.fmean(x for x, _ in points)
    mean_y = statistics.fmean(y for _, y in points)
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    if spread == 0:
        return 0.0, math.inf
    line = sum((x - mean_x) * (y - mean_y) for x, y in points) / spread
    rest = sum((y - mean_y - line * (x - mean_x)) ** 2 for x, y in points)
    return line, math.sqrt(rest / (n - 2) / spread)


def growth(values):
    """How far the largest value of the second half lies above that half's mean, 5 % left out at
    each end: the measure of Triton's L0_memory_growth."""
    half = sorted(values[len(values) // 2:])
    cut = len(half) // 20
    kept = half[cut:len(half) - cut] or half
    return kept[-1] - statistics.fmean(kept)


def memory_verdicts(samples, warmup=0.2):
    """Problems of [(seconds, resident bytes), ...], the first part of which is warm-up. A slope must
    be beyond its limit by two standard errors to count."""
    kept = [(t / 3600, rss / 2**20) for t, rss in samples[int(len(samples) * warmup):]]
    if len(kept) < 10:
        return {"samples": len(kept)}, ["too few samples of the memory"]
    line, error = slope(kept)
    wave = growth([rss for _, rss in kept])
    figures = {"samples": len(kept), "slope_mib_per_hour": line, "slope_error": error,
               "growth_mib": wave}
    problems = []
    if line - 2 * error > SLOPE_MIB_PER_HOUR:
        problems.append(f"resident memory grows by {line:.1f} +- {error:.1f} MiB an hour "
                        f"(limit {SLOPE_MIB_PER_HOUR})")
    if wave > GROWTH_MIB:
        problems.append(f"resident memory swings by {wave:.1f} MiB (limit {GROWTH_MIB})")
    return figures, problems


def capacity(ramp):
    """(callers, goodput) of [(callers, goodput), ...]: the first beyond which more callers brought
    no more than RAMP_GAIN."""
    best = ramp[0]
    for step in ramp[1:]:
        if step[1] <= best[1] * RAMP_GAIN:
            return best if best[1] >= step[1] else (best[0], step[1])
        best = step
    return best


def recovery_seconds(probes, normal_ms):
    """When the last question was asked that was refused or waited longer than usual for its first
    text, in seconds after the overload, with its wait; 0 if none was."""
    late = [at + max(first_text, 0) / 1000 for at, first_text in probes
            if first_text < 0 or first_text > NORMAL * normal_ms]
    return max(late, default=0.0)


def open_calls(metrics):
    """Streams and requests that a server's /metrics says are open."""
    names = ("lectern_streams_open", "lectern_requests_running", "lectern_requests_waiting")
    return sum(metrics.get(name, 0) for name in names)


def parse_metrics(text):
    """{name: sum over its series} of Prometheus' text format."""
    sums = {}
    for line in text.splitlines():
        if not line or line.startswith("#"):
            continue
        series, value = line.rsplit(" ", 1)
        name = series.split("{", 1)[0]
        sums[name] = sums.get(name, 0) + float(value)
    return sums


SPEED_GOALS = [
    ("overload_goodput_ratio", lambda v: v >= OVERLOAD_GOODPUT, f">= {OVERLOAD_GOODPUT}"),
    ("refusal_p99_ms", lambda v: v < REFUSAL_P99_MS, f"< {REFUSAL_P99_MS}"),
    ("recovery_seconds", lambda v: v <= RECOVERY_SECONDS, f"<= {RECOVERY_SECONDS}"),
    ("batch8_speedup", lambda v: v >= BATCH8_SPEEDUP, f">= {BATCH8_SPEEDUP}"),
]
GOALS = [
    ("memory_growth_mib", lambda v: v <= GROWTH_MIB, f"<= {GROWTH_MIB}"),
    ("leaked_streams", lambda v: v == 0, "0"),
    ("unexpected_failures", lambda v: v == 0, "0"),
]


def verdicts(figures, speed=True):
    """Goals that are missed, in words; figures that are absent are not judged."""
    return [f"{name} is {figures[name]:.4g}, not {goal}"
            for name, good, goal in (SPEED_GOALS if speed else []) + GOALS
            if figures.get(name) is not None and not good(figures[name])]
