# Turns the lines "way subscribers messages rate us" of bench/report.sh into its table.
{
    n = ++count[$1, $2]
    rate[$1, $2, n] = $4
    us[$1, $2, n] = $5
}

# The values of all rounds in order; returns how many.
function sorted(values, way, subs, out,    i, j, n, v) {
    n = count[way, subs]
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

function spread(way, subs,    out, n) {
    n = sorted(us, way, subs, out)
    return sprintf("%.2f .. %.2f", out[1], out[n])
}

# Differences are taken within a round, so that a machine that slows down in between does not show in them.
function subtract(way, subs,    i) {
    count["added to " way, subs] = count["beyond in " way, subs] = count[way, subs]
    for (i = 1; i <= count[way, subs]; i++) {
        us["added to " way, subs, i] = us[way, subs, i] - us["plain", subs, i]
        us["beyond in " way, subs, i] = us[way, subs, i] - us["verify", subs, i]
    }
}

function row(title, way, subs) {
    subtract(way, subs)
    printf "  %-34s %11.0f %9.2f   %-18s", title, median(rate, way, subs), median(us, way, subs), spread(way, subs)
    printf " %9s", way == "plain" ? "" : sprintf("%.2f", median(us, "added to " way, subs))
    printf " %13s\n", way == "verifying" ? sprintf("%.2f", median(us, "beyond in " way, subs)) : ""
}

function block(subs) {
    printf "\n  %-34s %11s %9s   %-18s %9s %13s\n", subs ? "ONE SUBSCRIBER" : "NO SUBSCRIBER", "messages",
        "CPU us", "CPU us", "CPU us", "CPU us beyond"
    printf "  %-34s %11s %9s   %-18s %9s %13s\n", "", "a second", "a message", "lowest .. highest", "added",
        "one verify"
    row("plain broker", "plain", subs)
    row("plugin, topic not protected", "unprotected", subs)
    row("one bare verification, no more", "verify", subs)
    row("plugin, every signature verified", "verifying", subs)
    row("no plugin, TLS 1.3", "tls", subs)
}

END {
    printf "\nQoS %d, 256 bytes of content in an envelope. Medians of %d rounds; CPU is the broker's.\n",
        qos, rounds
    block(0)
    block(1)
    printf "\n  One bare Ed25519 verification by libsodium, over the same bytes, in a loop: %.2f us (%s)\n",
        median(us, "bare", 0), spread("bare", 0)
    print "  Targets: at most 0.30 us added where the topic is not protected; at most 1.50 us beyond one verify."
}
