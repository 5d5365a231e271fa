"""The arithmetic of compare_peers and compare_transformers: best figures, ratios, shares and their
tables. Runs nothing."""

LECTERN, EXACT = "lectern", "lectern (exact)"
TOP_K, F32 = "lectern (top-128)", "lectern (f32)"
# The policies that Lectern runs besides its default, with the prefix of their rows.
VARIANTS = {LECTERN: "", EXACT: "exact_", TOP_K: "topk_", F32: "f32_"}
SPEEDS = ["prefill_512", "prefill_2k", "prefill_8k", "decode_0", "decode_2k", "decode_8k"]
ROWS = [*SPEEDS, "ttft_cached_8k", "rss_8k", "load"]
SHAPE_ROWS = ["prefill_512", "prefill_2k", "decode_0", "decode_2k", "decode_8k", "load"]
BATCH_ROWS = ["answers_1", "answers_8"]
T5_ROWS = ["t5_encode_512", "t5_encode_4k", "t5_decode", "t5_rss_4k"]
BERT_ROWS = ["bert_encode_512"]
SMALLER_IS_BETTER = {"ttft_cached_8k", "rss_2k", "rss_8k", "load", "t5_rss_4k"}
# Ratios to reach with --shape: at least for speeds, at most for memory and load.
GOALS = {"prefill_512": 1.5, "prefill_2k": 1.5, "decode_0": 1.1, "decode_2k": 1.3, "decode_8k": 2.0,
         "rss_2k": 1.0, "load": 1.5}
# A peer that is this much slower than the row's best peer is not asked for the row again.
HOPELESS = 1.5
# The most that throughput may fall next to other work: by the fair loss and this part of it.
ALLOWED_EXCESS = 0.3


def better(name, a, b):
    return min(a, b) if name in SMALLER_IS_BETTER else max(a, b)


def keep_best(figures, program, rows):
    """Takes the rows of one run of a program into figures[program]."""
    held = figures.setdefault(program, {})
    for name, value in rows.items():
        held[name] = better(name, held.get(name, value), value)


def best_peer(figures, name):
    """(peer, figure) of the best peer of a row, or None."""
    peers = [(peer, rows[name]) for peer, rows in figures.items()
             if peer not in VARIANTS and name in rows]
    if not peers:
        return None
    return (min if name in SMALLER_IS_BETTER else max)(peers, key=lambda entry: entry[1])


def rows_of(program):
    return SPEEDS if program == EXACT else ROWS


def reader_rows(program, family):
    """Rows of a T5 or BERT model; memory is the default's alone."""
    rows = T5_ROWS if family == "t5" else BERT_ROWS
    return [name for name in rows if program not in (TOP_K, F32) or name not in SMALLER_IS_BETTER]


def rows_to_repeat(figures, program):
    """Rows that a further round measures: memory does not vary, and hopeless rows change nothing."""
    return worth_repeating(figures, program,
                           [name for name in rows_of(program) if name != "rss_8k"])


def worth_repeating(figures, program, names):
    if program in VARIANTS:
        return names
    names = [name for name in names if name in figures[program]]

    def times_slower(name):
        mine, best = figures[program][name], best_peer(figures, name)[1]
        return mine / best if name in SMALLER_IS_BETTER else best / mine

    return [name for name in names if times_slower(name) <= HOPELESS]


def compare(figures):
    """The rows of the table. The ratio is speed-up over the best peer, so that above 1 is faster;
    for memory and load Lectern's bytes or seconds over the best peer's, so that below 1 is less."""
    rows = []
    for program, prefix in VARIANTS.items():
        for name in [*rows_of(program), "rss_2k", *BATCH_ROWS, *T5_ROWS, *BERT_ROWS]:
            ours = figures.get(program, {}).get(name)
            best = best_peer(figures, name)
            if ours is None or best is None:
                continue
            ratio = best[1] / ours if name == "ttft_cached_8k" else ours / best[1]
            rows.append({"name": prefix + name, "lectern": ours, "peer": best[1], "ratio": ratio,
                         "best_peer": best[0]})
    return rows


def with_goals(rows):
    """The rows with the goal of each and whether it is met."""
    return [{**row, "goal": GOALS[row["name"]],
             "met": (row["ratio"] <= GOALS[row["name"]] if row["name"] in SMALLER_IS_BETTER
                     else row["ratio"] >= GOALS[row["name"]])}
            for row in rows if row["name"] in GOALS]


def alone(figures):
    """Lectern's figures without a peer."""
    return [{"name": VARIANTS[program] + name, "lectern": value}
            for program, rows in figures.items() if program in VARIANTS
            for name, value in rows.items()]


def table(rows):
    lines = [f"{'row':<20}{'lectern':>14}{'best peer':>14}{'ratio':>8}  best peer is"]
    for row in rows:
        lines.append(f"{row['name']:<20}{row['lectern']:>14.4g}{row['peer']:>14.4g}"
                     f"{row['ratio']:>8.2f}  {row['best_peer']}" +
                     (f", {'goal' if row['met'] else 'MISSED:'} {row['goal']}"
                      if "goal" in row else ""))
    return "\n".join(lines)


def fair_share(threads, cores, busy=1):
    """The part of its quiet rate that a program keeps when a fair scheduler divides the cores among
    its threads and `busy` spinning processes."""
    return min(threads, cores * threads / (threads + busy)) / min(threads, cores)


def least_share(threads, cores, busy=1):
    """The part that must be kept: the fair loss grown by ALLOWED_EXCESS."""
    return 1 - (1 + ALLOWED_EXCESS) * (1 - fair_share(threads, cores, busy))


def contention(quiet, contended, least):
    """Rows of --contention from {program: {row: rate}} with and without the busy process."""
    return [{"program": program, "name": name, "quiet": rate,
             "contended": contended[program][name], "kept": contended[program][name] / rate,
             "met": contended[program][name] / rate >= least}
            for program, rates in quiet.items() for name, rate in rates.items()]


def contention_table(rows):
    lines = [f"{'program':<20}{'row':<14}{'quiet':>10}{'contended':>11}{'kept':>7}  check"]
    for row in rows:
        lines.append(f"{row['program']:<20}{row['name']:<14}{row['quiet']:>10.4g}"
                     f"{row['contended']:>11.4g}{row['kept']:>7.0%}"
                     f"  {'kept enough' if row['met'] else 'falls too far'}")
    return "\n".join(lines)
