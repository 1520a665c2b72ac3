# dlm-fitlaw study: a whole grid to tables, figures and a report; and the other kinds of drawings.

load setup

# grid NOISES BATCHES POINTS SEED: runs of five sizes with three learning rates, of a surface that is known per noise type.
grid() {
    awk -v which="$1" -v bat="$2" -v pts="$3" -v seed="$4" 'function g() { return sqrt(-2 * log(1 - rand())) * cos(6.283185307 * rand()) }
    BEGIN {
        srand(seed); OFS = "\t"
        print "run", "kind", "noise", "objective", "params", "flops_tok", "batch_tok", "lr", "step", "tokens", "unique_tokens", "flops", "loss", "elbo", "elbo_se", "joules"
        split("25.2e6 49.2e6 85.1e6 201.6e6 566.7e6", P, " "); nb = split(bat, B, " "); nz = split(which, W, " ")
        for (z = 1; z <= nz; z++) for (s = 1; s <= 5; s++) for (b = 1; b <= nb; b++) for (e = -1; e <= 1; e++) {
            lr = .009 * (B[b] * 2048) ^ .34 * 2 ^ e; M = 9 * P[s]; shift = .001 * g()
            for (i = 1; i <= pts; i++) {
                step = 100000 * exp(log(100) * (i / pts - 1)); T = step * B[b] * 2048; q = log(B[b] * 2048 / (.0025 * T ^ .84))
                L = W[z] == "none" ? 1.9 : W[z] == "uniform" ? 2.25 : 2.17
                L = (L + 222 * M ^ -.292 + 1920 * T ^ -.367) * (1 + .003 * q * q + .008 * (e * log(2)) ^ 2) * exp(shift + .0005 * g())
                printf "%s-%d-%d-%d\tval\t%s\t%s\t%d\t%.6g\t%d\t%.6g\t%d\t%.0f\t%.0f\t%.6g\t%.6g\t%.6g\t%.4g\t%.5g\n", W[z], s, B[b], e, W[z],
                    W[z] == "none" ? "ar" : "diffusion", P[s], M, B[b] * 2048, lr, step, T, 1e12, M * T, L * 1.3, L, .002 * L, M * T / 2e11 * exp(.05 * g())
            }
        }
    }'
}

# The numbers of the first line of the report that matches: value lo hi.
numbers() { grep -m1 -- "$1" "$2" | sed 's/.*[: ] *\([-+0-9.e]*\) \[\([-+0-9.e]*\), \([-+0-9.e]*\)\].*/\1 \2 \3/'; }

# covers PATTERN REPORT TRUTH: its interval holds the truth.
covers() {
    numbers "$1" "$2" | awk -v t="$3" '{ ok = NF == 3 && $2 + 0 <= t && t <= $3 + 0; print } END { exit !ok }'
}

# without_gnuplot COMMAND…: with a PATH that has none.
without_gnuplot() {
    mkdir -p "$BATS_TEST_TMPDIR/bare"
    env PATH="$BATS_TEST_TMPDIR/bare" "$BIN/dlm-fitlaw" "$@"
}

setup_file() {
    cd "$BATS_FILE_TMPDIR"
    grid "masked uniform none" "16 64 256 1024" 14 1 > grid.tsv
}

setup() {
    cd "$BATS_TEST_TMPDIR"
    grid=$BATS_FILE_TMPDIR/grid.tsv
}

@test "fitlaw-study: a report with every question, every table and every figure" {
    command -v gnuplot > /dev/null || skip "gnuplot is not installed"
    dlm-fitlaw study -q --bootstrap 200 "$grid" -o out
    [ "$(head -1 out/files.txt)" = "dlm-fitlaw study: the files of this report" ]
    diff <(tail -n +2 out/files.txt | sort) <(ls out | sort)
    for f in curve isoflop sizes surface loss-compute loss-tokens batch batch-law lr lr-law isoloss critical; do [ -s out/$f.tsv ]; done
    for f in loss-compute loss-tokens size tokens params loss-best batch lr isoflop-1 isoloss-3; do grep -q '</svg>' out/$f.svg; done
    for q in "How steep does each noise type's loss fall" "more parameters, which more data" "equal loss at equal compute" "autoregressive baseline" \
        "leave the linear rule" "in unique tokens, does one noise type overtake" "What does a joule buy"; do
        grep -q "$q" out/report.txt && grep -q "$q" out/report.html
    done
    # every figure names a table that is there
    awk '/^Figures, and the tables/ { on = 1; next } /Answers/ { exit } on && NF { print $1, $2 }' out/report.txt > named
    [ "$(wc -l < named)" = "$(ls out/*.svg | wc -l)" ]
    while read -r svg tsv; do [ -s "out/$svg" ] && [ -s "out/$tsv" ] && grep -q "($tsv)" out/report.html; done < named
    [ "$(grep -c '<svg' out/report.html)" = "$(ls out/*.svg | wc -l)" ]
    run ! grep -q 'src=\|http-equiv' out/report.html
    grep -q "epochs: no run sees its tokens more than once" out/report.txt
    [ -z "$(find . -name '*.tmp-*')" ]
}

@test "fitlaw-study: its figures cover the truth of a known grid" {
    without_gnuplot study -q --bootstrap 300 "$grid" -o out
    r=out/report.txt
    covers 'masked/diffusion .*M\* (FLOPs per token) grows' $r 0.5569
    covers 'masked/diffusion .*D\* (tokens) grows' $r 0.4431
    covers 'uniform/diffusion less masked/diffusion, exponent of M\*' $r 0
    covers 'uniform/diffusion over masked/diffusion, tokens of the best split' $r 1
    covers 'masked/diffusion .*the best batch grows as D^k' $r 0.84
    covers 'masked/diffusion: FLOPs per joule' $r 2e11
    grep -q 'masked/diffusion: critical batch .*(an extrapolation: the largest batch is 2.1e+06)$' $r
    # at C = 1.9e20 the best split has a loss of about 2.8, so 0.27 nats are about ten percent
    numbers 'masked/diffusion over none/ar, loss at' $r | awk '{ exit !($1 > 1.05 && $1 < 1.15 && $2 > 1.04 && $3 < 1.16) }'
    numbers 'uniform/diffusion over masked/diffusion, loss of the best split' $r | awk '{ exit !($1 > 1.01 && $1 < 1.05 && $2 > 1) }'
    grep -q 'uniform/diffusion over masked/diffusion, loss of the best split.*  more$' $r
    dlm-fitlaw curve -q "$grid" | cmp - out/curve.tsv
    [ "$(awk -F'\t' '$1 == "loss" && $3 == "beta" { print $2, $4, $5, $6 }' out/loss-compute.tsv)" = \
        "$(dlm-fitlaw loss -q --bootstrap 300 "$grid" | awk -F'\t' '$1 == "loss" && $3 == "beta" { print $2, $4, $5, $6 }')" ]
}

@test "fitlaw-study: how steep a known loss falls" {
    # the frontier itself, M = .07 C^.53: L = 2066 C^-.18 + 2.3, and D = C/M grows as C^.47
    awk 'BEGIN { srand(2); print "flops\tparams\ttokens\tloss"
        for (i = 0; i < 60; i++) { c = 10 ^ (18 + i / 20); m = .07 * c ^ .53; printf "%.9g\t%.9g\t%.9g\t%.9g\n", c, m / 6, c / m, (2066 * c ^ -.18 + 2.3) * exp(.0005 * (rand() - .5)) } }' > plain.tsv
    without_gnuplot study -q --bootstrap 200 plain.tsv -o out
    covers 'all .*beta of L = A C^-beta' out/report.txt 0.18
    covers 'all .*beta of L = A D^-beta' out/report.txt 0.38298
}

@test "fitlaw-study: neither threads, nor the order of files, nor when, change a byte" {
    head -400 "$grid" > a.tsv
    (head -1 "$grid"; tail -n +401 "$grid") > b.tsv
    dlm-fitlaw study -q -j1 --bootstrap 40 a.tsv b.tsv -o one
    dlm-fitlaw study -q -j2 --bootstrap 40 b.tsv a.tsv -o two
    diff -r one two
    cat b.tsv a.tsv | dlm-fitlaw study -q --bootstrap 40 -o one
    diff -r one two
}

@test "fitlaw-study: two runs determine nothing, and it says so" {
    awk -F'\t' 'NR == 1 || $1 == "masked-1-64-0" || $1 == "masked-2-64-0"' "$grid" | cut -f1-14 > two.tsv
    dlm-fitlaw study --bootstrap 50 two.tsv -o out 2> said
    grep -q 'analyses could not be done: report.txt says what they lack' said
    [ "$(grep -c 'not determined by these runs' out/report.txt)" -ge 8 ]
    grep -q 'none of them is autoregressive' out/report.txt
    grep -q 'there is one group alone' out/report.txt
    grep -q 'no row has joules' out/report.txt
    grep -q 'isoflop: .*2 sizes: a parabola needs at least 3' out/report.txt
    grep -q 'batch: ' out/report.txt
}

@test "fitlaw-study: of five noisy runs nothing is told that nobody would believe" {
    awk 'function g() { return sqrt(-2 * log(1 - rand())) * cos(6.283185307 * rand()) }
    BEGIN { srand(5); OFS = "\t"; print "run", "noise", "params", "flops_tok", "batch_tok", "tokens", "flops", "loss", "joules"
        for (s = 0; s < 5; s++) { e = .02 * g(); for (i = 1; i <= 12; i++) { T = 819200 * i; M = 9e6 * 2 ^ s
            print "r" s, "masked", M / 9, M, 8192, T, M * T, (2.17 + 222 * M ^ -.292 + 1920 * T ^ -.367) * exp(e + .005 * g()), M * T / 1e10 } } }' > five.tsv
    without_gnuplot study --bootstrap 300 five.tsv -o out 2> said
    # amplitudes of laws that are not determined have limits that far apart, and no standard error
    awk -F'\t' 'FNR > 1 && $5 != "NA" && $6 != "NA" { n++; if ($6 > 1e15 * $5 && $3 == "A") wide++; if ($7 != "NA" && $7 > .52 * ($6 - $5)) { print; bad = 1 } }
        END { exit bad || n < 20 || !wide }' out/loss-compute.tsv
    run ! grep -qE '[0-9]e[+-]?[2-9][0-9]|[0-9]{8}|-?100\.0%|inf|nan' out/report.txt
    run ! grep -qE '[0-9]e[+-]?[2-9][0-9]|[0-9]{8}|-?100\.0%|inf|nan' said
    run ! ls out/size.svg
    run --separate-stderr dlm-fitlaw plot -q --what sizes five.tsv; fails_with 1 'no budget has an optimum within the sampled sizes'
    # what an analysis that could not be done has said is in its reason
    [ "$(grep -c 'fewer than . batches\|at least . batches' out/report.txt)" = 2 ]
    grep -q 'the loss after twice the energy, well spent, over that before: not determined by these runs$' out/report.txt
}

@test "fitlaw-study: repeated data show where one noise type overtakes another" {
    awk 'function worth(U, e, R) { return e <= 1 ? U * e : U + U * R * (1 - exp(-(e - 1) / R)) }
    function g() { return sqrt(-2 * log(1 - rand())) * cos(6.283185307 * rand()) }
    BEGIN { srand(3); OFS = "\t"; print "run", "noise", "params", "flops_tok", "unique_tokens", "tokens", "flops", "loss", "loss_se"
        for (z = 0; z < 2; z++) for (s = 0; s < 4; s++) for (u = 0; u < 4; u++) for (i = 1; i <= 10; i++) {
            U = 1e8 * 4 ^ u; D = U * .5 * 2.2 ^ (i - 1); P = 2e7 * 3 ^ s; w = worth(U, D / U, z ? 20 : 300)
            L = ((z ? 1.9 : 2.0) + 222 * (9 * P) ^ -.292 + 1920 * w ^ -.367) * exp(.0005 * g())
            print (z ? "short" : "long") "-" s "-" u, z ? "short" : "long", P, 9 * P, U, sprintf("%.0f", D), 9 * P * D, L, .001 } }' > rep.tsv
    dlm-fitlaw plot -q --bootstrap 60 --what bound rep.tsv | grep -q 'U, unique tokens'
    without_gnuplot study -q --bootstrap 60 rep.tsv -o out
    [ -s out/epochs.tsv ]
    run ! grep -q '^  epochs:' out/report.txt
    # without limit of size and epochs: 2.0 + 1920 (301 U)^-.367 = 1.9 + 1920 (21 U)^-.367
    covers 'long and short: long is better below' out/report.txt 6.15e9
}

@test "fitlaw-study: without gnuplot there are tables and a report, and it says so" {
    without_gnuplot study --bootstrap 20 "$grid" -o out 2> said
    grep -q 'no figures: gnuplot is not installed' said
    grep -q 'gnuplot is not installed' out/report.txt
    [ -s out/sizes.tsv ] && [ -s out/report.html ]
    [ "$(ls out | grep -c svg)" = 0 ]
}

@test "fitlaw-study: what stands there is replaced only where it is a report" {
    mkdir mine && echo precious > mine/thing
    run --separate-stderr dlm-fitlaw study -q "$grid" -o mine; fails_with 1 "'mine' exists and is no earlier report"
    [ "$(cat mine/thing)" = precious ]
    echo x > file
    run --separate-stderr dlm-fitlaw study -q "$grid" -o file; fails_with 1 "cannot write 'file'"
    run --separate-stderr dlm-fitlaw study -q "$grid" -o -; fails_with 2 "output of study is a directory"
    run --separate-stderr dlm-fitlaw study -q "$grid" -o /nowhere/out --bootstrap 2; fails_with 1 "cannot write '/nowhere/out'"
    mkdir empty
    without_gnuplot study -q --bootstrap 10 "$grid" -o empty/
    [ -s empty/report.txt ]
    echo precious > empty/thing
    head -300 "$grid" > less.tsv
    without_gnuplot study -q --bootstrap 10 less.tsv -o empty
    grep -q 'elbo of 22 runs' empty/report.txt
    [ "$(cat empty/thing)" = precious ]
    run ! ls empty/critical.tsv.old
    [ -z "$(find . -name '*.tmp-*')" ]
}

@test "fitlaw-study: a full disk leaves what was there" {
    [ "$(id -u)" -eq 0 ] || skip "needs to mount"
    mkdir small
    mount -t tmpfs -o size=64k tmpfs small 2> /dev/null || skip "cannot mount a tmpfs"
    run --separate-stderr dlm-fitlaw study -q --bootstrap 10 "$grid" -o small/out
    left=$(ls -A small)
    umount small
    fails_with 1 'No space left on device'
    [ -z "$left" ]
}

@test "fitlaw-study: stopped in the middle, nothing is left, and an earlier report stays" {
    without_gnuplot study -q --bootstrap 10 "$grid" -o out
    cp -r out before
    for wait in .05 .2 .5; do
        dlm-fitlaw study -q --bootstrap 100000 "$grid" -o out & pid=$!
        sleep $wait
        kill -TERM $pid
        code=0
        wait $pid || code=$?
        [ $code -eq 143 ]
        diff -r before out
        [ -z "$(find . -name '*.tmp-*')" ]
    done
    dlm-fitlaw study -q --bootstrap 100000 "$grid" -o out & pid=$!
    sleep .3
    kill -KILL $pid
    wait $pid || true
    diff -r before out
}

@test "fitlaw-study: every kind of drawing, with characters and through gnuplot" {
    one='noise=="masked"'
    for what in loss curves isoflop sizes tokens batch lr batch-curves lr-curves isoloss; do
        dlm-fitlaw plot -q --bootstrap 30 --what $what --where "$one" "$grid" > drawn
        [ "$(awk '{ if (length($0) > m) m = length($0) } END { print m <= 80 }' drawn)" = 1 ] || { cat drawn; return 1; }
        run ! grep -q '[^ -~]' drawn
        [ "$(grep -c '[|+].*[A-Za-z*]' drawn)" -ge 8 ]
        if command -v gnuplot > /dev/null; then
            dlm-fitlaw plot -q --bootstrap 30 --what $what --where "$one" "$grid" -o a.svg
            dlm-fitlaw plot -q --bootstrap 30 --what $what --where "$one" "$grid" -o b.svg
            cmp a.svg b.svg
            grep -q '</svg>' a.svg
        fi
    done
    grep -q '8.51e+07 params, loss' drawn
    dlm-fitlaw plot -q --bootstrap 100 --what sizes "$grid" | grep -q 'masked/diffusion: M\* ~ C^0\.5[0-9]* \[0\.'
    run --separate-stderr dlm-fitlaw plot -q --what isoflop "$grid"; fails_with 1 'this drawing shows one; choose it with --where'
    run --separate-stderr dlm-fitlaw plot -q --what lr -l paper "$grid"; fails_with 2 'law belongs to plot --what loss'
    run --separate-stderr dlm-fitlaw plot -q --what batch-curves "$grid"; fails_with 1 'this drawing shows one'
    run --separate-stderr dlm-fitlaw plot -q --what lr --interval bca "$grid"; fails_with 2 'interval does not belong to this drawing'
    run --separate-stderr dlm-fitlaw plot -q --what nothing "$grid"; fails_with 2 'what is one of'
}

@test "fitlaw-study: what annealing does, and that annealed runs are no part of the rest" {
    awk -F'\t' -v OFS='\t' 'NR == 1 { print $0, "cool"; next }
        $3 == "masked" { print $0, 0; name = $1; row[name] = $0 }
        END { for (name in row) { $0 = row[name]; $1 = name "-a"; $14 /= 1.0245; print $0, 1 } }' "$grid" > cooled.tsv
    grep -P '^run|\tmasked\t' "$grid" > constant.tsv
    without_gnuplot study -q --bootstrap 200 --annealed 'cool==1' cooled.tsv -o out
    without_gnuplot study -q --bootstrap 200 constant.tsv -o plain
    for f in isoflop sizes surface loss-compute batch-law lr-law critical; do cmp out/$f.tsv plain/$f.tsv; done
    grep -q '^8. What does annealing do' out/report.txt
    run ! grep -q 'annealing' plain/report.txt
    awk -F'\t' '$1 == "annealing" && $2 == "masked/diffusion" && $3 == "factor" { n++; ok = $4 > .9755 && $4 < .9766 } END { exit !(n && ok) }' out/annealing.tsv
    grep -q 'multiplies the loss of 60 runs by 0.97' out/report.txt
    [ "$(grep -cE 'does it move the best (size|batch|learning rate)[?] (up|down|not as far|not determined)' out/report.txt)" -eq 3 ]
    run --separate-stderr dlm-fitlaw study -q --annealed 'cool>=0' cooled.tsv -o none; fails_with 1 'all runs are annealed'
    run --separate-stderr dlm-fitlaw study -q --annealed 'nothing==1' cooled.tsv -o none; [ "$status" -ne 0 ]
}

@test "fitlaw-study: the compute and tokens of an equal loss" {
    without_gnuplot study -q --bootstrap 300 "$grid" -o out
    # masked and uniform differ in E alone (0.08): what uniform needs for a loss is what masked needs for one lower by that
    sed -n '/^3\./,/^4\./p' out/report.txt > three
    grep -q 'none/ar over masked/diffusion, for a loss of .* on the surfaces, compute: 0\..*  less' three
    grep -q 'uniform/diffusion over masked/diffusion, for a loss of .* on the surfaces, compute: [1-9].*  more' three
    awk '/^[a-z]*.diffusion over masked.diffusion, for a loss/' three
    read -r loss ratio low high < <(grep 'uniform/diffusion over masked/diffusion, for a loss.*compute:' three |
        sed 's/.*loss of \([0-9.]*\) on the surfaces, compute: \([0-9.]*\) \[\([0-9.]*\), \([0-9.]*\)\].*/\1 \2 \3 \4/')
    # the least C at a loss, on the surface: M = G C^(beta/(alpha+beta))
    awk -v loss=$loss -v low=$low -v high=$high 'function best(c, g, m) { g = (.292 * 222 / (.367 * 1920)) ^ (1 / .659); m = g * c ^ (.367 / .659)
            return 222 * m ^ -.292 + 1920 * (c / m) ^ -.367 }
        function need(e, a, b, m, i) { a = log(1e15); b = log(1e24); for (i = 0; i < 80; i++) { m = (a + b) / 2; if (e + best(exp(m)) > loss) a = m; else b = m }; return exp(a) }
        BEGIN { r = need(2.25) / need(2.17); print r, low, high; exit !(low * .95 <= r && r <= high * 1.05) }'
    # and their tokens, by the same surfaces: D = C/M grows as C^(alpha/(alpha+beta))
    grep 'uniform/diffusion over masked/diffusion, for a loss.*on the surfaces, tokens' three |
        sed 's/.*split: \([0-9.]*\) \[.*/\1/' | awk -v ratio=$ratio '{ r = ratio ^ (.292 / .659); print $1, r; exit !($1 > .85 * r && $1 < 1.15 * r) }'
}
