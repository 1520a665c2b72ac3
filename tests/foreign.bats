# dlm-shard --import and --cat --format: Megatron's .bin and .idx and raw ids, against a reader of its own, and what is wrong with a file.
load setup

setup_file() {
    cd "$BATS_FILE_TMPDIR"
    corpus 60000 >a.txt
    dlm-tokenize --train -V 600 -o v.json a.txt
    dlm-tokenize -t v.json --split blank -o a.tok.zst a.txt
    dlm-shard -q -o set -n 64 --val 0.1 a.tok.zst
    dlm-shard --cat a.tok.zst --format megatron -o m
}

setup() {
    cd "$BATS_FILE_TMPDIR"
    T=$BATS_TEST_TMPDIR/t
    mkdir "$T"
}

# number FILE OFFSET TYPE BYTES: one number of a file, as od reads it.
number() { od -An -v -t"$3" -j "$2" -N "$4" "$1" | tr -d ' \n'; }

# poke FILE OFFSET HEX: write bytes into a file.
poke() { printf "$(sed 's/../\\x&/g' <<<"$3")" | dd of="$1" bs=1 seek="$2" conv=notrunc status=none; }

# le64 N: as 16 hexadecimal digits, little endian.
le64() { printf '%016x' "$1" | sed -E 's/(..)(..)(..)(..)(..)(..)(..)(..)/\8\7\6\5\4\3\2\1/'; }

# copy: m.bin and m.idx to damage.
copy() { cp m.bin m.idx "$T"; }

import() { run --separate-stderr dlm-shard --import "$1" -t v.json -o "$T/out" "${@:2}"; }

@test "megatron: head, lengths, offsets and bounds as od reads them" {
    ids=$(zstd -dc a.tok.zst | wc -c)
    docs=$(zstd -dc a.tok.zst | od -An -v -tu2 -w2 | grep -cx ' *1')
    cmp m.bin <(zstd -dc a.tok.zst)
    [ "$(head -c 9 m.idx | od -An -tx1 | tr -d ' ')" = 4d4d494449445800"00" ]
    [ "$(number m.idx 9 u8 8)" = 1 ] && [ "$(number m.idx 17 u1 1)" = 8 ]
    [ "$(number m.idx 18 u8 8)" = "$docs" ] && [ "$(number m.idx 26 u8 8)" = $((docs + 1)) ]
    [ "$(stat -c %s m.idx)" -eq $((34 + 20 * docs + 8)) ]
    # Each length is the distance of end ids, each offset the sum of those before.
    od -An -v -td4 -w4 -j 34 -N $((4 * docs)) m.idx | awk '{ print $1 }' >"$T/lengths"
    od -An -v -td8 -w8 -j $((34 + 4 * docs)) -N $((8 * docs)) m.idx | awk '{ print $1 }' >"$T/offsets"
    od -An -v -td8 -w8 -j $((34 + 12 * docs)) m.idx | awk '{ print $1 }' >"$T/bounds"
    zstd -dc a.tok.zst | od -An -v -tu2 -w2 | awk '{ n++ } $1 == 1 { print n; n = 0 }' | cmp - "$T/lengths"
    awk '{ print n + 0; n += 2 * $1 } END { if (n != '"$ids"') exit 1 }' "$T/lengths" | cmp - "$T/offsets"
    seq 0 "$docs" | cmp - "$T/bounds"
}

@test "megatron: python reads each document" {
    command -v python3 >/dev/null || skip "no python3"
    python3 - <<'END' >"$T/python"
import struct
idx, data = open("m.idx", "rb").read(), open("m.bin", "rb").read()
magic, version, code, n, d = struct.unpack_from("<9sQBQQ", idx)
assert magic == b"MMIDIDX\0\0" and version == 1 and code == 8
lengths = struct.unpack_from("<%di" % n, idx, 34)
offsets = struct.unpack_from("<%dq" % n, idx, 34 + 4 * n)
bounds = struct.unpack_from("<%dq" % d, idx, 34 + 12 * n)
for a, b in zip(bounds, bounds[1:]):
    ids = [x for s in range(a, b) for x in struct.unpack_from("<%dH" % lengths[s], data, offsets[s])]
    assert ids[-1] == 1
    print(*ids[:-1])
END
    zstd -dc a.tok.zst | od -An -v -tu2 -w2 | awk '$1 == 1 { print s; s = ""; next } { s = s (s == "" ? "" : " ") $1 }' | cmp - "$T/python"
}

@test "round trips: stream, set and raw ids, and the text" {
    for p in m m.idx m.bin; do
        dlm-shard --import megatron -t v.json $p >"$T/back"
        cmp <(zstd -dc "$T/back") <(zstd -dc a.tok.zst)
        cmp <(dlm-tokenize -d "$T/back") a.txt
        [ "$(dlm-tokenize --stats "$T/back" | cut -f 2-5)" = "$(dlm-tokenize --stats a.tok.zst | cut -f 2-5)" ]
    done
    dlm-shard --cat set --format megatron -o "$T/set" --split train
    cmp "$T/set.bin" <(dlm-shard --cat set --split train | zstd -dc)
    for bits in 16 32; do
        dlm-shard --cat a.tok.zst --format raw$bits >"$T/raw"
        dlm-shard --cat a.tok.zst --format raw$bits -o "$T/raw.too" && cmp "$T/raw" "$T/raw.too"
        cmp <(od -An -v -tu$((bits / 8)) -w$((bits / 8)) "$T/raw" | tr -d ' ') <(zstd -dc a.tok.zst | od -An -v -tu2 -w2 | tr -d ' ')
        dlm-shard --import raw$bits -t v.json <"$T/raw" | zstd -dc | cmp - <(zstd -dc a.tok.zst)
        dlm-shard --import raw$bits -t v.json -o "$T/back" "$T/raw" && zstd -dc "$T/back" | cmp - <(zstd -dc a.tok.zst)
    done
    # Several streams, files and prefixes in sequence; and straight into a set.
    cmp <(dlm-shard --cat a.tok.zst a.tok.zst | zstd -dc) <(zstd -dc a.tok.zst a.tok.zst)
    cmp <(dlm-shard --import megatron -t v.json m m | zstd -dc) <(zstd -dc a.tok.zst a.tok.zst)
    dlm-shard --import megatron -t v.json m | dlm-shard -q -o "$T/again" -n 64 --val 0.1
    diff -r set "$T/again"
}

@test "megatron: other types of ids, several sequences a document, ends that are missing" {
    # Documents (5 6 | 7), (), (8 1), (9): the end id is 1.
    make_idx() { # TYPE BYTES
        { printf 'MMIDIDX\0\0'; printf "$(le64 1 | sed 's/../\\x&/g')\\x0$1"
          printf "$({ le64 4; le64 5; for n in 2 1 2 1; do printf '%02x000000' $n; done; for n in 0 2 3 5; do le64 $((n * $2)); done
                      for n in 0 2 2 3 4; do le64 $n; done; } | tr -d '\n' | sed 's/../\\x&/g')"; } >"$T/x.idx"
        for id in 5 6 7 8 1 9; do le64 $id | head -c $((2 * $2)); done | sed 's/../\\x&/g' >"$T/hex"
        printf "$(cat "$T/hex")" >"$T/x.bin"
    }
    while read -r type bytes; do
        make_idx "$type" "$bytes"
        run -0 --separate-stderr dlm-shard --import megatron -t v.json -o "$T/out" "$T/x"
        [ "$stderr" = "dlm-shard: added the end id that 3 documents lacked" ]
        [ "$(zstd -dc "$T/out" | od -An -tu2 | xargs)" = "5 6 7 1 1 8 1 9 1" ]
    done <<-'END'
	1 1
	2 1
	3 2
	4 4
	5 8
	8 2
	END
    make_idx 7 4
    import megatron "$T/x"
    fails_with 1 "'$T/x.idx' has ids of type 7 at offset 17, which are no whole numbers"
    make_idx 4 4
    poke "$T/x.bin" 8 ffffffff
    import megatron "$T/x"
    fails_with 1 "'$T/x.bin' has id -1 at offset 8, but the vocabulary has ids below 600"
    printf '\5\0\6\0' >"$T/raw"
    run -0 --separate-stderr dlm-shard -q --import raw16 -t v.json -o "$T/out" "$T/raw"
    [ -z "$stderr" ] && [ "$(zstd -dc "$T/out" | od -An -tu2 | xargs)" = "5 6 1" ]
    # And out again with 32 bits, where the vocabulary needs them.
    jq -e . v.json >/dev/null 2>&1 || skip "no jq for a large vocabulary"
    jq -c '.added_tokens += [range(600; 65600) | {id: ., content: "<\(.)>", single_word: false, lstrip: false, rstrip: false, normalized: false, special: true}]' v.json >"$T/wide.json"
    dlm-tokenize -t "$T/wide.json" --split blank -o "$T/wide.tok.zst" a.txt
    dlm-shard --cat "$T/wide.tok.zst" --format megatron -o "$T/wide"
    [ "$(number "$T/wide.idx" 17 u1 1)" = 4 ]
    cmp "$T/wide.bin" <(zstd -dc "$T/wide.tok.zst")
    run --separate-stderr dlm-shard --cat "$T/wide.tok.zst" --format raw16
    fails_with 2 "does not fit 16 bits: use raw32"
}

@test "what is wrong with a file is told, with its offset, and nothing is made" {
    docs=$(number m.idx 18 u8 8) size=$(stat -c %s m.bin)
    while IFS='|' read -r offset hex want; do
        copy
        poke "$T/m.idx" $((offset)) "$hex"
        import megatron "$T/m"
        fails_with 1 "$want" || { echo "$offset"; return 1; }
        [ ! -e "$T/out" ]
    done <<-END
	0|4e|'$T/m.idx' is not an index of Megatron: wrong magic at offset 0
	9|02|'$T/m.idx' has version 2 at offset 9, not 1
	17|06|'$T/m.idx' has ids of type 6 at offset 17
	18|ffffffffffffff7f|'$T/m.idx' is truncated: it ends at offset
	26|ffffffffffffffff|'$T/m.idx' is truncated: it ends at offset
	26|0000|'$T/m.idx' goes on at offset
	34|ffffffff|'$T/m.idx' is corrupt at offset 34: a sequence of -1 ids
	34|ffffff7f|'$T/m.bin' is truncated: it ends at offset $size, sequence 0 reaches to
	34 + 4 * docs|02|'$T/m.idx' is corrupt at offset $((34 + 4 * docs)): sequence 0 begins at 2
	34 + 12 * docs|01|'$T/m.idx' is corrupt at offset $((34 + 12 * docs)): bound 1
	34 + 12 * docs + 8|ffffffffffffffff|'$T/m.idx' is corrupt at offset $((34 + 12 * docs + 8)): bound -1
	END
    for n in 0 5 33 34 100 $(($(stat -c %s m.idx) - 1)); do
        copy
        truncate -s "$n" "$T/m.idx"
        import megatron "$T/m"
        fails_with 1 "'$T/m.idx' is truncated: it ends at offset $n"
    done
    for n in 0 1 $((size / 2)) $((size - 1)); do
        copy
        truncate -s "$n" "$T/m.bin"
        import megatron "$T/m"
        fails_with 1 "'$T/m.bin' is truncated: it ends at offset $n"
    done
    copy
    printf 'xx' >>"$T/m.bin"
    import megatron "$T/m"
    fails_with 1 "'$T/m.bin' goes on at offset $size, where its index ends"
    copy
    printf 'x' >>"$T/m.idx"
    import megatron "$T/m"
    fails_with 1 "'$T/m.idx' goes on at offset"
    copy
    poke "$T/m.bin" 100 5802
    import megatron "$T/m"
    fails_with 1 "'$T/m.bin' has id 600 at offset 100, but the vocabulary has ids below 600"
    import raw16 "$T/m.bin"
    fails_with 1 "'$T/m.bin' has id 600 at offset 100"
    printf 'x' >>m.bin.odd
    cat m.bin >>m.bin.odd
    import raw16 m.bin.odd
    fails_with 1 "'m.bin.odd' has id [0-9]+ at offset|'m.bin.odd' is truncated"
    printf '\5\0\6' >"$T/odd"
    import raw16 "$T/odd"
    fails_with 1 "'$T/odd' is truncated: it ends at offset 3, inside an id of 2 bytes"
    import megatron nowhere
    fails_with 1 "cannot open 'nowhere.idx': No such file or directory"
    import raw16 set
    fails_with 1 "cannot read 'set': Is a directory"
    [ ! -e "$T/out" ]
}

@test "every changed byte of a small index is an error or changes nothing but where documents end" {
    printf 'one two\n\nthree\n\nfour five\n' | dlm-tokenize -q -t v.json --split blank -o "$T/s.tok.zst"
    dlm-shard --cat "$T/s.tok.zst" --format megatron -o "$T/s"
    n=$(stat -c %s "$T/s.idx") refused=0
    for at in $(seq 0 $((n - 1))); do
        cp "$T/s.bin" "$T/d.bin" && cp "$T/s.idx" "$T/d.idx"
        poke "$T/d.idx" $at "$(printf %02x $(($(number "$T/s.idx" $at u1 1) ^ 2)))"
        run --separate-stderr dlm-shard -q --import megatron -t v.json -o "$T/out" "$T/d"
        [ "$status" -eq 1 ] && [[ ${#stderr_lines[@]} -eq 1 && $stderr == "dlm-shard: '$T/d."* && $stderr =~ offset ]] && refused=$((refused + 1)) && continue
        echo "byte $at: status $status $stderr"
        [ "$status" -eq 0 ] && [ $at -ge $((n - 32)) ] # a bound that is still between its neighbours
    done
    [ "$refused" -ge $((n - 4)) ]
}

@test "two files stay or come, and a full disk leaves none" {
    run --separate-stderr dlm-shard --cat a.tok.zst --format megatron -o m
    fails_with 1 "'m.bin' exists already"
    : >"$T/x.idx"
    run --separate-stderr dlm-shard --cat a.tok.zst --format megatron -o "$T/x"
    fails_with 1 "'$T/x.idx' exists already"
    [ ! -s "$T/x.idx" ] && [ ! -e "$T/x.bin" ]
    run --separate-stderr bash -c "trap '' XFSZ; ulimit -f 8; dlm-shard --cat a.tok.zst --format megatron -o '$T/y'"
    fails_with 1 "cannot write '$T/y.bin.*': File too large"
    [ "$(ls "$T")" = x.idx ]
    head -c 3000 a.tok.zst >"$T/cut"
    run --separate-stderr dlm-shard --cat "$T/cut" --format megatron -o "$T/y"
    fails_with 1 "'$T/cut' is truncated"
    [ ! -e "$T/y.bin" ] && [ ! -e "$T/y.idx" ] && [ -z "$(compgen -G "$T/y.*")" ]
    [ -w /dev/full ] || skip "no /dev/full"
    run --separate-stderr bash -c "dlm-shard --cat a.tok.zst --format raw32 >/dev/full"
    fails_with 1 "cannot write standard output: No space left on device"
}

@test "misuse names the option" {
    while IFS='|' read -r args want; do
        run --separate-stderr dlm-shard $args
        fails_with 2 "^dlm-shard: .*$want" || { echo "$args"; return 1; }
    done <<-'END'
	--import raw16 m.bin|--import needs the vocabulary
	--import raw8 -t v.json m.bin|--import
	--import megatron -t v.json|--import has no PREFIX
	--import raw16 --cat -t v.json m.bin|only one of
	--import raw16 -t v.json --val 0.1 m.bin|--import takes no options of making a set
	--cat a.tok.zst --format megatron|name their prefix with --output
	--cat a.tok.zst --format parquet|--format
	--cat a.tok.zst -t v.json|--vocab goes with --import
	--cat a.tok.zst --split val|--split needs a shard set
	--cat a.tok.zst --format raw16 --level 5|--cat takes no options
	-o x --format raw16 a.tok.zst|--format goes with --cat
	END
    run --separate-stderr dlm-shard --cat set/train-00000.tok.zst
    fails_with 1 "carries no vocabulary: it is a shard; give the directory it is in"
    dlm-tokenize --train -V 500 -o "$T/w.json" a.txt
    dlm-tokenize -t "$T/w.json" -o "$T/w.tok.zst" a.txt
    run --separate-stderr dlm-shard --cat a.tok.zst "$T/w.tok.zst" -o "$T/both"
    fails_with 1 "'$T/w.tok.zst' has another vocabulary than the streams before it"
    [ ! -e "$T/both" ]
}
