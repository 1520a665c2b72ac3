# dlm-fitlaw: laws from metrics, and what is said about bad input.

load setup

# study NAME SIZES POINTS SEED [E]: runs of a known surface as dlm-train writes them: val rows from step 0, and train rows that must not count.
study() {
    awk -v noise="$1" -v sizes="$2" -v pts="$3" -v seed="$4" -v E="${5:-2.17}" 'function g() { return sqrt(-2 * log(1 - rand())) * cos(6.283185307 * rand()) }
    BEGIN {
        srand(seed); OFS = "\t"
        print "run", "kind", "noise", "objective", "params", "flops_tok", "batch_tok", "step", "tokens", "flops", "loss", "elbo", "elbo_se"
        for (s = 0; s < sizes; s++) {
            P = 3e6 * 1.8 ^ s; M = 7.8 * P; D = 200 * P; e = 0.002 * g()
            for (i = 0; i <= pts; i++) {
                t = i ? D * exp(log(1000) * (i / pts - 1)) : 0
                L = i ? (E + 222 * M ^ -.292 + 1920 * t ^ -.367) * exp(e + 0.0005 * g()) : 11
                t = sprintf("%.0f", t)
                print noise "-" s, "val", noise, "diffusion", P, M, 65536, i * 100, t, M * t, L * 1.3, L, 0.002 * L
                print noise "-" s, "train", noise, "diffusion", P, M, 65536, i * 100, t, M * t, L * 1.5, L * 1.2, "NA"
            }
        }
    }'
}

# get FILE LAW GROUP TERM COLUMN [Y]: a figure of a law file.
get() {
    awk -F'\t' -v law="$2" -v group="$3" -v term="$4" -v col="$5" -v y="${6:-}" 'NR == 1 { for (i = 1; i <= NF; i++) at[$i] = i; next }
        $1 == law && $2 == group && $3 == term && (y == "" || $at["y"] == y) { print $at[col]; exit }' "$1"
}

# near GOT WANT TOLERANCE
near() {
    awk -v a="$1" -v b="$2" -v t="$3" 'BEGIN { d = a - b; if (a == "" || a == "NA" || d > t || d < -t) { print "got " a ", wanted " b " within " t; exit 1 } }'
}

# power_law K A N NOISE: rows of y = A x^K.
power_law() {
    awk -v k="$1" -v a="$2" -v n="$3" -v s="$4" 'BEGIN { srand(7); print "x\ty"; for (i = 0; i < n; i++) { x = 10 ^ (15 + 3 * i / n); printf "%.9g\t%.9g\n", x, a * x ^ k * exp(s * (rand() - .5)) } }'
}

setup() {
    cd "$BATS_TEST_TMPDIR"
}

@test "fitlaw: help, version and misuse" {
    run -0 dlm-fitlaw --help
    [[ $output == *--bootstrap*--huber* ]]
    run -0 dlm-fitlaw --version
    [[ ${lines[0]} == "dlm-fitlaw (dlm) "* ]]
    run --separate-stderr dlm-fitlaw; fails_with 2 'say what to do'
    run --separate-stderr dlm-fitlaw frobnicate; fails_with 2 "'frobnicate' is none of"
    run --separate-stderr dlm-fitlaw power -x a; fails_with 2 'power needs --y-column'
    run --separate-stderr dlm-fitlaw loss --raw; fails_with 2 "--raw does not belong to 'loss'"
    run --separate-stderr dlm-fitlaw surface -x tokens; fails_with 2 '--x-column of surface'
    run --separate-stderr dlm-fitlaw predict -l x; fails_with 2 'predict needs --flops'
    run --separate-stderr dlm-fitlaw predict -l paper -C 1e18,x; fails_with 2 "positive numbers"
    run --separate-stderr dlm-fitlaw predict -l paper -C 0; fails_with 2 "positive numbers"
    run --separate-stderr dlm-fitlaw loss --level 1.5; fails_with 2 '--level must be'
    run --separate-stderr dlm-fitlaw loss --huber 0; fails_with 2 '--huber must be'
    run --separate-stderr dlm-fitlaw loss --budgets 1; fails_with 2 '--budgets takes'
    run --separate-stderr dlm-fitlaw loss --by loss; fails_with 2 '--by is one of'
    run --separate-stderr dlm-fitlaw plot -o x.gif; fails_with 2 'ends in .svg, .png or .pdf'
}

@test "fitlaw: help and man page name the same options" {
    dlm-fitlaw --help | grep -o -- '--[a-z][a-z-]*' | sort -u > help
    grep -o 'Fl Fl [a-z][a-z-]*' "$BATS_TEST_DIRNAME/../man/dlm-fitlaw.1" | sed 's/Fl Fl /--/' | sort -u > page
    diff help page
}

@test "fitlaw: power laws are recovered, with and without an offset" {
    power_law 0.57 0.0176 40 0.01 > p.tsv
    dlm-fitlaw power -q -x x -y y p.tsv -o law.tsv
    [ "$(head -1 law.tsv)" = "$(printf 'law\tgroup\tterm\tvalue\tlo\thi\tse\tn\tr2\tobjective\ty\tx\tby')" ]
    near "$(get law.tsv power all k value)" 0.57 0.003
    near "$(get law.tsv power all A value)" 0.0176 0.002
    [ "$(get law.tsv power all k n)" = 40 ]
    awk 'NR == 1 { print; next } { $2 += 3e6; printf "%s\t%.9g\n", $1, $2 }' p.tsv > o.tsv
    dlm-fitlaw power -q -x x -y y --offset o.tsv -o law.tsv
    near "$(get law.tsv power all E value)" 3e6 2e5
    near "$(get law.tsv power all k value)" 0.57 0.01
    near "$(get law.tsv power all k lo)" 0.57 0.03
    near "$(get law.tsv power all k hi)" 0.57 0.03
}

@test "fitlaw: the surface is recovered, against FLOPs per token and against params" {
    study masked 8 12 1 > m.tsv
    dlm-fitlaw surface -q m.tsv -o law.tsv --bootstrap 200
    near "$(get law.tsv surface masked/diffusion alpha value)" 0.292 0.04
    near "$(get law.tsv surface masked/diffusion beta value)" 0.367 0.01
    near "$(get law.tsv surface masked/diffusion E value)" 2.17 0.15
    dlm-fitlaw surface -q -x params m.tsv -o params.tsv --bootstrap 200
    near "$(get params.tsv surface masked/diffusion alpha value)" "$(get law.tsv surface masked/diffusion alpha value)" 0.001
    dlm-fitlaw predict -q -l law.tsv -C 1e19 > predicted
    awk -F'\t' 'NR == 1 { for (i = 1; i <= NF; i++) at[$i] = i; next } { m = $at["flops_tok"]; d = $at["tokens"]; l = $at["loss"]
        exit !($1 == "masked" && m * d > .999e19 && m * d < 1.001e19 && $at["loss_lo"] < l && l < $at["loss_hi"] && $at["flops_tok_lo"] < m && m < $at["flops_tok_hi"] && $at["tokens_lo"] < d && d < $at["tokens_hi"]) }' predicted
    dlm-fitlaw predict -q -l params.tsv -C 1e19 | awk -F'\t' 'NR == 2 { exit !(6 * $3 * $9 > .999e19 && 6 * $3 * $9 < 1.001e19) }'
}

@test "fitlaw: the loss law along the frontier, and the sizes that make it" {
    study masked 9 40 3 > m.tsv
    study uniform 9 40 4 2.4 > u.tsv
    dlm-fitlaw loss -o law.tsv m.tsv u.tsv 2> said
    grep -q 'fitting elbo of 18 runs (720 points): 18 on their val rows' said
    near "$(get law.tsv loss masked/diffusion beta value)" 0.163 0.04
    near "$(get law.tsv loss masked/diffusion B value)" 2.17 0.25
    near "$(get law.tsv loss uniform/diffusion B value)" 2.4 0.25
    [ "$(get law.tsv loss masked/diffusion B n)" = 8 ]
    near "$(get law.tsv power masked/diffusion k value flops_tok)" 0.557 0.2
    near "$(get law.tsv power masked/diffusion k value params)" "$(get law.tsv power masked/diffusion k value flops_tok)" 1e-4
    dlm-fitlaw predict -l law.tsv -C 1e21 2> said > predicted
    [ "$(awk -F'\t' '{ print NF }' predicted | sort -u)" = 22 ]
    [ "$(cut -f1,2,21 predicted | tail -n +2)" = "$(printf 'masked\t1e+21\tmasked/diffusion\nuniform\t1e+21\tuniform/diffusion')" ]
    [ ! -s said ]
    dlm-fitlaw predict -l law.tsv -C 1e22 2>&1 > /dev/null | grep -q 'masked/diffusion: flops 1e+22 lies more than ten times beyond the data, which end at 1.71e+20: an extrapolation'
    dlm-fitlaw loss -q --by tokens m.tsv -o tokens.tsv
    near "$(get tokens.tsv loss masked/diffusion beta value)" 0.367 0.06
    dlm-fitlaw loss -q --budgets 1e17:1e20:5 m.tsv > five.tsv
    [ "$(get five.tsv loss masked/diffusion B n)" = 5 ]
    near "$(get five.tsv loss masked/diffusion x_max value)" 1e20 1e12
}

@test "fitlaw: plain tables of flops, params, tokens and loss" {
    awk 'BEGIN { print "flops\tparams\ttokens\tloss"; for (i = 0; i < 30; i++) { c = 10 ^ (18 + i / 10); m = .07 * c ^ .53; printf "%.9g\t%.9g\t%.9g\t%.9g\n", c, m / 6, c / m, 2066 * c ^ -.18 + 2.3 } }' > t.tsv
    dlm-fitlaw loss t.tsv -o law.tsv 2> said
    grep -q 'fitting loss of 30 rows (30 points)' said
    near "$(get law.tsv loss all beta value)" 0.18 1e-4
    near "$(get law.tsv loss all B value)" 2.3 1e-3
    near "$(get law.tsv loss all A value)" 2066 20
    near "$(get law.tsv power all k value flops_tok)" 0.53 1e-6
}

@test "fitlaw: iso-FLOP profiles find the optimum, and a power law goes through them" {
    # parabolas by construction: log L = log L* + 0.05 (log M - log M*)^2, M* = 0.07 C^0.53
    awk 'BEGIN { print "noise\tflops\tparams\tflops_tok\ttokens\tloss"
        for (i = 0; i < 6; i++) { c = 10 ^ (18 + i / 2); m0 = .07 * c ^ .53
            for (j = -3; j <= 3; j++) { m = m0 * exp(j * .5 + .1); printf "balanced\t%.9g\t%.9g\t%.9g\t%.9g\t%.9g\n", c, m / 6, m, c / m, 30 * c ^ -.05 * exp(.05 * (j * .5 + .1) ^ 2) } } }' > grid.tsv
    dlm-fitlaw isoflop -q grid.tsv > iso.tsv
    [ "$(wc -l < iso.tsv)" = 7 ]
    dlm-fitlaw power -q -x flops -y flops_tok iso.tsv > m.tsv
    near "$(get m.tsv power balanced k value)" 0.53 1e-5
    near "$(get m.tsv power balanced A value)" 0.07 1e-5
    dlm-fitlaw power -q -x flops -y loss iso.tsv > l.tsv
    near "$(get l.tsv power balanced k value)" -0.05 1e-5
    dlm-fitlaw power -q -x flops -y params iso.tsv > p.tsv
    cat m.tsv l.tsv p.tsv | dlm-fitlaw predict -q -l - -C 1e21 > predicted
    awk -F'\t' 'NR == 2 { exit !($6 / (.07 * 1e21 ^ .53) > .9999 && $6 / (.07 * 1e21 ^ .53) < 1.0001 && $18 / (30 * 1e21 ^ -.05) > .9999 && $18 / (30 * 1e21 ^ -.05) < 1.0001 && $9 * $6 / 1e21 > .9999) }' predicted
    dlm-fitlaw isoflop -q --raw grid.tsv | awk -F'\t' 'NR == 2 { m = .07 * 1e18 ^ .53 * exp(.1); exit !($11 / m > .9999 && $11 / m < 1.0001) }'
    awk -F'\t' -v OFS='\t' 'NR == 1 || $4 > .07 * $2 ^ .53 * 1.2' grid.tsv > above.tsv
    dlm-fitlaw isoflop above.tsv 2>&1 > /dev/null | grep -q 'outside of the sampled sizes, beyond the smallest'
}

@test "fitlaw: the published laws" {
    dlm-fitlaw predict -q -l paper -C 1e19,1e22 > p.tsv
    [ "$(wc -l < p.tsv)" = 11 ]
    awk -F'\t' '$1 == "masked" && $2 == 1e19 { exit !($18 / (27.21883 * 1e19 ^ -.04961) > .9999 && $18 / (27.21883 * 1e19 ^ -.04961) < 1.0001 && $6 / (.01761 * 1e19 ^ .56629) > .9999 && $6 / (.01761 * 1e19 ^ .56629) < 1.0001) }' p.tsv
    dlm-fitlaw predict -q -l gidd-2512.10858 -C 1e19,1e22 | cmp - p.tsv
}

@test "fitlaw: threads change nothing, the seed changes intervals alone, the order of files nothing" {
    study masked 7 12 5 > m.tsv
    study uniform 7 12 6 > u.tsv
    for what in loss surface isoflop; do
        dlm-fitlaw $what -q -j1 --bootstrap 100 m.tsv u.tsv > one
        dlm-fitlaw $what -q -j2 --bootstrap 100 u.tsv m.tsv > two
        cmp one two
        cat m.tsv u.tsv | dlm-fitlaw $what -q -j3 --bootstrap 100 > three
        cmp one three
        dlm-fitlaw $what -q -s 1 --bootstrap 100 m.tsv u.tsv > other
        run ! cmp -s one other
    done
    dlm-fitlaw loss -q -s 1 m.tsv | cut -f1-4 > a
    dlm-fitlaw loss -q -s 2 m.tsv | cut -f1-4 > b
    cmp a b
}

@test "fitlaw: --where, --group, and rows that come again" {
    study masked 6 12 5 > m.tsv
    study uniform 6 12 6 > u.tsv
    dlm-fitlaw loss -q m.tsv > alone
    cat m.tsv u.tsv | dlm-fitlaw loss -q --where 'noise=="masked" && elbo<20' | cmp - alone
    cat m.tsv m.tsv | dlm-fitlaw loss -q | cmp - alone
    cat m.tsv u.tsv | dlm-fitlaw loss -q --group noise > by_noise
    [ "$(cut -f2 by_noise | sort -u | tr '\n' ' ')" = 'group masked uniform ' ]
    run --separate-stderr dlm-fitlaw loss --group colour m.tsv; fails_with 1 "'m.tsv': line 1: the header has no column 'colour'"
    run --separate-stderr dlm-fitlaw loss --where 'step >' m.tsv; fails_with 2 "--where 'step >'"
    run --separate-stderr dlm-fitlaw loss --where 'colour > 1' m.tsv; fails_with 1 "no column 'colour'"
    run --separate-stderr dlm-fitlaw loss --where 'step > 1e9' m.tsv; fails_with 1 'no row meets'
    awk -F'\t' -v OFS='\t' 'NR == 3 { $11 += 1 } NR == 1 || NR == 3' m.tsv > changed.tsv
    run --separate-stderr dlm-fitlaw loss m.tsv changed.tsv; fails_with 1 "'changed.tsv': line 2, column 'loss': .* but line 3 of 'm.tsv'"
}

@test "fitlaw: runs without val rows are fitted on their train rows, and it says so" {
    study masked 6 12 5 > m.tsv
    awk -F'\t' 'NR == 1 || $2 == "train" || $1 != "masked-5"' m.tsv > some.tsv
    dlm-fitlaw loss some.tsv 2>&1 > /dev/null | grep -q '5 on their val rows and 1 on their train rows'
    study masked 7 300 5 | grep -v val > long.tsv
    dlm-fitlaw surface --bootstrap 20 long.tsv 2> said > law.tsv
    grep -q 'runs of more than 200 points are smoothed to 50' said
    [ "$(get law.tsv surface masked/diffusion E n)" = 350 ]
    near "$(get law.tsv surface masked/diffusion beta value)" 0.367 0.01
}

@test "fitlaw: few runs: measurement only, and words where nothing is determined" {
    study masked 3 12 5 > m.tsv
    dlm-fitlaw loss m.tsv -o law.tsv 2> said
    grep -q 'the lowest are too few runs to tell their errors from the 3 terms: intervals are of measurement only' said
    [ "$(get law.tsv loss masked/diffusion beta lo)" != NA ]
    cut -f1-12 m.tsv | dlm-fitlaw loss -o law.tsv 2> said
    grep -q 'no interval' said
    [ "$(get law.tsv loss masked/diffusion beta lo)" = NA ]
    power_law -0.05 30 20 0.01 | sed 's/x\ty/flops\tloss/' | dlm-fitlaw loss 2>&1 > /dev/null | grep -q 'B is not determined by these runs'
}

@test "fitlaw: bad input is named with file, line and column" {
    study masked 4 6 1 | awk -F'\t' '$2 != "train"' > good.tsv
    change() { awk -F'\t' -v OFS='\t' "$1" good.tsv > bad.tsv; }
    run --separate-stderr dlm-fitlaw loss /nowhere/x.tsv; fails_with 1 "cannot open '/nowhere/x.tsv': No such file"
    run --separate-stderr dlm-fitlaw loss .; fails_with 1 "'.': Is a directory"
    : > empty.tsv
    run --separate-stderr dlm-fitlaw loss empty.tsv; fails_with 1 "'empty.tsv' is empty"
    run --separate-stderr dlm-fitlaw loss < empty.tsv; fails_with 1 "'standard input' is empty"
    head -1 good.tsv > bad.tsv
    run --separate-stderr dlm-fitlaw loss bad.tsv; fails_with 1 "'bad.tsv': no rows"
    cut -f1-9 good.tsv > bad.tsv
    run --separate-stderr dlm-fitlaw loss bad.tsv; fails_with 1 "'bad.tsv': line 1: the header has no column 'flops'"
    cut -f1-10 good.tsv > bad.tsv
    run --separate-stderr dlm-fitlaw loss bad.tsv; fails_with 1 "neither a column 'elbo' nor 'loss'"
    change 'NR == 4 { $12 = "low" } 1'
    run --separate-stderr dlm-fitlaw loss bad.tsv; fails_with 1 "'bad.tsv': line 4, column 'elbo': 'low' is not a number"
    change 'NR == 4 { $12 = "nan" } 1'
    run --separate-stderr dlm-fitlaw loss bad.tsv; fails_with 1 "'bad.tsv': line 4, column 'elbo': 'nan' is not a number"
    change 'NR == 4 { $10 = "-1e15" } 1'
    run --separate-stderr dlm-fitlaw loss bad.tsv; fails_with 1 "'bad.tsv': line 4, column 'flops': -1e15 is negative"
    change 'NR == 4 { $12 = 0 } 1'
    run --separate-stderr dlm-fitlaw loss bad.tsv; fails_with 1 "'bad.tsv': line 4, column 'elbo': 0 has no logarithm"
    change 'NR == 5 { NF = 7 } 1'
    run --separate-stderr dlm-fitlaw loss bad.tsv; fails_with 1 "'bad.tsv': line 5: 7 fields where the header has 13"
    run --separate-stderr dlm-fitlaw power -x nothing -y loss good.tsv; fails_with 1 "no column 'nothing'"
    head -c 3000000 /dev/zero | tr '\0' x > bad.tsv
    run --separate-stderr dlm-fitlaw loss bad.tsv; fails_with 1 "'bad.tsv': line 1 is longer than"
    head -c 10000 /dev/urandom > bad.tsv
    run --separate-stderr dlm-fitlaw loss bad.tsv; fails_with 1 "bad.tsv"
}

@test "fitlaw: a run with two different facts is an error that names both places" {
    study masked 4 6 1 | awk -F'\t' '$2 != "train"' > good.tsv
    for fact in '5 params' '3 noise' '4 objective' '7 batch_tok'; do
        set -- $fact
        awk -F'\t' -v OFS='\t' -v c="$1" 'NR == 5 { $c = c == 5 || c == 7 ? 12345 : "other" } 1' good.tsv > bad.tsv
        run --separate-stderr dlm-fitlaw loss bad.tsv
        fails_with 1 "'bad.tsv': line 5, column '$2': (12345|other), but line 2 of 'bad.tsv' has [0-9a-z]+ for the same run 'masked-0'"
        run --separate-stderr dlm-fitlaw loss --skip-bad bad.tsv
        fails_with 1 "column '$2'"
    done
    awk -F'\t' -v OFS='\t' 'NR > 1 { $8 += 1000; $3 = "uniform" } 1' good.tsv > again.tsv
    run --separate-stderr dlm-fitlaw loss good.tsv again.tsv
    fails_with 1 "'again.tsv': line 2, column 'noise': uniform, but line 2 of 'good.tsv' has masked"
    # two spellings of one number are one fact, and what was not measured is none
    awk -F'\t' -v OFS='\t' 'NR == 5 { $5 = $5 "e0" } NR == 6 { $7 = "NA" } 1' good.tsv > same.tsv
    dlm-fitlaw loss -q --bootstrap 50 good.tsv > want
    dlm-fitlaw loss -q --bootstrap 50 same.tsv | cmp - want
}

@test "fitlaw: --skip-bad passes over rows, counts them, and does not pass over files" {
    study masked 4 12 1 | awk -F'\t' '$2 != "train"' > good.tsv
    awk -F'\t' -v OFS='\t' '{ print } NR == 4 { $12 = "low"; $8 += 1; print; NF = 7; print } NR == 9 { $12 = "nan"; $8 += 1; print; $12 = 0; $8 += 1; print }
        NR == 12 { $10 = "-" $10; $8 += 1; print } NR == 20 { $8 = "x"; print }' good.tsv > bad.tsv
    run --separate-stderr dlm-fitlaw loss bad.tsv; fails_with 1 "'bad.tsv': line 5, column 'elbo': 'low' is not a number"
    dlm-fitlaw loss -q --bootstrap 50 good.tsv > want
    dlm-fitlaw loss --skip-bad --bootstrap 50 bad.tsv 2> said | cmp - want
    grep -q "6 bad rows are skipped; the first: 'bad.tsv': line 5, column 'elbo': 'low' is not a number" said
    dlm-fitlaw surface --skip-bad --bootstrap 0 bad.tsv 2>&1 > /dev/null | grep -q '6 bad rows'
    [ "$(dlm-fitlaw loss --skip-bad --bootstrap 0 good.tsv 2>&1 > /dev/null | grep -c bad)" = 0 ]
    run --separate-stderr dlm-fitlaw loss --skip-bad good.tsv /nowhere/x.tsv; fails_with 1 "cannot open"
    cut -f1-10 good.tsv > bad.tsv
    run --separate-stderr dlm-fitlaw loss --skip-bad bad.tsv; fails_with 1 "neither a column 'elbo' nor 'loss'"
    cut -f1-9 good.tsv > bad.tsv
    run --separate-stderr dlm-fitlaw loss --skip-bad bad.tsv; fails_with 1 "no column 'flops'"
    awk -F'\t' -v OFS='\t' 'NR > 1 { $12 = "x" } 1' good.tsv > bad.tsv
    run --separate-stderr dlm-fitlaw loss --skip-bad bad.tsv; fails_with 1 "'bad.tsv': no row"
}

@test "fitlaw: a run of very many rows is averaged, however the rows are ordered" {
    awk 'BEGIN { srand(3); OFS = "\t"; print "run", "flops", "loss"
        for (r = 0; r < 6; r++) for (i = 1; i <= (r ? 2500 : 1999); i++) { c = 1e16 * 10 ^ r * i / 2500; printf "r%d\t%.9g\t%.9g\n", r, c, (2066 * c ^ -.18 + 2.3) * (1 + .001 * (rand() - .5)) } }' > many.tsv
    dlm-fitlaw power -x flops -y loss --offset --bootstrap 0 many.tsv -o law.tsv 2> said
    grep -q '5 runs have more than 2000 rows: those within 1 % of each other in x are averaged' said
    near "$(get law.tsv power all k value)" -0.18 0.003
    near "$(get law.tsv power all E value)" 2.3 0.03
    awk -v n="$(get law.tsv power all k n)" 'BEGIN { exit !(n > 2000 + 5 * 200 && n < 2000 + 5 * 800) }'
    (head -1 many.tsv; tail -n +2 many.tsv | shuf --random-source=many.tsv) | dlm-fitlaw power -q -x flops -y loss --offset --bootstrap 0 > shuffled.tsv
    near "$(get shuffled.tsv power all k value)" "$(get law.tsv power all k value)" 1e-6
    [ "$(get shuffled.tsv power all k n)" = "$(get law.tsv power all k n)" ]
}

@test "fitlaw: both kinds of intervals" {
    power_law 0.57 0.0176 40 0.1 > p.tsv
    dlm-fitlaw power -q -x x -y y p.tsv > plain
    dlm-fitlaw power -q -x x -y y --interval bca -j1 p.tsv | cmp - plain
    dlm-fitlaw power -q -x x -y y --interval bca -j3 p.tsv | cmp - plain
    dlm-fitlaw power -q -x x -y y --interval percentile -j1 p.tsv > percentile
    dlm-fitlaw power -q -x x -y y --interval percentile -j3 p.tsv | cmp - percentile
    run ! cmp -s plain percentile
    cut -f1-4,7 plain > a
    cut -f1-4,7 percentile | cmp - a
    near "$(get percentile power all k lo)" "$(get plain power all k lo)" 0.01
    near "$(get percentile power all k hi)" "$(get plain power all k hi)" 0.01
    run --separate-stderr dlm-fitlaw isoloss --interval bca p.tsv; fails_with 2 "--interval does not belong to 'isoloss'"
}

@test "fitlaw: too few points say how many are needed" {
    power_law 0.5 1 2 0 | sed 's/x\ty/flops\tloss/' > two.tsv
    run --separate-stderr dlm-fitlaw loss two.tsv; fails_with 1 "group 'all': 2 points: loss has 3 parameters and needs at least as many"
    run --separate-stderr dlm-fitlaw power -x flops -y loss --offset two.tsv; fails_with 1 "2 points: power with --offset has 3 parameters"
    head -2 two.tsv > one.tsv
    run --separate-stderr dlm-fitlaw power -x flops -y loss one.tsv; fails_with 1 "1 point: power has 2 parameters"
    study masked 2 12 1 > sizes.tsv
    run --separate-stderr dlm-fitlaw isoflop sizes.tsv; fails_with 1 "2 sizes: a parabola needs at least 3"
    run --separate-stderr dlm-fitlaw surface sizes.tsv; fails_with 1 "2 points differ in size: surface needs at least 3"
}

@test "fitlaw: laws that are none" {
    run --separate-stderr dlm-fitlaw predict -l nothing.tsv -C 1e18; fails_with 1 "cannot open 'nothing.tsv'"
    printf 'law\tgroup\tterm\n' > bad.tsv
    run --separate-stderr dlm-fitlaw predict -l bad.tsv -C 1e18; fails_with 1 "no column 'value'"
    printf 'law\tgroup\tterm\tvalue\nloss\ta\tA\tx\n' > bad.tsv
    run --separate-stderr dlm-fitlaw predict -l bad.tsv -C 1e18; fails_with 1 "'bad.tsv': line 2, column 'value': 'x' is not a number"
    printf 'law\tgroup\tterm\tvalue\nloss.band\ta\tA\t1\n' > bad.tsv
    run --separate-stderr dlm-fitlaw predict -l bad.tsv -C 1e18; fails_with 1 "column 'term': 'A' is not a positive number"
    printf 'law\tgroup\tterm\tvalue\n' > bad.tsv
    run --separate-stderr dlm-fitlaw predict -l bad.tsv -C 1e18; fails_with 1 "'bad.tsv': no laws"
    # the ten columns of the interface alone are enough
    printf 'law\tgroup\tterm\tvalue\tlo\thi\tse\tn\tr2\tobjective\n' > plain.tsv
    for term in 'A\t2066' 'beta\t.18' 'B\t2.3'; do printf "loss\tmasked\t$term\tNA\tNA\tNA\t8\t1\t0\n"; done >> plain.tsv
    run -0 --separate-stderr dlm-fitlaw predict -l plain.tsv -C 1e20
    near "$(cut -f18 <<< "${lines[1]}")" 2.8189 0.001
    [ "$(cut -f1,19 <<< "${lines[1]}")" = "$(printf 'masked\tNA')" ]
}

@test "fitlaw: the drawing with characters" {
    study masked 6 12 5 > m.tsv
    study uniform 6 12 6 > u.tsv
    dlm-fitlaw plot -q m.tsv u.tsv > drawn
    [ "$(awk '{ if (length($0) > m) m = length($0) } END { print m <= 80 }' drawn)" = 1 ]
    grep -q 'A masked/diffusion: L = .* C^-' drawn
    grep -q 'B uniform/diffusion: L = ' drawn
    grep -q '1e17' drawn
    [ "$(sed -n '2,21p' drawn | grep -c '[AB]')" -ge 10 ]
    run ! grep -q '[^ -~]' drawn
    dlm-fitlaw loss -q m.tsv u.tsv -o law.tsv
    cmp <(dlm-fitlaw plot -q -l law.tsv m.tsv u.tsv | cut -c9-) <(cut -c9- drawn) # the axis may end a last digit apart
    # single points stand on their law, and no budget moves them
    awk 'BEGIN { print "flops\tloss"; for (i = 0; i < 9; i++) { c = 10 ^ (18 + i / 4); printf "%.6g\t%.6g\n", c, 2066 * c ^ -.18 + 2.3 } }' > points.tsv
    dlm-fitlaw plot --budgets 1e30:1e31:4 points.tsv > drawn 2> said
    [ "$(sed -n '2,21p' drawn | tr -cd a | wc -c)" -eq 9 ]
    grep -q 'each run is a single point, fitted as it stands: the budgets do not matter' said
}

@test "fitlaw: the drawing through gnuplot" {
    command -v gnuplot > /dev/null || skip "gnuplot is not installed"
    study "ma'sk\`id\`ed" 6 12 5 > m.tsv
    dlm-fitlaw plot -q m.tsv -o law.svg
    head -c 200 law.svg | grep -q '<svg\|<?xml'
    grep -q "ma'sk\`id\`ed/diffusion: L = " <(sed 's/&#39;\|&apos;/'"'"'/g; s/<[^>]*>//g' law.svg)
    dlm-fitlaw plot -q m.tsv -o law.png
    [ "$(head -c 4 law.png | tail -c 3)" = PNG ]
    dlm-fitlaw plot -q m.tsv -o law.pdf
    [ "$(head -c 4 law.pdf)" = %PDF ]
}

@test "fitlaw: without gnuplot a drawing to a file says so and leaves nothing" {
    study masked 6 12 5 > m.tsv
    mkdir bin
    run --separate-stderr env PATH="$PWD/bin" "$BIN/dlm-fitlaw" plot -q m.tsv -o law.svg
    fails_with 1 'cannot run gnuplot'
    [ "$(echo law*)" = 'law*' ]
}

@test "fitlaw: a full disk, a closed pipe, a failed output" {
    study masked 6 12 5 > m.tsv
    if [ -e /dev/full ]; then
        for what in "loss" "isoflop" "plot" "surface"; do
            run --separate-stderr sh -c "exec '$BIN/dlm-fitlaw' $what -q m.tsv > /dev/full"; fails_with 1 'cannot write .?standard output'
        done
        run --separate-stderr dlm-fitlaw predict -l paper -C 1e18 -q -o /dev/full; fails_with 1 "cannot write '/dev/full'"
    fi
    run --separate-stderr bash -c "'$BIN/dlm-fitlaw' loss -q m.tsv | :; exit \${PIPESTATUS[0]}"
    [ -z "$stderr" ]
    [ "$status" -eq 141 ] || [ "$status" -eq 0 ]
    run --separate-stderr dlm-fitlaw loss -q m.tsv -o .; fails_with 1 "Is a directory"
    run --separate-stderr dlm-fitlaw loss -q m.tsv -o /nowhere/law.tsv; fails_with 1 "cannot write '/nowhere/law.tsv'"
    echo before > law.tsv
    run --separate-stderr dlm-fitlaw loss -q /nowhere/x -o law.tsv
    [ "$status" -eq 1 ] && [ "$(cat law.tsv)" = before ]
}

@test "fitlaw: the examples of its pages run" {
    for page in dlm-fitlaw.1 dlm-law.5 dlm-metrics.5; do
        awk '/^\.Sh/ { on = /EXAMPLES/ } !on { next } /^\.Ed/ { code = 0 } code || sub(/^\.Dl /, "") { gsub(/\\e/, "\\"); gsub(/\\-/, "-"); print } /^\.Bd/ { code = 1 }' \
            "$BATS_TEST_DIRNAME/../man/$page" > example.sh
        [ -s example.sh ]
        bash -euo pipefail example.sh > out 2> said || { cat example.sh said; return 1; }
        [ -s out ]
    done
}
