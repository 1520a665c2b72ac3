# dlm-fitlaw: smoothed curves, iso-FLOP bias and filter, the best batch and rate, iso-loss curves, epochs and annealing.

load setup

# grid NOISE SIZES RATES SEED: runs of a known law over sizes, seven batches and learning rates about 0.0104 B^0.33; at equal loss log
# tokens over log batch is a parabola with its lowest point at B* = 0.0117 D*^0.7759.
grid() {
    awk -v noise="$1" -v sizes="$2" -v rates="$3" -v seed="$4" 'function g() { return sqrt(-2 * log(1 - rand())) * cos(6.283185307 * rand()) }
    BEGIN {
        srand(seed); OFS = "\t"
        print "run", "kind", "noise", "objective", "params", "flops_tok", "seq_len", "batch_tok", "lr", "seed", "step", "tokens", "flops", "loss", "elbo", "elbo_se", "tok_s", "note"
        for (s = 0; s < sizes; s++) for (b = 0; b < 7; b++) for (r = 0; r < rates; r++) {
            M = 1.5e8 * 2 ^ s; B = 16384 * 2 ^ b; best = .0104 * B ^ .3295; lr = best * 2 ^ (r - int(rates / 2)); e = .0005 * g()
            for (i = 1; i <= 25; i++) {
                t = 2e8 * 100 ^ (i / 25); u = log(t)
                for (k = 0; k < 40; k++) { d = log(B) - log(.0117) - .7759 * u; u -= (u + .05 * d * d - log(t)) / (1 - 2 * .05 * .7759 * d) }
                L = (2.17 + 222 * M ^ -.292 + 1920 * exp(-.367 * u)) * exp(.01 * log(lr / best) ^ 2 + e + .0003 * g())
                printf "%s-%d-%d-%d\tval\t%s\tdiffusion\t%.9g\t%.9g\t2048\t%d\t%.9g\t1\t%.0f\t%.0f\t%.9g\t%.9g\t%.9g\t%.9g\t%.9g\thello\n", noise, s, b, r, noise, M / 6, M, B, lr, t / B, t, M * t, L * 1.3, L, .001 * L, rand()
            }
        }
    }'
}

# get FILE LAW GROUP TERM COLUMN [Y]: a figure of a law file.
get() {
    awk -F'\t' -v law="$2" -v group="$3" -v term="$4" -v col="$5" -v y="${6:-}" 'NR == 1 { for (i = 1; i <= NF; i++) at[$i] = i; next }
        $1 == law && $2 == group && $3 == term && (y == "" || $at["y"] == y) { print $at[col]; exit }' "$1"
}

# column FILE NAME
column_of() {
    awk -F'\t' -v name="$2" 'NR == 1 { for (i = 1; i <= NF; i++) if ($i == name) at = i; next } { print at ? $at : "no such column" }' "$1"
}

near() {
    awk -v a="$1" -v b="$2" -v t="$3" 'BEGIN { d = a - b; if (a == "" || a == "NA" || d > t || d < -t) { print "got " a ", wanted " b " within " t; exit 1 } }'
}

setup() {
    cd "$BATS_TEST_TMPDIR"
}

@test "curve: a row per run and horizon, that other tasks read" {
    grid masked 5 1 1 > m.tsv
    dlm-fitlaw curve --budgets 1e17:1e18:3 m.tsv > c.tsv 2> said
    grep -q 'fitting elbo of 35 runs (875 points): 35 on their val rows' said
    [ "$(head -1 c.tsv)" = "$(printf 'run\tnoise\tobjective\tparams\tflops_tok\tbatch_tok\tlr\tstep\tflops\tflops_se\ttokens\ttokens_se\tloss\tloss_se\tunique_tokens\tjoules\tseq_len\tseed\tnote')" ]
    [ "$(column_of c.tsv note | sort -u)" = hello ]
    [ "$(column_of c.tsv seq_len | sort -u)" = 2048 ]
    [ "$(column_of c.tsv flops_se | sort -u)" = 0 ]
    [ "$(column_of c.tsv flops | sort -u | wc -l)" = 3 ]
    # where a row lies, the curve is the truth; the error is that of the held-out data
    awk -F'\t' 'NR > 1 { r = $9 / $5 / $11; if (r > 1.000001 || r < .999999 || !($14 > .0009 * $13 && $14 < .0015 * $13)) exit 1 }' c.tsv
    dlm-fitlaw surface -q --bootstrap 0 c.tsv > law.tsv
    [ "$(get law.tsv surface masked/diffusion E n)" = "$(($(wc -l < c.tsv) - 1))" ]
    dlm-fitlaw curve -q --by tokens c.tsv > again.tsv
    [ "$(column_of again.tsv note | sort -u)" = hello ]
    dlm-fitlaw batch -q --bootstrap 0 c.tsv > law.tsv 2> said || true
}

@test "curve: levels of loss are reached where the law says, smoothed in both ways" {
    # one run, L = 2 + 50 t^-0.2
    awk 'BEGIN { print "run\tflops\ttokens\tparams\tloss"; for (i = 0; i <= 60; i++) { t = 1e8 * 10 ^ (i / 20); printf "a\t%.9g\t%.9g\t1e7\t%.12g\n", 6e7 * t, t, 2 + 50 * t ^ -.2 } }' > a.tsv
    for how in local power; do
        dlm-fitlaw curve -q --by tokens --losses 3.0,2.8,2.5 --smooth $how a.tsv > c.tsv
        [ "$(column_of c.tsv loss | tr '\n' ' ')" = '3 2.8 2.5 ' ] || [ "$(column_of c.tsv loss | tr '\n' ' ')" = '3 2.8 ' ]
        near "$(column_of c.tsv tokens | head -1)" 312500000 1500000
        near "$(column_of c.tsv tokens | sed -n 2p)" "$(awk 'BEGIN { print (.8 / 50) ^ -5 }')" 5000000
        [ "$(column_of c.tsv loss_se | sort -u)" = 0 ]
    done
    dlm-fitlaw curve -q --by tokens --budgets 1e9:1e10:2 --smooth power a.tsv > c.tsv
    near "$(column_of c.tsv loss | head -1)" "$(awk 'BEGIN { printf "%.9g", 2 + 50 * 1e9 ^ -.2 }')" 1e-6
    head -4 a.tsv > few.tsv
    run --separate-stderr dlm-fitlaw curve --smooth power few.tsv; fails_with 1 "no run has the 4 points that a power curve needs"
    run --separate-stderr dlm-fitlaw curve --losses 3,x a.tsv; fails_with 2 '--losses takes'
    run --separate-stderr dlm-fitlaw curve --losses 3:2:1 a.tsv; fails_with 2 '--losses takes'
    run --separate-stderr dlm-fitlaw curve --losses 1.5,1.2 a.tsv; fails_with 1 'no run reaches any of the levels of loss'
}

@test "isoflop: the bias of parabolas is estimated" {
    # sizes 1, 2, 4, ... on an exact surface, budgets up to where the grid ends
    awk 'BEGIN { print "run\tflops\ttokens\tparams\tflops_tok\tloss"; for (s = 0; s < 7; s++) { M = 2e8 * 2 ^ s; for (i = 0; i <= 30; i++) { t = 5e7 * 10 ^ (i / 10); printf "%d\t%.9g\t%.9g\t%.9g\t%.9g\t%.12g\n", s, M * t, t, M / 6, M, 2.17 + 222 * M ^ -.292 + 1920 * t ^ -.367 } } }' > s.tsv
    dlm-fitlaw isoflop --bootstrap 0 s.tsv > iso.tsv 2> said
    grep -q 'all: on the surface that fits these runs, parabolas on this grid miss the best flops_tok by' said
    # without errors the parabola over its bias is the optimum
    paste <(column_of iso.tsv flops) <(column_of iso.tsv flops_tok) <(column_of iso.tsv flops_tok_bias) |
        awk '{ g = (.292 * 222 / (.367 * 1920)) ^ (1 / .659) * $1 ^ (.367 / .659); r = $2 / $3 / g; if (r < .97 || r > 1.03) { print $0, r; exit 1 } }'
    column_of iso.tsv flops_tok_bias | awk '$1 < .98 || $1 > 1.02 { off++ } END { exit off < 3 }'
    dlm-fitlaw isoflop -q --raw s.tsv > raw.tsv
    [ "$(column_of raw.tsv flops_tok_bias | sort -u)" = NA ]
}

@test "the paper's filter" {
    grid masked 5 1 1 > m.tsv
    dlm-fitlaw isoflop --bootstrap 0 --paper-filter m.tsv > iso.tsv 2> said
    want=$(awk -F'\t' 'NR > 1 && $13 >= 5e17 && $13 <= 2e20 && $12 / $8 > 5000 && $12 / $8 <= 80000 && $15 < 4 && $8 / $7 < 1024' m.tsv | wc -l)
    grep -q "keeps $want of 875 points" said
    [ "$(column_of iso.tsv flops | sort -g | head -1 | awk '{ print ($1 >= 5e17) }')" = 1 ]
    cut -f1-6,8- m.tsv > bare.tsv
    run --separate-stderr dlm-fitlaw isoflop --paper-filter bare.tsv; fails_with 1 'has no one seq_len'
    awk -F'\t' 'NR == 1 || $13 < 1e17' m.tsv > small.tsv
    run --separate-stderr dlm-fitlaw isoflop --paper-filter small.tsv; fails_with 1 'no point passes --paper-filter'
}

@test "batch: the law of the best batch, its optima, and what is said" {
    grid masked 5 1 2 > m.tsv
    grid uniform 5 1 3 > u.tsv
    dlm-fitlaw batch m.tsv u.tsv --bootstrap 200 > law.tsv 2> said
    near "$(get law.tsv power masked/diffusion k value batch_tok)" .7759 .04
    near "$(get law.tsv power pooled k value batch_tok)" .7759 .03
    [ "$(get law.tsv power pooled k n)" = "$(($(get law.tsv power masked/diffusion k n) + $(get law.tsv power uniform/diffusion k n)))" ]
    awk -v lo="$(get law.tsv power masked/diffusion k lo)" -v hi="$(get law.tsv power masked/diffusion k hi)" 'BEGIN { exit !(lo < .7759 && .7759 < hi && hi - lo < .2) }'
    dlm-fitlaw batch -q --optima m.tsv --bootstrap 50 > o.tsv
    [ "$(head -1 o.tsv)" = "$(printf 'noise\tobjective\tparams\tflops_tok\tloss\ttokens\ttokens_lo\ttokens_hi\ttokens_se\tbatch_tok\tbatch_tok_lo\tbatch_tok_hi\tbatch_tok_se\tlr\tvalues\tleast\tmost\tinside')" ]
    awk -F'\t' 'NR > 1 { r = $10 / (.0117 * $6 ^ .7759); if (r < .7 || r > 1.4) bad++ } END { exit bad > 4 }' o.tsv
    # the optima can be fitted by themselves
    dlm-fitlaw power -q -x tokens -y batch_tok --bootstrap 0 --where inside==1 o.tsv > p.tsv
    near "$(get p.tsv power masked/diffusion k value)" "$(get law.tsv power masked/diffusion k value)" .06
    # neither order, nor threads, nor the company of another group change a group's law
    (head -1 m.tsv; tail -n +2 m.tsv | sort -R --random-source=<(yes)) > mixed.tsv
    dlm-fitlaw batch -q -j 1 --bootstrap 200 mixed.tsv > one.tsv
    diff <(grep masked one.tsv) <(grep masked law.tsv)
    dlm-fitlaw batch -q -s 7 --bootstrap 200 m.tsv > other.tsv
    [ "$(get one.tsv power masked/diffusion k value)" = "$(get other.tsv power masked/diffusion k value)" ]
    [ "$(get one.tsv power masked/diffusion k lo)" != "$(get other.tsv power masked/diffusion k lo)" ]
    # an optimum beyond the sampled batches is told
    awk -F'\t' 'NR == 1 || $8 <= 131072' m.tsv > low.tsv
    dlm-fitlaw batch --bootstrap 0 low.tsv 2>&1 > /dev/null | grep -qE 'optima lie outside of the sampled batches, beyond the largest'
    awk -F'\t' 'NR == 1 || $8 <= 32768' m.tsv > two.tsv
    run --separate-stderr dlm-fitlaw batch two.tsv; fails_with 1 'at least 3 batches of one size'
    run --separate-stderr dlm-fitlaw batch --best-batch m.tsv; fails_with 2 "--best-batch does not belong to 'batch'"
    cut -f1-7,9- m.tsv > nobatch.tsv
    run --separate-stderr dlm-fitlaw batch nobatch.tsv; fails_with 1 "no column 'batch_tok'"
}

@test "lr: the law of the best rate" {
    grid masked 3 3 4 > m.tsv
    dlm-fitlaw lr --bootstrap 200 m.tsv > law.tsv 2> said
    near "$(get law.tsv power masked/diffusion k value lr)" .3295 .02
    awk -v lo="$(get law.tsv power masked/diffusion k lo)" -v hi="$(get law.tsv power masked/diffusion k hi)" 'BEGIN { exit !(lo < .3295 && .3295 < hi && hi - lo < .08) }'
    dlm-fitlaw lr -q --optima --budgets 2e9:1e10:3 --bootstrap 0 m.tsv > o.tsv
    [ "$(column_of o.tsv tokens | sort -u | wc -l)" = 3 ]
    [ "$(column_of o.tsv values | sort -u)" = 3 ]
    dlm-fitlaw lr -q --optima --best-batch --budgets 2e9:1e10:3 --bootstrap 0 m.tsv > best.tsv
    [ "$(($(wc -l < best.tsv) - 1))" -le 9 ]
    # those batches are the ones next to B*
    paste <(column_of best.tsv tokens) <(column_of best.tsv batch_tok) | awk '{ r = log($2 / (.0117 * $1 ^ .7759)) / log(2); if (r < -1.2 || r > 1.2) exit 1 }'
    awk -F'\t' 'NR == 1 || $1 !~ /-0$/' m.tsv > two.tsv
    run --separate-stderr dlm-fitlaw lr two.tsv; fails_with 1 'at least 3 rates of one size and batch'
    # a batch stands for its best rate: those of the runs in the middle
    dlm-fitlaw batch -q --optima --bootstrap 0 m.tsv > b.tsv
    awk -F'\t' 'NR > 1 && $1 ~ /-1$/ { print $9 }' m.tsv | sort -u > middle
    column_of b.tsv lr | sort -u > used
    [ -s used ]
    [ -z "$(comm -13 middle used)" ]
}

@test "isoloss: curves, and the law of the critical batch" {
    # (S/S_min - 1)(B/B_min - 1) = 0.6 with B_min = 2e4 (4/L)^5, S_min = 3000 (4/L)^7, tokens S*B, one size
    awk 'BEGIN { print "run\tflops\ttokens\tparams\tbatch_tok\tloss"
        for (b = 0; b < 8; b++) { B = 65536 * 1.6 ^ b; for (i = 0; i <= 60; i++) { L = 4.2 * exp(-i / 120); m = 2e4 * (4 / L) ^ 5; if (B <= 1.05 * m) continue
            S = 3000 * (4 / L) ^ 7 * (1 + .6 / (B / m - 1)); printf "%d\t%.9g\t%.9g\t1e7\t%d\t%.12g\n", b, 6e7 * S * B, S * B, B, L } } }' > i.tsv
    dlm-fitlaw isoloss -q --losses 3.9,3.6,3.3 --bootstrap 0 i.tsv > o.tsv
    [ "$(head -1 o.tsv)" = "$(printf 'params\tflops_tok\tloss\tsteps_min\tsteps_min_lo\tsteps_min_hi\tsteps_min_se\tbatch_min\tbatch_min_lo\tbatch_min_hi\tbatch_min_se\tkappa\tkappa_lo\tkappa_hi\tkappa_se\tbatch_crit\tbatch_crit_lo\tbatch_crit_hi\tbatch_crit_se\tbatch_best\tbatch_best_lo\tbatch_best_hi\tbatch_best_se\tbatches\tdetermined')" ]
    [ "$(wc -l < o.tsv)" = 4 ]
    while read -r loss steps batch kappa; do
        near "$kappa" .6 .03
        near "$(awk -v a="$steps" -v l="$loss" 'BEGIN { print a / (3000 * (4 / l) ^ 7) }')" 1 .02
        near "$(awk -v a="$batch" -v l="$loss" 'BEGIN { print a / (2e4 * (4 / l) ^ 5) }')" 1 .03
    done < <(paste <(column_of o.tsv loss) <(column_of o.tsv steps_min) <(column_of o.tsv batch_min) <(column_of o.tsv kappa))
    dlm-fitlaw isoloss -q --losses 3.9,3.6,3.3 --critical --bootstrap 100 i.tsv > law.tsv
    near "$(get law.tsv isoloss all kappa value)" .6 .02
    near "$(get law.tsv power all k value batch_crit)" -5 .1
    awk -F'\t' 'NR == 1 || $5 < 200000' i.tsv > few.tsv
    run --separate-stderr dlm-fitlaw isoloss few.tsv; fails_with 1 'at least 4 batches'
}

# repeated NOISE R E SEED: four sizes, six amounts of unique tokens, up to a hundred epochs.
repeated() {
    awk -v noise="$1" -v R="$2" -v E="$3" -v seed="$4" 'function g() { return sqrt(-2 * log(1 - rand())) * cos(6.283185307 * rand()) }
    BEGIN { srand(seed); print "run\tnoise\tflops\ttokens\tparams\tunique_tokens\tloss"
        for (s = 0; s < 4; s++) for (a = 0; a < 6; a++) { P = 1e7 * 3 ^ s; U = 1e7 * 3 ^ a; e = .001 * g()
            for (i = 0; i < 14; i++) { t = .2 * U * 500 ^ (i / 13); u = t < U ? t : U; D = t < U ? t : U + U * R * (1 - exp(-(t / U - 1) / R))
                printf "%s-%d-%d\t%s\t%.9g\t%.9g\t%.9g\t%.9g\t%.9g\n", noise, s, a, noise, 6 * P * t, t, P, u, (E + 350 * P ^ -.32 + 900 * D ^ -.32) * exp(e + .0003 * g()) } } }'
}

@test "epochs: what repeated tokens are worth, and where one noise type overtakes another" {
    repeated masked 60 1.9 1 > m.tsv
    repeated uniform 6 1.7 2 > u.tsv
    dlm-fitlaw epochs --bootstrap 100 m.tsv u.tsv > law.tsv 2> said
    near "$(get law.tsv epochs.saturating masked R value)" 60 4
    near "$(get law.tsv epochs.saturating uniform R value)" 6 .5
    near "$(get law.tsv epochs.saturating masked beta value)" .32 .02
    near "$(get law.tsv loss masked B value)" 1.9 .1
    near "$(get law.tsv loss masked A value)" "$(awk 'BEGIN { print 900 * 61 ^ -.32 }')" 60
    grep -qE '^dlm-fitlaw: masked is bound lower than uniform up to [0-9.e+]+ unique tokens, from|where one overtakes the other, in unique tokens, is not determined' said
    [ "$(head -1 law.tsv)" = "$(printf 'law\tgroup\tterm\tvalue\tlo\thi\tse\tn\tr2\tobjective\ty\tx\tby')" ]
    dlm-fitlaw epochs -q --form stretched --bootstrap 0 m.tsv > s.tsv
    [ "$(get s.tsv epochs.stretched masked q n)" = "$(get law.tsv epochs.saturating masked R n)" ]
    awk -F'\t' 'NR == 1 || $4 <= $6' m.tsv > once.tsv
    run --separate-stderr dlm-fitlaw epochs once.tsv; fails_with 1 'no run sees its tokens again'
    cut -f1-5,7 m.tsv > blind.tsv
    run --separate-stderr dlm-fitlaw epochs blind.tsv; fails_with 1 "no column 'unique_tokens'"
}

@test "annealing: the factor, and whether it moves an optimum" {
    awk 'function g() { return sqrt(-2 * log(1 - rand())) * cos(6.283185307 * rand()) }
    BEGIN { srand(3); print "run\tnoise\tflops\ttokens\tparams\tbatch_tok\tlr\tseed\tschedule\tloss"
        for (s = 0; s < 3; s++) for (b = 0; b < 3; b++) for (r = 0; r < 3; r++) { P = 1e7 * 3 ^ s; B = 65536 * 2 ^ b; lr = .2 * 2 ^ r
            for (i = 1; i <= 20; i++) { t = 1e8 * 100 ^ (i / 20); L = (2 + 350 * P ^ -.32 + 900 * t ^ -.32)
                printf "c%d%d%d\tmasked\t%.9g\t%.9g\t%.9g\t%d\t%.9g\t1\tconstant\t%.9g\n", s, b, r, 6 * P * t, t, P, B, lr, L * exp(.0005 * g())
                if (i == 15) printf "a%d%d%d\tmasked\t%.9g\t%.9g\t%.9g\t%d\t%.9g\t1\twsd\t%.9g\n", s, b, r, 6 * P * t, t, P, B, lr, L / 1.0245 * exp(.0005 * g()) } } }' > a.tsv
    dlm-fitlaw annealing --annealed 'schedule=="wsd"' --bootstrap 200 a.tsv > law.tsv 2> said
    near "$(get law.tsv annealing masked factor value)" "$(awk 'BEGIN { print 1 / 1.0245 }')" .0005
    [ "$(get law.tsv annealing masked factor n)" = 27 ]
    [ "$(cut -f3 law.tsv | tail -n +2 | tr '\n' ' ')" = 'factor k_flops_tok k_batch_tok k_lr ' ]
    grep -q 'masked: annealing does not move the best learning rate as far as these runs tell' said
    run --separate-stderr dlm-fitlaw annealing a.tsv; fails_with 2 'annealing needs --annealed'
    run --separate-stderr dlm-fitlaw annealing --annealed 'schedule=="cosine"' a.tsv; fails_with 1 'no run ends in a row that meets --annealed'
    awk -F'\t' 'NR == 1 || $9 == "wsd"' a.tsv > lone.tsv
    run --separate-stderr dlm-fitlaw annealing --annealed 'schedule=="wsd"' lone.tsv; fails_with 1 'has a partner at a constant rate'
    run --separate-stderr dlm-fitlaw annealing --annealed 'schedule==' a.tsv
    [ "$status" -ne 0 ]
}
