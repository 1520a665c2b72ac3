# dlm-fitlaw: published laws, predictions from them, plans, and limited data.

load setup

setup() {
    cd "$BATS_TEST_TMPDIR"
}

# field FILE ROW COLUMN: of a TSV; ROW is a number, or VALUE of the first column.
field() {
    awk -F'\t' -v row="$2" -v col="$3" 'NR == 1 { for (i = 1; i <= NF; i++) at[$i] = i; if (!(col in at)) exit; next }
        NR - 1 == row || $1 == row { print $at[col]; exit }' "$1"
}

# same GOT WANTED [TOLERANCE]: relative, 1e-5 unless told; NA only equals NA.
same() {
    awk -v a="$1" -v b="$2" -v t="${3:-1e-5}" 'BEGIN {
        if (a == "NA" || b == "NA") bad = a != b
        else if (a == "" || b == "") bad = 1
        else { d = a / b - 1; bad = d > t || d < -t }
        if (bad) print "got " a ", wanted " b " within " t
        exit bad }'
}

# calc EXPRESSION: by awk, with enough digits.
calc() {
    awk "BEGIN { printf \"%.10g\", $1 }"
}

@test "plan: the published laws are listed, printed, and read back" {
    dlm-fitlaw laws > list.tsv
    [ "$(cut -f1 list.tsv | paste -sd' ')" = "name paper chinchilla quokka deepseek llama3" ]
    [ "$(field list.tsv chinchilla compute) $(field list.tsv paper compute)" = '6*P*D M*D' ]
    for law in $(cut -f1 list.tsv | tail -n +2); do
        dlm-fitlaw laws -q -l $law > $law.tsv
        [ "$(awk -F'\t' '{ print NF }' $law.tsv | sort -u)" = 13 ]
        dlm-fitlaw predict -q -l $law -C 1e19,1e22 > named
        dlm-fitlaw predict -q -l $law.tsv -C 1e19,1e22 > read
        cut -f1,2,21,22 named | cmp - <(cut -f1,2,21,22 read)
        paste <(tail -n +2 named | cut -f3-20 | tr '\t' '\n') <(tail -n +2 read | cut -f3-20 | tr '\t' '\n') |
            awk '{ if (($1 == "NA") != ($2 == "NA")) exit 1; if ($1 != "NA" && ($1 / $2 - 1) ^ 2 > 1e-10) exit 1 }'
    done
    # an edited law is another law
    awk -F'\t' -v OFS='\t' '$1 == "power" && $2 == "masked" && $3 == "A" && $11 == "loss" { $4 *= 2 } 1' paper.tsv > edited.tsv
    dlm-fitlaw predict -q -l paper.tsv -C 1e19 > a
    dlm-fitlaw predict -q -l edited.tsv -C 1e19 > b
    same "$(field b masked loss)" "$(calc "2 * $(field a masked loss)")"
}

@test "plan: the paper's laws are predicted as printed" {
    dlm-fitlaw predict -q -l paper -C 3e20 > p.tsv
    while read -r noise la lk da dk ma mk ba bk ea ek; do
        same "$(field p.tsv $noise loss)" "$(calc "$la * 3e20 ^ $lk")"
        same "$(field p.tsv $noise tokens)" "$(calc "$da * 3e20 ^ $dk")"
        same "$(field p.tsv $noise flops_tok)" "$(calc "$ma * 3e20 ^ $mk")"
        batch=$(calc "exp($ba) * ($da * 3e20 ^ $dk) ^ $bk")
        same "$(field p.tsv $noise batch_tok)" "$batch"
        same "$(field p.tsv $noise lr)" "$(calc "exp($ea) * $batch ^ $ek")"
        [ "$(field p.tsv $noise compute)" = 'M*D' ]
    done <<'LAWS'
masked 27.21883 -0.04961 56.78711 0.43371 0.01761 0.56629 -4.449 0.7759 -4.569 0.3295
low-uniform 29.12047 -0.05088 15.31607 0.46459 0.06529 0.53541 -4.837 0.7916 -4.135 0.2924
balanced 29.84096 -0.05124 14.45680 0.46642 0.06918 0.53358 -5.845 0.8373 -5.016 0.3653
high-uniform 30.19375 -0.05141 81.86373 0.42701 0.01222 0.57298 -6.398 0.8607 -5.047 0.3628
uniform 31.26171 -0.05219 161.92545 0.41121 0.00618 0.58879 -6.792 0.8787 -4.933 0.3554
LAWS
    # two sigma of the exponent, about 1e19
    same "$(field p.tsv uniform flops_tok_lo)" "$(calc "0.00618 * 3e20 ^ 0.58879 * 30 ^ -0.019")"
    same "$(field p.tsv uniform flops_tok_hi)" "$(calc "0.00618 * 3e20 ^ 0.58879 * 30 ^ 0.018")"
    same "$(field p.tsv uniform tokens_lo)" "$(calc "161.92545 * 3e20 ^ 0.41121 * 30 ^ -0.018")"
    [ "$(field p.tsv uniform loss_lo)" = NA ]
    # at 64 x 2048 tokens the masked rate is about 0.50
    same "$(calc 'exp(-4.569) * 131072 ^ 0.3295')" 0.50 0.01
}

@test "plan: the neighbours' laws, each by its own way to count compute" {
    dlm-fitlaw predict -q -l chinchilla -l quokka -l deepseek -l llama3 -C 1e21 > p.tsv
    at() { awk -F'\t' -v g="$1" -v col="$2" 'NR == 1 { for (i = 1; i <= NF; i++) at[$i] = i; next } $at["group"] == g { print $at[col] }' p.tsv; }
    # the best split of L = E + A/P^.34 + B/D^.28 under C = 6PD
    P=$(calc "(.34 * 406.4 / (.28 * 410.7)) ^ (1 / .62) * (1e21 / 6) ^ (.28 / .62)")
    same "$(at none/chinchilla params)" $P
    same "$(at none/chinchilla tokens)" "$(calc "1e21 / 6 / $P")"
    same "$(at none/chinchilla loss)" "$(calc "1.69 + 406.4 / $P ^ .34 + 410.7 / (1e21 / 6 / $P) ^ .28")"
    same "$(at none/chinchilla flops_tok)" "$(calc "6 * $P")"
    N=$(calc "0.0216 * 1e21 ^ 0.514") D=$(calc "7.7 * 1e21 ^ 0.486")
    same "$(at masked/quokka params)" $N
    same "$(at masked/quokka tokens)" $D
    same "$(at masked/quokka loss)" "$(calc "2.413 + 798.6 / $N ^ .379 + 4604.9 / $D ^ .378")"
    same "$(at none/deepseek flops_tok)" "$(calc '0.1715 * 1e21 ^ 0.5243')"
    same "$(at none/deepseek tokens)" "$(calc '5.8316 * 1e21 ^ 0.4757')"
    same "$(at none/deepseek params)" NA
    same "$(at none/llama3 params)" "$(calc '0.6 * 1e21 ^ 0.463')"
    same "$(at none/llama3 tokens)" "$(calc '0.299 * 1e21 ^ 0.537')"
    [ "$(at none/llama3 compute)$(at none/deepseek compute)" = '6*P*DM*D' ]
    [ "$(at none/llama3 loss)$(at none/llama3 lr)" = NANA ]
}

@test "plan: what must be known of published laws is said" {
    run -0 --separate-stderr dlm-fitlaw predict -l paper -C 1e19
    [[ $stderr == *"its losses belong to its tokenizer (131,072 ids, 4.2278 bytes a token) and data"* && $stderr != *extrapolation* ]]
    run -0 --separate-stderr dlm-fitlaw predict -l paper -l llama3 -C 1e23
    [[ $stderr == *"masked: flops 1e+23 lies more than ten times beyond the data, which end at 2e+20: an extrapolation"* ]]
    run -0 --separate-stderr dlm-fitlaw predict -l chinchilla -l quokka -l deepseek -C 1e20
    [[ $stderr == *"approach 3, whose best size grows as C^0.452"* && $stderr == *"quokka: sizes by its power laws"* ]]
    run -0 --separate-stderr dlm-fitlaw predict -q -l chinchilla -C 1e20
    [ -z "$stderr" ]
}

@test "plan: 1e22 FLOPs of uniform noise are the paper's 10B run" {
    dlm-fitlaw plan -q -l paper -C 1e22 --noise uniform > p.tsv
    [ "$(field p.tsv 1 layers) $(field p.tsv 1 width) $(field p.tsv 1 heads) $(field p.tsv 1 seq_len)" = "34 4608 36 2048" ]
    same "$(field p.tsv 1 params)" 8.666e9 0.001
    same "$(field p.tsv 1 tokens)" "$(calc '3072 * 29000 * 2048')" 0.03
    same "$(field p.tsv 1 flops)" "$(calc '(6 * 8.666e9 + 12 * 34 * 4608 * 2048) * 3072 * 29000 * 2048')" 0.03
    # their batch is 0.72 of the law's 4261 sequences
    same "$(field p.tsv 1 law_batch_tok)" "$(calc '4261 * 2048')" 0.001
    [ "$(field p.tsv 1 batch)" = 4096 ]
    same "$(field p.tsv 1 batch)" 3072 0.34
    # a batch that is asked for is taken
    dlm-fitlaw plan -q -l paper -C 1e22 --noise uniform --batch 3072 > q.tsv
    same "$(field q.tsv 1 steps)" 29000 0.03
    same "$(field q.tsv 1 lr)" "$(calc 'exp(-4.933) * (3072 * 2048) ^ .3554')" 1e-3
    # and the 3B runs
    dlm-fitlaw plan -q -l paper -C 1e21 > r.tsv
    [ "$(field r.tsv masked layers) $(field r.tsv masked width) $(field r.tsv masked batch)" = "18 3072 1536" ]
    same "$(field r.tsv masked steps)" 23500 0.01
    [ "$(field r.tsv uniform layers) $(field r.tsv uniform width)" = "19 3072" ]
}

@test "plan: dlm-train plans what the command line says" {
    dlm-fitlaw plan -q -l paper -C 1e17 > p.tsv
    dlm-fitlaw plan -q -l paper -C 1e17 --format dlm > lines
    [ "$(wc -l < lines)" = 5 ]
    while read -r line; do
        noise=$(sed 's/.*--noise \([^ ]*\).*/\1/' <<< "$line")
        $line --plan --vocab-size 131072 --seq-len 2048 --micro-batch 1 > t.tsv
        for name in params params_embedding width layers heads seq_len steps batch_tok; do
            [ "$(field t.tsv $name value)" = "$(field p.tsv $noise $name)" ] || { echo "$noise $name"; cat t.tsv; return 1; }
        done
        for name in flops tokens flops_tok; do
            same "$(field t.tsv $name value)" "$(field p.tsv $noise $name)"
        done
        same "$(field t.tsv flops_tok_6p value)" "$(calc "$(field p.tsv $noise flops_6p) / $(field p.tsv $noise tokens)")"
        same "$(field t.tsv flops_tok_head value)" "$(calc "$(field p.tsv $noise flops_head) / $(field p.tsv $noise tokens)")"
        for name in weights gradients optimizer; do
            same "$(field t.tsv memory_$name value)" "$(field p.tsv $noise memory_$name)" 0.001
        done
    done < lines
    grep -q -- '--noise masked .* --lr 0\.[0-9]* --schedule wsd --cooldown 0.2 --run masked-1e+17$' lines
    # limited data: dlm-train is told, and an autoregressive law gives its objective
    dlm-fitlaw plan -q -l paper -C 1e17 --noise masked --tokens-available 100M --format dlm | grep -q -- ' --unique-tokens 100000000 '
    dlm-fitlaw plan -q -l chinchilla -C 1e18 --batch 64 --lr 0.3 --format dlm > ar
    grep -q -- '^dlm-train --objective ar .* --batch 64 .* --lr 0.3 ' ar
    $(cat ar) --plan --vocab-size 1000 --seq-len 2048 --micro-batch 1 > t.tsv
    same "$(calc "6 * $(field t.tsv params value) * $(field t.tsv tokens value)")" 1e18 0.005
}

@test "plan: a line trains" {
    corpus 60000 > c.txt
    dlm-tokenize -q --train -V 300 -o v.json --split line c.txt
    dlm-tokenize -q -t v.json --split line c.txt | dlm-shard -q -o data -n 32
    printf 'law\tgroup\tterm\tvalue\ty\tx\tby\n' > law.tsv
    for row in 'A 20 flops_tok' 'k 0.4 flops_tok' 'A 10 batch_tok' 'k 0.3 batch_tok' 'A .3 lr' 'k 0.001 lr'; do
        read -r term value y <<< "$row"
        printf 'power\tbalanced/diffusion\t%s\t%s\t%s\tflops\tnoise,objective\n' $term $value $y
    done >> law.tsv
    dlm-fitlaw plan -q -l law.tsv -C 5e10 --seq-len 32 --vocab-size 300 --devices 1 --format dlm > line
    $(cat line) -d data -o ckpt -q --epochs 1000 > m.tsv
    [ "$(field m.tsv 1 noise) $(field m.tsv 1 run)" = "balanced balanced-5e+10" ]
    dlm-fitlaw plan -q -l law.tsv -C 5e10 --seq-len 32 --vocab-size 300 --devices 1 > p.tsv
    [ "$(tail -n 1 m.tsv | cut -f13)" = "$(field p.tsv 1 steps)" ]
}

@test "plan: budgets are kept, and batches and heads divide" {
    for devices in 1 8 24 40; do
        dlm-fitlaw plan -q -l paper -C 1e16,1e17,1e18,1e19,1e20,1e21,1e22,1e23,1e24 --devices $devices > p.tsv
        [ "$(wc -l < p.tsv)" = 46 ]
        awk -F'\t' -v n=$devices 'NR == 1 { for (i = 1; i <= NF; i++) at[$i] = i; next }
            { f = $at["flops"] / $at["budget"]; b = $at["batch_tok"] / $at["law_batch_tok"]; m = $at["flops_tok"] / $at["law_flops_tok"]
              share = $at["batch"] / n
              if (f < .999 || f > 1.001) bad = "budget"
              if ($at["budget"] > 1e17 && (b < .8 || b > 1.26)) bad = "batch"
              if ($at["budget"] > 1e17 && (m < .93 || m > 1.07)) bad = "size"
              if (share != int(share) || share / $at["micro_batch"] != int(share / $at["micro_batch"])) bad = "share"
              while (share % 2 == 0) share /= 2
              if (share != 1 && share != 3) bad = "power of two or three"
              if ($at["width"] / $at["heads"] != ($at["width"] > 1024 ? 128 : 64)) bad = "heads"
              if ($at["warmup"] != ($at["steps"] < 10000 ? int($at["steps"] / 5) : 2000)) bad = "warm-up"
              if (($at["memory_states"] / (16 * ($at["params"] + $at["params_embedding"])) - 1) ^ 2 > 1e-12) bad = "memory"
              if (bad) { print bad ": " $0; exit 1 } }' p.tsv
    done
    # hours: the FLOPs of both over what the devices reach
    dlm-fitlaw plan -q -l paper -C 1e20 --noise masked --devices 16 --mfu 0.5 --peak-flops 1e15 > p.tsv
    same "$(field p.tsv 1 device_hours)" "$(calc "($(field p.tsv 1 flops) + $(field p.tsv 1 flops_head)) / .5e15 / 3600")" 1e-3
    same "$(field p.tsv 1 hours)" "$(calc "$(field p.tsv 1 device_hours) / 16")" 1e-3
    same "$(field p.tsv 1 loss_annealed)" "$(calc "$(field p.tsv 1 loss) / 1.0245")"
    # laws that count 6PD realise that
    dlm-fitlaw plan -q -l llama3 -l quokka -C 1e20,1e22 | awk -F'\t' 'NR == 1 { for (i = 1; i <= NF; i++) at[$i] = i; next }
        { if ((6 * $at["params"] * $at["tokens"] / $at["budget"] - 1) ^ 2 > 1e-8 || $at["batch"] != "NA" || $at["lr"] != "NA") exit 1 }'
}

@test "plan: Megatron-LM's arguments and DeepSpeed's JSON" {
    dlm-fitlaw plan -q -l paper -C 1e20 --noise uniform --devices 16 > p.tsv
    dlm-fitlaw plan -q -l paper -C 1e20 --noise uniform --devices 16 --format megatron > m.txt
    [ "$(grep -vc '^#' m.txt)" = 1 ]
    for lack in noise loss 'attention rule' LaProp; do grep -q "^# - $lack" m.txt; done
    arg() { grep -v '^#' m.txt | sed "s/.* $1 \([^ ]*\).*/\1/"; }
    [ "$(grep -v '^#' m.txt | cut -d' ' -f1,2)" = "--num-layers $(field p.tsv 1 layers)" ]
    [ "$(arg --hidden-size) $(arg --num-attention-heads) $(arg --train-iters) $(arg --global-batch-size)" = \
      "$(field p.tsv 1 width) $(field p.tsv 1 heads) $(field p.tsv 1 steps) $(field p.tsv 1 batch)" ]
    [ "$(arg --ffn-hidden-size) $(arg --kv-channels) $(arg --lr-warmup-iters)" = "$((4 * $(field p.tsv 1 width))) 128 2000" ]
    same "$(arg --lr)" "$(calc "$(field p.tsv 1 lr) / $(field p.tsv 1 width)")" 1e-3
    same "$(arg --decoupled-lr)" "$(calc ".02 * $(field p.tsv 1 lr)")" 1e-3
    same "$(arg --adam-eps)" "$(calc "1e-8 / $(field p.tsv 1 width) / $(field p.tsv 1 layers)")" 1e-3
    [ "$(arg --adam-beta2)" = 0.98 ]
    dlm-fitlaw plan -q -l paper -C 1e18,1e20 --format megatron > all.txt
    [ "$(grep -vc '^#' all.txt)" = 10 ]

    dlm-fitlaw plan -q -l paper -C 1e20 --noise uniform --devices 16 --format deepspeed > d.json
    command -v python3 > /dev/null || skip "no python3 to read JSON with"
    python3 - "$(field p.tsv 1 batch)" "$(field p.tsv 1 lr)" "$(field p.tsv 1 width)" "$(field p.tsv 1 steps)" <<'PY'
import json, sys
d, (batch, lr, width, steps) = json.load(open("d.json")), map(float, sys.argv[1:])
assert d["train_batch_size"] == batch == d["train_micro_batch_size_per_gpu"] * d["gradient_accumulation_steps"] * 16
rate = d["optimizer"]["params"]["lr"]
assert abs(rate * width / lr - 1) < 1e-3 and d["scheduler"]["params"]["warmup_max_lr"] == rate
assert d["scheduler"]["type"] == "WarmupLR" and d["scheduler"]["params"]["warmup_num_steps"] == 2000
assert d["optimizer"]["params"]["betas"] == [0.9, 0.98] and d["bf16"]["enabled"] is True
assert any("noise" in line for line in d["comment"]) and f"--train-iters {int(steps)}" in d["arguments"]
PY
}

@test "plan: tokens that suffice change nothing, fewer cost loss" {
    dlm-fitlaw plan -q -l paper -C 1e20 > free.tsv
    dlm-fitlaw plan -q -l paper -C 1e20 --tokens-available 1e12 > enough.tsv
    diff <(cut -f1-30 free.tsv) <(cut -f1-30 enough.tsv)
    last=0
    for U in 20G 1G 50M; do
        dlm-fitlaw plan -q -l paper -C 1e20 --tokens-available $U > u.tsv
        loss=$(field u.tsv masked loss)
        [ "$(field u.tsv low-uniform loss)" = NA ]
        awk -v a="$loss" -v b="$last" -v f="$(field free.tsv masked loss)" 'BEGIN { exit !(a > b && a > f - 1e-5 && a < 2 * f) }'
        last=$loss
        same "$(field u.tsv masked flops)" 1e20 0.001
        U=$(field u.tsv masked unique_tokens) e=$(field u.tsv masked epochs)
        same "$(field u.tsv masked tokens)" "$(calc "$U * $e")" 1e-3
        # D' = U + U R (1 - exp(-(e - 1) / R))
        same "$(field u.tsv masked tokens_worth)" "$(calc "$U * (1 + 493.89 * (1 - exp(-($e - 1) / 493.89)))")" 1e-3
    done
    [[ $(field u.tsv masked repeats) == "R = 493.89 of arXiv 2507.15857 (masked diffusion)"* ]]
    [[ $(field u.tsv uniform repeats) == *"assumed for this noise"* ]]
    # data-bound networks are larger and see their tokens more often
    awk -v a="$(field u.tsv masked params)" -v b="$(field free.tsv masked params)" 'BEGIN { exit !(a > 1.2 * b) }'
    # autoregressive models bear fewer passes
    dlm-fitlaw plan -q -l chinchilla -C 1e21 --tokens-available 1G > ar.tsv
    e=$(field ar.tsv none epochs)
    same "$(field ar.tsv none tokens_worth)" "$(calc "1e9 * (1 + 31.19 * (1 - exp(-($e - 1) / 31.19)))")" 1e-3
    run -0 --separate-stderr dlm-fitlaw plan -l quokka -C 1e21 --tokens-available 10G
    [[ $stderr == *"masked/quokka: its law epochs.stretched says a loss of "*" and values repeated tokens above new ones there"* ]]
}

@test "plan: who is better on limited data, and how sure that is" {
    dlm-fitlaw databound -q -l paper -C 1e21 --tokens-available 10G --noise uniform > d.tsv
    row() { awk -F'\t' -v e="$1" -v col="$2" 'NR == 1 { for (i = 1; i <= NF; i++) at[$i] = i; next }
        $1 == "masked" && $2 == "uniform" && $3 == e { print $at[col] }' d.tsv; }
    # the surface by brute force
    for side in "first 2.17 222 .292 1920 .367" "second 2.19 294 .305 1340 .346"; do
        read -r which E a alpha b beta <<< "$side"
        best=$(awk -v E=$E -v a=$a -v al=$alpha -v b=$b -v be=$beta 'BEGIN { best = 99; U = 1e10; R = 493.89
            for (i = 0; i <= 4000; i++) { m = exp(log(1e9) + i * log(1000) / 4000); d = 1e21 / m
                if (d > U) d = U * (1 + R * (1 - exp(-(d / U - 1) / R)))
                l = E + a * m ^ -al + b * d ^ -be; if (l < best) best = l }
            printf "%.8g", best }')
        same "$(row surface loss_$which)" $best
    done
    # one pass at the best compute: where 27.2 C^-.0496 with D*(C) = U meets its neighbour
    U=$(calc 'exp((log(31.26171 / 27.21883) + .05219 * log(161.92545) / .41121 - .04961 * log(56.78711) / .43371) / (.05219 / .41121 - .04961 / .43371))')
    same "$(row frontier crossover)" $U 1e-3
    awk -v lo="$(row frontier crossover_lo)" -v u=$U -v hi="$(row frontier crossover_hi)" 'BEGIN { exit !(lo < u && u < hi) }'
    [ "$(row surface interval) $(row surface better) $(row surface crossover)" = "digits masked NA" ]
    run -0 --separate-stderr dlm-fitlaw plan -l paper -C 1e21 --tokens-available 10G
    [[ $stderr == *"masked or uniform at 1e+21 FLOPs on 1e+10 unique tokens: lower loss in nats: masked by "*"how sure that is is not determined"* ]]
    [[ $stderr == *"by the surfaces: no crossover between 1e+06 and 1e+13 unique tokens"* && $stderr == *"they cross at 1.5e+11 unique tokens"* ]]
    # other publications are never compared
    [ "$(dlm-fitlaw databound -q -l chinchilla -l quokka -C 1e21 --tokens-available 10G | wc -l)" = 1 ]
    run -0 --separate-stderr dlm-fitlaw plan -l quokka -C 1e21 --tokens-available 10G
    [[ $stderr == *"which noise type is better on that many unique tokens is not determined"* ]]
}

# surfaces A_SECOND: laws of two groups with surfaces, bands of loss 1 % wide, and R of their own.
surfaces() {
    printf 'law\tgroup\tterm\tvalue\tlo\thi\ty\tx\tby\n'
    for side in "masked/diffusion 1 100" "none/ar $1 8"; do
        read -r group a R <<< "$side"
        while read -r term value; do
            printf 'surface\t%s\t%s\t%s\tNA\tNA\telbo\tparams\tnoise,objective\n' $group $term $value
            printf 'epochs.saturating\t%s\t%s\t%s\tNA\tNA\tloss\ttokens\tnoise,objective\n' $group $term $value
        done <<< $'E 2\na '$a$'\nalpha .3\nb 100\nbeta .3'
        printf 'epochs.saturating\t%s\tR\t%s\tNA\tNA\tloss\ttokens\tnoise,objective\n' $group $R
        for c in 1e15 1e25; do
            printf 'surface.band\t%s\t%s\t2.5\t2.4875\t2.5125\telbo\tflops\tnoise,objective\n' $group $c
        done
    done
}

@test "plan: laws of one's own decide with their bands" {
    # the second does better with much data and worse with little, where its R = 8 tells
    surfaces .5 > law.tsv
    for U in 1e7 1e12; do
        dlm-fitlaw databound -q -l law.tsv -C 1e18 --tokens-available $U > d$U.tsv
        [ "$(field d$U.tsv 1 interval)" = bands ]
    done
    [[ $(field d1e7.tsv 1 assumes) == "the group's own law epochs.saturating" ]]
    awk -v a="$(field d1e7.tsv 1 difference)" -v b="$(field d1e12.tsv 1 difference)" 'BEGIN { exit !(a < 0 && b > 0) }'
    [ "$(field d1e7.tsv 1 better)" = masked/diffusion ]
    # without bands, laws with all their digits have no interval
    grep -v band law.tsv | awk -F'\t' -v OFS='\t' 'NR > 1 { $4 = sprintf("%.9g", $4 * 1.00000001234 + 1e-7) } 1' > bare.tsv
    dlm-fitlaw databound -q -l bare.tsv -C 1e18 --tokens-available 1e7 > bare
    [ "$(field bare 1 interval)$(field bare 1 difference_lo)$(field bare 1 better)" = NANANA ]
    run -0 --separate-stderr dlm-fitlaw plan -l bare.tsv -C 1e18 --tokens-available 1e7 --batch 64 --lr 0.3
    [[ $stderr == *"no law has an interval there; how sure that is is not determined"*" (open to open)"* ]]
    U=$(field d1e7.tsv 1 crossover)
    dlm-fitlaw databound -q -l law.tsv -C 1e18 --tokens-available $U > at.tsv
    awk -v d="$(field at.tsv 1 difference)" 'BEGIN { exit !(d * d < 1e-8) }'
    [ "$(field at.tsv 1 better)" = NA ]
    run -0 --separate-stderr dlm-fitlaw plan -l law.tsv -C 1e18 --tokens-available 1e7 --batch 64 --lr 0.3
    [[ $stderr == *"determined by these laws"* && $stderr == *"they cross at "* ]]
    run -0 --separate-stderr dlm-fitlaw plan -l law.tsv -C 1e18 --tokens-available $U --batch 64 --lr 0.3
    [[ $stderr == *"that interval holds 0, so it is not determined"* ]]
}

@test "plan: what cannot be planned" {
    run --separate-stderr dlm-fitlaw plan -l paper; fails_with 2 'plan needs --flops'
    run --separate-stderr dlm-fitlaw plan -C 1e20; fails_with 2 'plan needs --law'
    run --separate-stderr dlm-fitlaw plan -l paper -C 1e20,; fails_with 2 'positive numbers'
    run --separate-stderr dlm-fitlaw plan -l paper -C 1e20 --format yaml; fails_with 2 '--format is one of'
    run --separate-stderr dlm-fitlaw plan -l paper -C 1e20 --mfu 1.5; fails_with 2 '--mfu must be'
    run --separate-stderr dlm-fitlaw plan -l paper -C 1e20 --devices 0; fails_with 2 '--devices must be'
    run --separate-stderr dlm-fitlaw plan -l paper -C 1e20 --tokens-available 0; fails_with 2 '--tokens-available must be'
    run --separate-stderr dlm-fitlaw plan -l paper -C 1e20 --batch 12; fails_with 2 '--batch 12 does not divide by 8 devices'
    run --separate-stderr dlm-fitlaw plan -l paper -C 1e20 x.tsv; fails_with 2 "plan reads the laws of --law, not 'x.tsv'"
    run --separate-stderr dlm-fitlaw predict -l paper -C 1e20 --devices 8; fails_with 2 "--devices does not belong to 'predict'"
    run --separate-stderr dlm-fitlaw databound -l paper -C 1e20; fails_with 2 'databound needs --tokens-available'
    run --separate-stderr dlm-fitlaw plan -l paper -C 1e20 --format deepspeed; fails_with 2 'deepspeed prints one plan, not 5'
    run --separate-stderr dlm-fitlaw plan -l paper -C 1e20 --noise blue; fails_with 1 "no law of the noise type or group 'blue'"
    run --separate-stderr dlm-fitlaw plan -l paper -C 1e12; fails_with 1 'masked: 1e\+12 FLOPs ask for a network of 1.1e\+05 FLOPs per token, and the smallest that can be built has 1.87e\+06'
    run --separate-stderr dlm-fitlaw plan -l paper -C 1e40 --noise masked; fails_with 1 'and the largest that can be built has'
    run --separate-stderr dlm-fitlaw plan -l paper -C 1e17 --batch 1Mi --noise masked; fails_with 1 'a batch of 2.15e\+09 tokens is larger than the'
    run --separate-stderr dlm-fitlaw plan -l nothing.tsv -C 1e20; fails_with 1 "cannot open 'nothing.tsv'"
    run --separate-stderr dlm-fitlaw plan -l papr -C 1e20; fails_with 1 "no file 'papr', and no published law of that name"
    # what a law strains to is told once, of the budget and not of whole numbers near it
    dlm-fitlaw plan -l paper -C 1e22 --noise balanced 2>&1 > /dev/null | grep -c 'batch_tok .* beyond the data' | grep -qx 1
    run --separate-stderr dlm-fitlaw plan -q -l paper -C 1e20 -o /dev/full; fails_with 1 "cannot write '/dev/full'"
    printf 'law\tgroup\tterm\tvalue\nloss\tmasked\tA\t30\nloss\tmasked\tbeta\t0.05\nloss\tmasked\tB\t1\n' > loss.tsv
    run --separate-stderr dlm-fitlaw plan -l loss.tsv -C 1e20; fails_with 1 'no law gives a size for a budget'
    printf 'law\tgroup\tterm\tvalue\ty\tx\tby\npower\ta;b\tA\t20\tflops_tok\tflops\tnoise\npower\ta;b\tk\t0.4\tflops_tok\tflops\tnoise\n' > odd.tsv
    run --separate-stderr dlm-fitlaw plan -q -l odd.tsv -C 1e20 --format dlm; fails_with 1 "the noise type 'a;b' cannot stand on a command line"
    run -0 --separate-stderr dlm-fitlaw plan -l odd.tsv -C 1e20
    [[ $stderr == *"a;b: no law gives a batch; give one with --batch"* && $stderr == *"no law gives a learning rate; give one with --lr"* ]]
    run -0 --separate-stderr dlm-fitlaw plan -l paper -C 1e16 --noise masked --devices 512
    [[ $stderr == *"the best batch at 1e+16 FLOPs is 29.6 sequences, fewer than 512 devices"* && $stderr == *"few for laws of long runs"* ]]
}
