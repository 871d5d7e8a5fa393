# Turns the lines of bench/ledger.sh into its tables: "cost way subscribers sent rate us thread_us", and
# "rows store fill|ask|full|erase name figures...".
$1 == "cost" {
    n = ++rounds[$2, $3]
    rate[$2, $3, n] = $5
    us[$2, $3, n] = $6
    thread[$2, $3, n] = $7
}

$1 == "rows" {
    kept[++kept_n] = $0
    if ($2 == "PostgreSQL")
        both = 1
}

# The values of all rounds in order; returns how many.
function sorted(values, way, subs, out,    i, j, n, v) {
    n = rounds[way, subs]
    for (i = 1; i <= n; i++) {
        v = values[way, subs, i]
        for (j = i - 1; j >= 1 && out[j] > v; j--)
            out[j + 1] = out[j]
        out[j + 1] = v
    }
    return n
}

function median(values, way, subs,    out, n) {
    n = sorted(values, way, subs, out)
    return n % 2 ? out[(n + 1) / 2] : (out[n / 2] + out[n / 2 + 1]) / 2
}

function spread(values, way, subs,    out, n) {
    n = sorted(values, way, subs, out)
    return sprintf("%.2f .. %.2f", out[1], out[n])
}

# Within a round, so that a machine that slows down in between does not show.
function compare(way, subs,    i) {
    for (i = 1; i <= rounds[way, subs]; i++) {
        added[way, subs, i] = thread[way, subs, i] - thread["off", subs, i]
        share[way, subs, i] = rate[way, subs, i] / rate["off", subs, i]
    }
}

function cost_row(title, way, subs) {
    if (!rounds[way, subs])
        return
    compare(way, subs)
    printf "  %-26s %9.0f %9.2f %9.2f   %-16s", title, median(rate, way, subs), median(us, way, subs),
        median(thread, way, subs), spread(thread, way, subs)
    if (way == "off")
        printf "\n"
    else
        printf " %6.2f   %-16s %6.3f   %s\n", median(added, way, subs), spread(added, way, subs), median(share, way, subs),
            spread(share, way, subs)
}

function cost(    subs) {
    printf "\nRecording, QoS 0, medians of %d rounds\n", rounds["off", 0]
    for (subs = 0; subs <= 1; subs++) {
        printf "\n  %-26s %9s %9s %9s   %-16s %6s   %-16s %6s\n", subs ? "ONE SUBSCRIBER" : "NO SUBSCRIBER", "messages",
            "CPU us,", "CPU us,", "lowest ..", "", "lowest ..", ""
        printf "  %-26s %9s %9s %9s   %-16s %6s   %-16s %6s\n", "", "a second", "process", "broker's", "highest", "added",
            "highest", "share"
        cost_row("no facts, as many bytes", "off", subs)
        cost_row("recorded, SQLite", "SQLite", subs)
        cost_row("recorded, PostgreSQL", "PostgreSQL", subs)
    }
    print "\n  Targets: at most 1.5 us added to the broker's thread, and a share of the throughput of at least 0.95."
}

function fills(    i, f) {
    printf "\n%-14s %12s %12s %8s %8s %8s\n", "RECORDING", "rows a", "CPU us", "MB", "bytes", "seconds"
    printf "%-14s %12s %12s %8s %8s\n", "", "second", "a row", "", "a row"
    for (i = 1; i <= kept_n; i++) {
        split(kept[i], f, " ")
        if (f[3] != "fill")
            continue
        printf "%-14s %12.0f %12s %8.0f %8.0f %8.0f\n", f[2], f[5], f[2] == "SQLite" ? f[6] : "-", f[8],
            f[8] * 1e6 / (f[5] * f[7]), f[7]
    }
}

function questions(    i, f, n, store) {
    for (i = 1; i <= kept_n; i++) {
        split(kept[i], f, " ")
        if (f[3] != "ask" && f[3] != "full")
            continue
        if (f[2] != store)
            printf "\n%-26s %8s %6s %10s %10s %10s\n", f[2], "rows", "pages", "CPU ms", "ms", "ms, max"
        store = f[2]
        printf "%-26s %8d %6d %10s %10.1f %10.1f%s\n", f[4], f[5], f[6], f[2] == "SQLite" ? sprintf("%.1f", f[7]) : "-",
            f[8], f[9], f[3] == "full" ? sprintf("   %.2f us a row", f[8] * 1e3 / count) : ""
    }
    print "\nTargets: 200 ms for what touches at most 100,000 rows, 1 us a row for sums of all."
}

function erasures(    i, f) {
    printf "\n%-14s %-10s %9s %12s %9s\n", "ERASING", "", "rows", "a second", "seconds"
    for (i = 1; i <= kept_n; i++) {
        split(kept[i], f, " ")
        if (f[3] == "erase")
            printf "%-14s %-10s %9d %12d %9.1f\n", f[2], f[4], f[5], f[6], f[7]
    }
}

END {
    if (rounds["off", 0])
        cost()
    if (kept_n) {
        fills()
        questions()
        erasures()
    }
}
