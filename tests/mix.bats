# dlm-shard --mix: shares of tokens as asked for, nothing twice, the same whatever memory and threads.
load setup

setup_file() {
    cd "$BATS_FILE_TMPDIR"
    corpus 300000 1 >a.txt
    corpus 200000 2 | tr a-z A-Z >b.txt # what is in capitals is from b
    corpus 100000 3 | tr a-zA-Z 0-90-90-90-90-90-9 >c.txt
    cat a.txt b.txt c.txt | dlm-tokenize --train -V 600 -o v.json
    for s in a b c; do dlm-tokenize -q -t v.json --split blank -o $s.tok.zst $s.txt; done
}

setup() {
    cd "$BATS_FILE_TMPDIR"
    T=$BATS_TEST_TMPDIR/t
    mkdir "$T"
}

@test "shares of tokens equal the weights, to within half a document a source" {
    for weights in "0.7 0.3" "7 3" "1 1" "0.05 0.95"; do
        set -- $weights
        rm -rf "$T/set"
        run -0 --separate-stderr dlm-shard -o "$T/set" -n 64 --val 0.1 --mix a.tok.zst=$1 --mix b.tok.zst=$2
        [ -z "$output" ]
        [[ $stderr == *"train: "*" % from 'a.tok.zst', "*"val: "*" % from 'b.tok.zst', "* ]]
        dlm-shard --verify "$T/set"
        # Columns by name; the largest document has fewer than 400 tokens.
        awk -F '\t' -v a=$1 -v b=$2 '
            NR == 1 { for (i = 1; i <= NF; i++) c[$i] = i; next }
            { n++; want[NR] = ($c["source"] == "a.tok.zst" ? a : b) / (a + b); split_[NR] = $c["split"]; t[NR] = $c["tokens"]; all[$c["split"]] += t[NR]
              full[$c["split"]] += $c["tokens"] == $c["of_tokens"] && $c["documents"] == $c["of_documents"]; s[NR] = $c["share"]; w[NR] = $c["weight"] }
            END { if (n != 4) exit 1
                  for (i in want) { d = t[i] - want[i] * all[split_[i]]; if (d < 0) d = -d; e = s[i] - t[i] / all[split_[i]]; f = w[i] - want[i]
                      if (d > 400 || e * e > 1e-12 || f * f > 1e-12) { print i, d, e, f; exit 1 } }
                  if (full["train"] != 1 || full["val"] != 1) exit 1 }' "$T/set/mix.tsv" || { cat "$T/set/mix.tsv"; return 1; }
    done
}

@test "what mix.tsv says is what the set holds, spread evenly over the order" {
    dlm-shard -q -o "$T/set" -n 64 --val 0 --mix a.tok.zst=0.6 b.tok.zst=0.4
    dlm-shard --cat "$T/set" | dlm-tokenize -d --split nul >"$T/text"
    # Documents in capitals are those of b.
    said=$(awk -F '\t' '$2 == "b.tok.zst" { print $5 }' "$T/set/mix.tsv") found=$(tr '\0\n' '\n ' <"$T/text" | grep -c '^[A-Z. ?!]*$')
    [ $((said - found)) -le 1 ] && [ $((found - said)) -le 1 ]
    # Each quarter of the order has its share of b: 5 standard deviations of a random order.
    tr '\0\n' '\n ' <"$T/text" | awk '{ b[NR] = /^[A-Z. ?!]*$/; n++; m += b[NR] }
        END { q = int(n / 4); for (k = 0; k < 4; k++) { s = 0; for (i = 1; i <= q; i++) s += b[k * q + i]
              p = m / n; z = (s - q * p) / sqrt(q * p * (1 - p) * .75); if (z > 5 || z < -5) { print k, z; exit 1 } } }'
    # And nothing came twice: as often as in the sources at most.
    for s in a b; do dlm-tokenize -d --split nul $s.tok.zst; done | sort -z | uniq -zc | sort -z >"$T/had"
    [ "$(head -c -1 "$T/text" | sort -z | uniq -zc | tr '\0\n' '\n ' | awk '$1 > 1' | wc -l)" -le "$(tr '\0\n' '\n ' <"$T/had" | awk '$1 > 1' | wc -l)" ]
}

@test "the same for any memory and threads, from pipes too; the seed chooses others" {
    # Streams larger than the least memory, which the command tells.
    for f in a b c; do for ((i = 0; i < 8; i++)); do cat $f.tok.zst; done >"$T/$f"; done
    sources=(--mix "$T/a=0.5" --mix "$T/b=0.3" "$T/c=.2")
    least=$(dlm-shard -m 1Mi -o "$T/0" "${sources[@]}" 2>&1 | sed -n 's/.*: the least .* is //p')
    i=0
    for way in "-m 1Gi -j1" "-m $least -j2" "-m 1Gi -j5"; do
        dlm-shard -v $way -o "$T/$((++i))" -n 64 --val 0.1 "${sources[@]}" 2>"$T/said$i"
        diff -r "$T/1" "$T/$i"
    done
    grep -E ', [1-9][0-9]* sorted runs' "$T/said2"
    rm -rf "$T/1"
    dlm-shard -q -o "$T/1" -n 64 --val 0.1 --mix a.tok.zst=0.5 --mix b.tok.zst=0.3 c.tok.zst=.2
    dlm-shard -q -o "$T/pipe" -n 64 --val 0.1 --mix a.tok.zst=5 --mix b.tok.zst=3 -- -=2 <c.tok.zst
    diff -r -x mix.tsv "$T/1" "$T/pipe"
    dlm-shard -q -s 1 -o "$T/other" -n 64 --val 0.1 --mix a.tok.zst=0.5 --mix b.tok.zst=0.3 c.tok.zst=.2
    ! cmp -s "$T/1/manifest.tsv" "$T/other/manifest.tsv"
    [ "$(cut -f 1-3 "$T/1/mix.tsv")" = "$(cut -f 1-3 "$T/other/mix.tsv")" ]
    # One source is the plain set.
    dlm-shard -q -o "$T/one" -n 64 --val 0.1 --mix a.tok.zst=1
    dlm-shard -q -o "$T/plain" -n 64 --val 0.1 a.tok.zst
    diff -r -x mix.tsv "$T/one" "$T/plain"
}

@test "misuse and sources that cannot give their share" {
    while IFS='|' read -r args want; do
        run --separate-stderr dlm-shard -o "$T/set" $args
        fails_with 2 "^dlm-shard: .*$want" || { echo "$args"; return 1; }
    done <<-'END'
	--mix a.tok.zst|--mix takes FILE=WEIGHT
	--mix a.tok.zst=0 --mix b.tok.zst=1|--mix takes FILE=WEIGHT
	--mix a.tok.zst=-1|--mix takes FILE=WEIGHT
	--mix a.tok.zst=much|--mix takes FILE=WEIGHT
	--mix =1|--mix takes FILE=WEIGHT
	--mix a.tok.zst=1 b.tok.zst|--mix takes FILE=WEIGHT
	--mix a.tok.zst=1 --mix a.tok.zst=2|is there twice
	--mix a.tok.zst=1 --dedup|--dedup does not go with --mix
	END
    run --separate-stderr dlm-shard --list --mix a.tok.zst=1 x
    fails_with 2 "takes no options of making a set"
    printf 'one\n\n' >"$T/few"
    dlm-tokenize -q -t v.json --split blank -o "$T/few.tok.zst" "$T/few"
    run --separate-stderr dlm-shard -o "$T/set" -n 64 --val 0.1 --mix a.tok.zst=1 --mix "$T/few.tok.zst=1"
    fails_with 1 "'$T/few.tok.zst' has no document for the (val|train) split"
    run --separate-stderr dlm-shard -o "$T/set" -n 64 --val 0 --mix a.tok.zst=1 --mix "$T/few.tok.zst=1"
    fails_with 1 "the train split fills no sequence"
    [ ! -e "$T/set" ] && [ -z "$(compgen -G "$T/set.tmp-*")" ]
}
