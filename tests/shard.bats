# dlm-shard: sets that are whole or absent, the same from the same input, and checked.
load setup

setup_file() {
    cd "$BATS_FILE_TMPDIR"
    corpus 400000 >a.txt
    dlm-tokenize --train -V 600 -o v.json a.txt
    dlm-tokenize -t v.json --split blank -o a.tok.zst a.txt
    dlm-tokenize -t v.json -o one.tok.zst a.txt
    dlm-shard -q -o set -n 64 --val 0.1 --shard-tokens 10K a.tok.zst
    for ((i = 0; i < 12; i++)); do cat a.tok.zst; done >big.tok.zst # more than the least memory holds
    dlm-shard -q -o bigset -n 64 --val 0.1 --shard-tokens 100K big.tok.zst
}

# The least memory that the command says is enough for these streams.
least() {
    dlm-shard -m 1Mi -n 64 -o "$BATS_TEST_TMPDIR/none" "$@" 2>&1 | sed -n 's/.*: --memory of 1048576 bytes is too little: the least .* is \([0-9]*Ki\)$/\1/p'
}

# Is this build one whose memory a sanitizer shadows?
sanitized() {
    dlm-shard --version | grep -q sanitized
}

setup() {
    cd "$BATS_FILE_TMPDIR"
    T=$BATS_TEST_TMPDIR/t # bats keeps files of its own in $BATS_TEST_TMPDIR
    mkdir "$T"
}

# A copy to damage.
copy() {
    rm -rf "$T/set"
    cp -r set "$T/set"
}

@test "list: the columns, whole sequences, and the checksums of xxhsum" {
    run -0 --separate-stderr dlm-shard --list set
    [ -z "$stderr" ]
    [ "${lines[0]}" = "$(printf 'split\tfile\tsequences\ttokens\tbytes\tchecksum')" ]
    [ "${lines[1]%%[0-9]*}" = "$(printf 'train\ttrain-')" ]
    [[ ${lines[-1]} == val* ]]
    dlm-shard --list set | cmp - set/manifest.tsv
    dlm-shard --list set -o "$T/list" && cmp "$T/list" set/manifest.tsv
    awk -F '\t' 'NF != 6 || (NR > 1 && $4 != 64 * $3) { exit 1 } END { if (NR < 5) exit 1 }' set/manifest.tsv
    ls set | grep tok.zst | cmp - <(awk -F '\t' 'NR > 1 { print $2 }' set/manifest.tsv)
    if command -v xxhsum >/dev/null; then
        awk -F '\t' 'NR > 1 { print $6 "  set/" $2 }' set/manifest.tsv | cmp - <(xxhsum -q -H1 set/*.tok.zst)
    fi
    cmp set/tokenizer.json v.json
    cut -f 3 set/manifest.tsv | awk 'NR > 1 && $1 > 156 { exit 1 }' # --shard-tokens 10K
}

@test "a set holds the documents, whole and in another order, and none on both sides" {
    dlm-shard --cat set --split train | dlm-tokenize -t v.json -d --split nul >"$T/train"
    dlm-shard --cat set --split val | dlm-tokenize -t v.json -d --split nul >"$T/val"
    dlm-tokenize -d --split nul a.tok.zst >"$T/all"
    # At the ends of splits a document is cut: all others must be those of the input.
    for s in train val; do
        sort -z -u "$T/$s" >"$T/$s.sorted"
        [ "$(comm -z -23 "$T/$s.sorted" <(sort -z -u "$T/all") | tr -cd '\0' | wc -c)" -le 1 ]
    done
    [ "$(comm -z -12 "$T/train.sorted" "$T/val.sorted" | tr -cd '\0' | wc -c)" -eq 0 ]
    ! cmp -s <(head -c 2000 "$T/train") <(head -c 2000 "$T/all")
    want=$(tr -cd '\0' <"$T/all" | wc -c) got=$(cat "$T/train" "$T/val" | tr -cd '\0' | wc -c)
    [ $((want - got)) -ge 0 ] && [ $((want - got)) -lt 20 ]
    # Bytes: those of the text; what was left over is less than two sequences.
    bytes=$(awk -F '\t' '{ n += $5 } END { print n }' set/manifest.tsv)
    [ "$bytes" -le "$(stat -c %s a.txt)" ] && [ "$bytes" -gt $(($(stat -c %s a.txt) - 2000)) ]
}

@test "cat: a stream with its vocabulary, of all or of one split" {
    dlm-shard --cat set >"$T/all"
    dlm-shard --cat set --split train -o "$T/train"
    dlm-shard --cat set --split val -j 2 >"$T/val"
    cmp <(zstd -dc "$T/all") <(zstd -dc "$T/train" "$T/val")
    n=$(awk -F '\t' '{ n += $4 } END { print 2 * n }' set/manifest.tsv)
    [ "$(zstd -dc "$T/all" | wc -c)" -eq "$n" ]
    cmp <(zstd -dc "$T/val") <(zstd -dc set/val-*.tok.zst)
    run -0 dlm-tokenize --stats "$T/all"
    [[ ${lines[1]} == *"	$((n / 2))	$(awk -F '\t' '{ n += $5 } END { print n }' set/manifest.tsv)	"* ]]
    # And it can be sharded again.
    dlm-shard --cat set | dlm-shard -q -n 32 -o "$T/again" --val 0.1
    dlm-shard --verify "$T/again"
}

@test "same seed, same bytes, whatever memory and threads; another seed, another order" {
    i=0 least=$(least big.tok.zst)
    for way in "-m 1Gi -j1" "-m $least -j2" "-m $least -j1" "-j 7" "-s 0"; do
        dlm-shard -q $way -o "$T/$((++i))" -n 64 --val 0.1 --shard-tokens 100K big.tok.zst
        diff -r bigset "$T/$i"
    done
    dlm-shard -v -m $least -o "$T/v" -n 64 --val 0.1 big.tok.zst 2>&1 | grep -E ', [1-9][0-9]* sorted runs'
    dlm-shard -q -s 1 -o "$T/other" -n 64 --val 0.1 --shard-tokens 10K a.tok.zst
    ! cmp -s set/manifest.tsv "$T/other/manifest.tsv"
    # The held-out documents are the same.
    docs() { dlm-shard --cat "$1" --split val | dlm-tokenize -t v.json -d --split nul | sort -z; }
    [ "$(comm -z -3 <(docs set) <(docs "$T/other") | tr -cd '\0' | wc -c)" -lt 12 ]
}

@test "memory: the whole process keeps within -m, and less than the least is refused by name" {
    least=$(least big.tok.zst)
    [ "${least%Ki}" -gt 1024 ]
    run --separate-stderr dlm-shard -m $((${least%Ki} / 3))Ki -n 64 -o "$T/set" big.tok.zst
    fails_with 2 "^dlm-shard: --memory of [0-9]+ bytes is too little: the least for this vocabulary, sequence length and level is [0-9]+Ki$"
    [ -z "$(ls "$T")" ]
    ! sanitized || skip "a sanitizer takes memory of its own"
    for ((i = 0; i < 8; i++)); do cat big.tok.zst; done >"$T/huge" # 30 MB of ids
    for m in "$least" 12Mi 20Mi; do
        for way in -j1 -j2 "-j5 --level 7 --dedup" "-n 20000 --val 0.2"; do
            rm -rf "$T/set"
            dlm-shard -v -m $m -n 64 --val 0 -o "$T/set" $way "$T/huge" 2>"$T/said" || { cat "$T/said"; [[ $way != -j? ]] && grep -q "too little" "$T/said" && continue; }
            bytes=$(numfmt --from=auto "$m") peak=$(sed -n 's/.*at most \([0-9]*\) KiB of memory/\1/p' "$T/said")
            echo "$m $way: $peak KiB"
            [ "$peak" -gt 0 ] && [ $((peak * 10240)) -le $((bytes * 11)) ]
            [[ $way == *dedup* ]] || grep -E ', [1-9][0-9]* sorted runs' "$T/said"
        done
    done
}

@test "one document larger than the memory" {
    for ((i = 0; i < 12; i++)); do cat a.txt; done | dlm-tokenize -t v.json -o "$T/one.tok.zst"
    dlm-shard -q -o "$T/1Gi" -n 64 --val 0 "$T/one.tok.zst"
    dlm-shard -v -m "$(least "$T/one.tok.zst")" -o "$T/least" -n 64 --val 0 "$T/one.tok.zst" 2>&1 | grep "1 documents read, 1 sorted runs"
    diff -r "$T/least" "$T/1Gi"
    n=$(zstd -dc "$T/one.tok.zst" | wc -c)
    cmp <(dlm-shard --cat "$T/1Gi" | zstd -dc) <(zstd -dc "$T/one.tok.zst" | head -c $((n / 128 * 128)))
}

@test "what is left over, empty, repeated or unended is told; not with -q" {
    printf 'one\n\ntwo\n\n\n\nthree words here\n\none\n' >"$T/lines"
    dlm-tokenize -q -t v.json --split line -o "$T/l.tok.zst" "$T/lines"
    tokens=$(($(zstd -dc "$T/l.tok.zst" | wc -c) / 2 - 5))
    run -0 --separate-stderr dlm-shard -n $((tokens - 1)) --val 0 -o "$T/s1" "$T/l.tok.zst"
    [[ -z $output && $stderr == *"dropped 5 empty documents"* && $stderr == *"left over, as they fill no sequence: 1 train tokens"* ]]
    [[ $stderr != *duplicate* ]]
    run -0 --separate-stderr dlm-shard -n 4 --val 0 --dedup -o "$T/s2" "$T/l.tok.zst"
    [[ $stderr == *"dropped 1 duplicate document"* ]]
    run -0 --separate-stderr dlm-shard -q -n 4 --val 0 --dedup -o "$T/s3" "$T/l.tok.zst"
    [ -z "$output$stderr" ]
    diff -r "$T/s2" "$T/s3"
    dlm-shard --cat set --split train >"$T/cut" # ends inside a document
    if [ "$(zstd -dc "$T/cut" | tail -c 2 | od -An -tu2 | tr -d ' ')" != 1 ]; then
        run -0 --separate-stderr dlm-shard -n 64 --val 0 -o "$T/s4" "$T/cut"
        [[ $stderr == *"added the end id that the last document of 1 stream lacked"* ]]
    fi
}

@test "a split that fills no sequence" {
    run --separate-stderr dlm-shard -n 64 -o "$T/s" one.tok.zst
    fails_with 1 "^dlm-shard: the (val|train) split fills no sequence of 64 tokens: .*--val.*--split of dlm-tokenize"
    run --separate-stderr dlm-shard -n 1M -o "$T/s" a.tok.zst
    fails_with 1 "the train split fills no sequence"
    [ -z "$(ls "$T")" ]
}

@test "misuse names the option" {
    while IFS='|' read -r args want; do
        run --separate-stderr dlm-shard $args
        fails_with 2 "^dlm-shard: .*$want" || { echo "$args"; return 1; }
    done <<-'END'
	a.tok.zst|--output
	-o - a.tok.zst|--output
	-o x -n 0 a.tok.zst|--seq-len
	-o x -n 2.5 a.tok.zst|--seq-len
	-o x --val 1.5 a.tok.zst|--val
	-o x --val -0.1 a.tok.zst|--val
	-o x -m 1 a.tok.zst|--memory
	-o x --level 0 a.tok.zst|--level
	-o x --shard-tokens 0 a.tok.zst|--shard-tokens
	-o x --split val a.tok.zst|--split
	--list --cat set|--list, --verify, --cat and --import
	--list|--list takes one DIR
	--cat set set|--cat takes one DIR
	--verify -n 64 set|--verify takes no options
	--list --dedup set|--list takes no options
	--list --split val set|--split
	--cat set --split test|--split
	END
    [ ! -e x ]
}

@test "an existing DIR stays as it is" {
    copy
    run --separate-stderr dlm-shard -n 64 -o "$T/set" a.tok.zst
    fails_with 1 "'$T/set' exists already"
    run --separate-stderr dlm-shard -n 64 -o "$T/set/" a.tok.zst
    fails_with 1 "exists already"
    diff -r set "$T/set"
    : >"$T/file"
    run --separate-stderr dlm-shard -n 64 -o "$T/file" a.tok.zst
    fails_with 1 "'$T/file' exists already"
    run --separate-stderr dlm-shard -n 64 -o "$T/no/where" a.tok.zst
    fails_with 1 "cannot make '$T/no/where': No such file or directory"
    [ "$(ls "$T" | tr '\n' ' ')" = "file set " ]
}

@test "verify: a changed byte anywhere" {
    run -0 --separate-stderr dlm-shard --verify set
    [ -z "$output$stderr" ]
    for f in set/*; do
        n=$(stat -c %s "$f")
        for at in 0 $((n / 7)) $((n / 2)) $((n - 1)); do
            copy
            byte=$(od -An -tu1 -j "$at" -N 1 "$f")
            printf "\\x$(printf %x $((byte ^ 4)))" | dd of="$T/$f" bs=1 seek="$at" conv=notrunc status=none
            run --separate-stderr dlm-shard --verify "$T/set"
            fails_with 1 "'$T/set/" || { echo "$f $at"; return 1; }
        done
    done
}

@test "a manifest that disagrees with its shards" {
    edit() { # AWK PATTERN: the set is refused by everything that opens it
        copy
        awk -F '\t' -v OFS='\t' "$1" set/manifest.tsv >"$T/set/manifest.tsv"
        for what in --list --verify --cat; do
            run --separate-stderr dlm-shard $what "$T/set"
            fails_with 1 "$2"
        done
    }
    edit 'NR == 3 { $3++ } 1' "'$T/set/train-00001.tok.zst' contradicts the manifest: sequences is"
    edit 'NR == 2 { $4 -= 64 } 1' "'$T/set/train-00000.tok.zst' contradicts the manifest: tokens is"
    edit 'NR == 2 { $5 += 5 } 1' "'$T/set/train-00000.tok.zst' contradicts the manifest: bytes is"
    edit 'NR != 3' "manifest.tsv' line 3: the file is 'train-00001.tok.zst' here, not 'train-00002.tok.zst'"
    edit '{ print last; last = $0 } ' "manifest.tsv' line 1"
    edit 'NR > 1 { print last } { last = $0 }' "'$T/set/val-[0-9]*.tok.zst' is a shard that the manifest does not name"
    edit '{ $7 = "x" } 1' "manifest.tsv' line 1"
    edit 'NR == 2 { $7 = "x" } 1' "manifest.tsv' line 2: more than 6 columns"
    edit 'NR == 2 { NF = 5 } 1' "manifest.tsv' line 2: fewer than 6 columns"
    edit 'NR == 2 { $3 = "many" } 1' "manifest.tsv' line 2: sequences is not a number: 'many'"
    edit 'NR == 2 { $2 = "../a.tok.zst" } 1' "manifest.tsv' line 2: the file is"
    edit 'NR == 1' "manifest.tsv' names no train shard"
    edit '0' "manifest.tsv' line 1"
    copy # a checksum alone takes reading everything
    awk -F '\t' -v OFS='\t' 'NR == 2 { $6 = "0123456789abcdef" } 1' set/manifest.tsv >"$T/set/manifest.tsv"
    run --separate-stderr dlm-shard --verify "$T/set"
    fails_with 1 "'$T/set/train-00000.tok.zst' contradicts the manifest: checksum"
}

@test "missing, exchanged and foreign files" {
    for f in manifest.tsv tokenizer.json train-00001.tok.zst; do
        copy
        rm "$T/set/$f"
        run --separate-stderr dlm-shard --list "$T/set"
        fails_with 1 "cannot open '$T/set/$f': No such file or directory"
    done
    copy
    mv "$T/set/train-00000.tok.zst" "$T/x"
    mv "$T/set/train-00001.tok.zst" "$T/set/train-00000.tok.zst"
    mv "$T/x" "$T/set/train-00001.tok.zst"
    run --separate-stderr dlm-shard --list "$T/set"
    fails_with 1 "'$T/set/train-00000.tok.zst' contradicts the manifest: it is shard 'train-00001.tok.zst'"
    copy
    cp a.tok.zst "$T/set/train-00000.tok.zst"
    run --separate-stderr dlm-shard --list "$T/set"
    fails_with 1 "'$T/set/train-00000.tok.zst' is a token stream, but no shard"
    copy
    dlm-tokenize --train -V 500 -o "$T/w.json" a.txt
    cp "$T/w.json" "$T/set/tokenizer.json"
    run --separate-stderr dlm-shard --cat "$T/set"
    fails_with 1 "'$T/set/train-00000.tok.zst' has another vocabulary than '$T/set/tokenizer.json'"
    for d in "$T/nowhere" a.txt "$T"; do
        run --separate-stderr dlm-shard --list "$d"
        fails_with 1 "'$d"
    done
    dlm-shard -q -o "$T/other" -n 64 --val 0.1 -s 9 --shard-tokens 10K a.tok.zst
    copy
    cp "$T/other/train-00000.tok.zst" "$T/set"
    run --separate-stderr dlm-shard --verify "$T/set"
    fails_with 1 "'$T/set/train-00000.tok.zst' contradicts the manifest"
    run --separate-stderr dlm-shard -o "$T/new" -n 64 set/train-00000.tok.zst
    fails_with 1 "'set/train-00000.tok.zst' carries no vocabulary"
}

@test "a full disk and a closed pipe" {
    [ -w /dev/full ] || skip "no /dev/full"
    for way in --list "--cat --split train"; do
        run --separate-stderr bash -c "dlm-shard $way set >/dev/full"
        fails_with 1 "^dlm-shard: cannot write standard output: No space left on device"
        run --separate-stderr dlm-shard $way set -o /dev/full
        fails_with 1 "^dlm-shard: cannot write .*/dev/full'?: No space left on device"
    done
    run --separate-stderr bash -c "dlm-shard --cat set | head -c 100 >/dev/null; echo \${PIPESTATUS[0]}"
    [[ -z $stderr && ($output == 141 || $output == 0) ]]
    run --separate-stderr bash -c "trap '' XFSZ; ulimit -f 8; dlm-shard -n 64 -o '$T/set' a.tok.zst"
    fails_with 1 "^dlm-shard: cannot write '$T/set.*: File too large"
    run --separate-stderr bash -c "trap '' XFSZ; ulimit -f 64; dlm-shard -m $(least big.tok.zst) -n 64 -o '$T/set' big.tok.zst"
    fails_with 1 "^dlm-shard: cannot write a temporary file in '$T/set.*: File too large"
    [ -z "$(ls "$T")" ]
    if mkdir "$T/disk" && mount -t tmpfs -o size=100k none "$T/disk" 2>/dev/null; then
        run --separate-stderr dlm-shard -n 64 -o "$T/disk/set" a.tok.zst
        left=$(ls -A "$T/disk")
        umount "$T/disk"
        fails_with 1 "^dlm-shard: cannot write '$T/disk/set.*: No space left on device"
        [ -z "$left" ]
    fi
}

@test "no memory" {
    run --separate-stderr dlm-shard -m 100T -n 64 -o "$T/set" a.tok.zst
    [[ $status -eq 1 && -z $output && ${stderr_lines[-1]} == "dlm-shard: out of memory"*--memory* ]] # a sanitizer warns before
    [ -z "$(ls "$T")" ]
}

@test "stopped by a signal in the middle: nothing is left, and earlier sets stay" {
    copy
    mkfifo "$T/pipe"
    for sig in INT TERM HUP; do
        # The stream never ends by itself: its writer holds the pipe open.
        (cat a.tok.zst a.tok.zst; exec sleep 60) >"$T/pipe" &
        feeder=$!
        env --default-signal=INT,TERM,HUP dlm-shard -m "$(least a.tok.zst)" -n 64 -o "$T/new" "$T/pipe" 2>"$T/said" &
        pid=$!
        for ((i = 0; i < 200; i++)); do
            compgen -G "$T/new.tmp-*/tokenizer.json" >/dev/null && break
            sleep 0.05
        done
        compgen -G "$T/new.tmp-*/tokenizer.json" >/dev/null
        kill -s $sig $pid
        wait $pid && status=0 || status=$?
        kill $feeder 2>/dev/null || true
        wait $feeder || true
        [ "$status" -eq $((128 + $(kill -l $sig))) ]
        [ ! -s "$T/said" ]
        [ "$(ls "$T" | tr '\n' ' ')" = "pipe said set " ]
    done
    diff -r set "$T/set"
}

@test "killed at once: only a temporary name is left" {
    mkfifo "$T/pipe"
    (cat a.tok.zst; exec sleep 60) >"$T/pipe" &
    feeder=$!
    dlm-shard -m "$(least a.tok.zst)" -n 64 -o "$T/new" "$T/pipe" &
    pid=$!
    for ((i = 0; i < 200; i++)); do
        compgen -G "$T/new.tmp-*/tokenizer.json" >/dev/null && break
        sleep 0.05
    done
    kill -9 $pid
    wait $pid || true
    kill $feeder 2>/dev/null || true
    wait $feeder || true
    [ ! -e "$T/new" ]
    dlm-shard -q -n 64 --val 0.1 --shard-tokens 10K -o "$T/new" a.tok.zst # what was left does not stand in the way
    diff -r set "$T/new"
}

# As for the next tests: a process that has sorted runs on disk and waits for more. Sets pid and feeder.
begin_with_runs() {
    rm -f "$T/pipe"
    mkfifo "$T/pipe"
    (cat big.tok.zst big.tok.zst; exec sleep 60) >"$T/pipe" 3>&- &
    feeder=$!
    env --default-signal=INT,TERM,HUP dlm-shard -m "$1" -n 64 -o "$T/new" "$T/pipe" 2>"$T/said" 3>&- &
    pid=$!
    for ((i = 0; i < 400; i++)); do # the nameless file of the runs is open
        ls -l /proc/$pid/fd 2>/dev/null | grep -qE "$T/new.tmp-[^ ]*/[^ ]* \(deleted\)" && return 0
        sleep 0.05
    done
    echo "no runs were written"
    return 1
}

@test "sorted runs leave no file behind, however the process ends" {
    [ -d /proc/self/fd ] || skip "no /proc"
    least=$(least big.tok.zst)
    for sig in INT TERM HUP KILL; do
        begin_with_runs "$least"
        kill -s $sig $pid
        wait $pid && status=0 || status=$?
        kill $feeder 2>/dev/null || true # it may have had a signal for the pipe that is closed
        wait $feeder || true
        [ "$status" -eq $((128 + $(kill -l $sig))) ]
        if [ $sig = KILL ]; then # a directory that is plainly temporary, with the vocabulary alone
            [ "$(cd "$T" && find . -type f | grep -v said)" = "$(cd "$T" && echo ./new.tmp-*/tokenizer.json)" ]
        else
            [ "$(ls "$T" | tr '\n' ' ')" = "pipe said " ]
        fi
    done
}

@test "killed at any time: no set, or a whole one" {
    runs=0 wholes=0
    for ((ms = 5; ms < 400 && wholes < 2; ms += ms / 6 + 1)); do
        rm -rf "$T"/new*
        dlm-shard -q -j 2 -n 64 --val 0.1 --shard-tokens 100K -o "$T/new" big.tok.zst 2>/dev/null 3>&- &
        pid=$!
        sleep "$(printf '0.%03d' $ms)"
        kill -9 $pid 2>/dev/null || true
        wait $pid 2>/dev/null || true
        if [ -e "$T/new" ]; then
            diff -r bigset "$T/new"
            wholes=$((wholes + 1))
        fi
        runs=$((runs + 1))
    done
    echo "$runs runs, $wholes whole"
    [ $runs -gt $wholes ]
}

@test "a disk that is full at any byte: nothing is made, and a file stays what it was" {
    cp a.tok.zst "$T/old"
    bytes=$(du -bc bigset | tail -n 1 | cut -f 1) made=0 refused=0
    for ((k = 0; k < bytes / 1024 + 1024; k += k / 5 + 3)); do
        if (trap '' XFSZ; ulimit -f $k; dlm-shard -q -n 64 --val 0.1 --shard-tokens 100K -o "$T/set" big.tok.zst 2>"$T/said"); then
            diff -r bigset "$T/set" # a limit on each file, and this is more than the largest
            rm -r "$T/set"
            made=1
        else
            [[ $(cat "$T/said") == "dlm-shard: cannot write '$T/set"*": File too large" || ! -s "$T/said" ]] # no room for the message either
            refused=$((refused + 1))
            [ "$made" -eq 0 ]
        fi
        [ "$(ls "$T" | tr '\n' ' ')" = "old said " ]
        [ "$made" -eq 0 ] || break
    done
    [ "$made" -eq 1 ] && [ "$refused" -gt 3 ]
    for ((k = 0; ; k += k / 2 + 1)); do
        (trap '' XFSZ; ulimit -f $k; dlm-shard --cat set -o "$T/old" 2>"$T/said") && break
        cmp a.tok.zst "$T/old"
        [ "$(ls "$T" | tr '\n' ' ')" = "old said " ]
    done
    [ $k -gt 3 ]
    cmp "$T/old" <(dlm-shard --cat set)
}

@test "the held-out documents of one part are not the training documents of another, whatever the seed" {
    dlm-tokenize -d --split nul a.tok.zst >"$T/docs"
    # Two parts that share a third of their documents, sharded apart.
    awk -v RS='\0' -v ORS='\0' 'NR % 3 != 0' "$T/docs" | dlm-tokenize -q -t v.json --split nul -o "$T/p1"
    awk -v RS='\0' -v ORS='\0' 'NR % 3 != 1' "$T/docs" | dlm-tokenize -q -t v.json --split nul -o "$T/p2"
    dlm-shard -q -n 16 --val 0.2 -s 1 -o "$T/s1" "$T/p1"
    dlm-shard -q -n 32 --val 0.2 -s 2 --dedup -j 2 -o "$T/s2" "$T/p2"
    for s in s1 s2; do
        for split in train val; do # less the last, which may be cut
            dlm-shard --cat "$T/$s" --split $split | dlm-tokenize -d --split nul | awk -v RS='\0' -v ORS='\0' 'NR > 1 { print last } { last = $0 }' |
                sort -z -u >"$T/$s.$split"
        done
    done
    [ "$(comm -z -12 "$T/s1.val" "$T/s2.train" | tr -cd '\0' | wc -c)" -eq 0 ]
    [ "$(comm -z -12 "$T/s2.val" "$T/s1.train" | tr -cd '\0' | wc -c)" -eq 0 ]
    [ "$(comm -z -12 "$T/s1.val" "$T/s2.val" | tr -cd '\0' | wc -c)" -gt 3 ] # and those of both are held out in both
    [ "$(comm -z -12 "$T/s1.train" "$T/s2.train" | tr -cd '\0' | wc -c)" -gt 20 ]
}

@test "a token stream is refused to a terminal" {
    command -v script >/dev/null || skip "no script(1)"
    run script -qec "'$BIN/dlm-shard' --cat set" /dev/null
    [[ $status -eq 2 && $output == *"a token stream is not written to a terminal"* ]]
}

@test "through pipes, from text to a set" {
    dlm-tokenize -t v.json --split blank <a.txt | dlm-shard -q -o "$T/set" -n 64 --val 0.1 --shard-tokens 10K
    diff -r set "$T/set"
}
