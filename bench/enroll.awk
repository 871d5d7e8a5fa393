# Turns the lines "what mode store serve figures..." of bench/enroll.sh into its tables.
{
    title = $2 ", " ($3 == "sqlite" ? "SQLite" : "PostgreSQL") ", " $4
    if (!(title in known)) {
        known[title] = 1
        titles[++title_count] = title
    }
    n = ++count[$1, title]
    for (i = 5; i <= NF; i++)
        value[$1, title, i - 4, n] = $i
    value[$1, title, "rate", n] = $5 / $6 # enrolments, seconds
}

# Of all rounds in order; returns how many.
function sorted(what, title, field, out,    i, j, n, v) {
    n = count[what, title]
    for (i = 1; i <= n; i++) {
        v = value[what, title, field, i] + 0
        for (j = i - 1; j >= 1 && out[j] > v; j--)
            out[j + 1] = out[j]
        out[j + 1] = v
    }
    return n
}

function median(what, title, field,    out, n) {
    n = sorted(what, title, field, out)
    return n % 2 ? out[(n + 1) / 2] : n == 0 ? 0 : (out[n / 2] + out[n / 2 + 1]) / 2
}

function highest(what, title, field,    out, n) {
    n = sorted(what, title, field, out)
    return out[n]
}

function spread(what, title, field,    out, n) {
    n = sorted(what, title, field, out)
    return sprintf("%.0f .. %.0f", out[1], out[n])
}

# A figure of which there may be none.
function maybe(there, figure) {
    return there ? sprintf("%.0f", figure) : "-"
}

function enrolling(    i, t, opens, form) {
    form = "%-30s %9s   %-16s %8s %8s %8s %8s %9s %9s\n"
    printf "\n%d enrolments, %d in flight over %d connections\n\n", flight_count, in_flight, connections
    printf form, "", "enrolled", "lowest ..", "ms", "ms", "ms", "CPU us", "commits", "fsyncs"
    printf form, "", "a second", "highest", "median", "p99", "max", "each", "a second", "a second"
    for (i = 1; i <= title_count; i++) {
        t = titles[i]
        opens = t ~ /^open/ # making tokens would count among the others
        printf form, t, sprintf("%.0f", median("alone", t, "rate")), spread("alone", t, "rate"),
            sprintf("%.1f", median("alone", t, 4)), sprintf("%.1f", median("alone", t, 6)),
            sprintf("%.1f", highest("alone", t, 7)), sprintf("%.0f", median("alone", t, 3)),
            maybe(opens, median("alone", t, 8) / median("alone", t, 2)),
            maybe(opens && count["syncs", t], median("syncs", t, 8) / median("syncs", t, 2))
    }
    print "\nTarget: at least 2,000 a second."
}

function beside(    i, t, form) {
    form = "%-30s %8s %8s %8s %8s   %8s %8s %8s %8s %6s %10s\n"
    print "\nWhat others feel: 200 valid messages a second at QoS 1, ms to the subscriber\n"
    printf form, "", "without", "", "", "", "mean-", "", "", "", "", "enrolled"
    printf form, "", "median", "p95", "p99", "max", "while", "p95", "p99", "max", "lost", "a second"
    for (i = 1; i <= title_count; i++) {
        t = titles[i]
        printf form, t, median("quiet", t, 3), median("quiet", t, 4), median("quiet", t, 5), highest("quiet", t, 6),
            median("together", t, 10), median("together", t, 11), median("together", t, 12),
            highest("together", t, 13), highest("together", t, 9), sprintf("%.0f", median("together", t, "rate"))
    }
    print "\nTarget: p99 at most 20 ms."
}

function singly(    i, t, form) {
    form = "%-30s %8s %8s %8s %8s\n"
    printf "\nOne at a time (%d of them), ms to the answer\n\n", value["single", titles[1], 1, 1]
    printf form, "", "median", "p95", "p99", "max"
    for (i = 1; i <= title_count; i++) {
        t = titles[i]
        printf form, t, median("single", t, 4), median("single", t, 5), median("single", t, 6), median("single", t, 7)
    }
    print "\nTarget: at most 150 ms each."
}

END {
    flight_count = value["alone", titles[1], 1, 1]
    printf "\nMedians of %d rounds, each with a fresh store; max is the highest of all. CPU is the broker's.\n", rounds
    enrolling()
    beside()
    singly()
}
