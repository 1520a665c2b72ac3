# The rules that keep the rooms apart, the manual true, and the commands alike.
load setup

ROOT=$BATS_TEST_DIRNAME/..

@test "every header compiles alone" {
    cd "$ROOT"
    for h in $(git ls-files 'libcommon/*.h' 'kernels/*.h' 'cmd/*.h' | grep -v _body.h); do
        printf '#include "%s"\n' "${h#libcommon/}" | ${CC:-gcc} -std=gnu11 -D_GNU_SOURCE -fopenmp -Wall -Wextra -Werror -Ilibcommon -I. -fsyntax-only -x c - ||
            { echo "$h does not compile alone"; return 1; }
    done
}

# may ROOM: the rooms that files of ROOM may include from.
may() {
    case $1 in
    base) echo base ;;
    text) echo base text ;;
    token) echo base text token ;;
    batch) echo base token text batch ;;
    diffuse) echo base diffuse ;;
    metric) echo base metric ;;
    model) echo base model kernels ;;
    law) echo base metric law ;;
    run) echo base text token batch diffuse model metric kernels run ;;
    cmd) echo base text token batch diffuse model metric law run ;;
    esac
}

@test "includes go downwards" {
    cd "$ROOT"
    bad=0
    for f in $(git ls-files 'libcommon/*.[ch]' 'cmd/*.[ch]'); do
        room=$(echo "$f" | sed -E 's,^libcommon/([a-z]+)/.*,\1,; s,^cmd/.*,cmd,')
        allowed=" $(may "$room") "
        for inc in $(sed -nE 's/^#include "([^"]+)".*/\1/p' "$f"); do
            case $inc in
            *kernels/philox.h) continue ;;
            *kernels/kernels.h) to=kernels ;;
            *kernels/*) echo "$f includes $inc"; bad=1; continue ;;
            */*) to=${inc%%/*} ;;
            *) continue ;; # a neighbour
            esac
            [[ $allowed == *" $to "* ]] || { echo "$f includes $inc"; bad=1; }
        done
    done
    for f in $(git ls-files 'kernels/*.[ch]'); do
        ! grep -HnE '#include "(\.\./)*(libcommon|base|model|run)/' "$f" || bad=1
        ! grep -HnE '\b(printf|fprintf|exit|fopen|getenv)\(' "$f" || bad=1
    done
    return $bad
}

@test "libraries neither print nor exit" {
    cd "$ROOT"
    ! git grep -nE '\b(exit|_exit|abort|perror)\(|\bfprintf\(stderr|(^|[^a-z_])(puts|printf)\(' -- 'libcommon/*.c' ':!libcommon/base/progress.c'
}

@test "externals carry the prefix" {
    cd "$BIN"
    run nm -g --defined-only libdlm.a
    echo "$output" | awk 'NF == 3 && $2 ~ /[TDBR]/ && $3 !~ /^(dlm_|__|_|\.|XXH)/ { print; bad = 1 } END { exit bad }'
}

@test "--help, --version and misuse are alike everywhere" {
    for c in tokenize shard train eval sample fitlaw; do
        run -0 --separate-stderr dlm-$c --help
        [[ ${lines[0]} == "dlm-$c: "* && -z $stderr ]]
        [[ $output == *"--output"* && $output == *"--threads"* && $output == *"--seed"* && $output == *"--progress"* ]]
        run -0 --separate-stderr dlm-$c --version
        [[ ${lines[0]} == "dlm-$c (dlm) "* && $output == *gcc* ]]
        case $c in fitlaw) ;; tokenize | shard) [[ $output == *"with zstd "* ]] ;; *) [[ $output == *"with cpu"* ]] ;; esac
        run --separate-stderr dlm-$c --no-such-option
        fails_with 2 "^dlm-$c: .*--no-such-option"
        run --separate-stderr dlm-$c --threads 2x
        fails_with 2 "^dlm-$c: --threads"
        run --separate-stderr bash -c "dlm-$c --help > /dev/full"
        fails_with 1 "^dlm-$c: cannot write standard output"
    done
}

@test "the manual names every option of --help, and no other" {
    for c in tokenize shard train eval sample fitlaw; do
        man=$ROOT/man/dlm-$c.1
        dlm-$c --help | sed -nE 's/^ +(-., )?--([a-z0-9-]+).*/\2/p' | sort -u >"$BATS_TEST_TMPDIR/help"
        mandoc -T utf8 "$man" | sed 's/.\x08//g' | grep -oE -- '--[a-z][a-z0-9-]+' | sed 's/^--//' | sort -u >"$BATS_TEST_TMPDIR/man"
        diff "$BATS_TEST_TMPDIR/help" <(comm -12 "$BATS_TEST_TMPDIR/help" "$BATS_TEST_TMPDIR/man") || { echo "dlm-$c.1 lacks options"; return 1; }
    done
}

@test "the manual is clean, and has its sections in order" {
    cd "$ROOT/man"
    for f in *.[157]; do
        run -0 mandoc -T lint -W warning "$f"
        [ -z "$output" ]
        grep '^\.Sh' "$f" | sed 's/^\.Sh //' | awk 'BEGIN { n = split("NAME|SYNOPSIS|DESCRIPTION|ENVIRONMENT|FILES|EXIT STATUS|EXAMPLES|DIAGNOSTICS|SEE ALSO|STANDARDS|BUGS", order, "|") }
            { for (i = 1; i <= n && order[i] != $0; i++); if (i > n || i <= last) { print FILENAME $0 " is out of order"; exit 1 } last = i }'
    done
}

@test "the metrics page lists the columns in their order" {
    cd "$ROOT"
    want=$(sed -n '/define DLM_METRIC_COLUMNS/,/^$/p' libcommon/metric/metric.h | grep -oE 'X\([a-z_]+, ' | sed 's/X(//; s/, //')
    for c in $want; do
        grep -qE "^\.It Va $c\b|\.Va $c\b" man/dlm-metrics.5 || { echo "no $c"; return 1; }
    done
}

@test "every example of the manual runs" {
    cd "$BATS_TEST_TMPDIR"
    corpus 200000 >corpus.txt
    for page in dlm.7 dlm-tokenize.1 dlm-shard.1 dlm-train.1 dlm-eval.1 dlm-sample.1 dlm-tokens.5 dlm-shards.5 dlm-checkpoint.5; do
        awk '/^\.Sh EXAMPLES/ { on = 1 } /^\.Sh/ && !/EXAMPLES/ { on = 0 } on && /^\.Ed/ { code = 0; print "" }
             on && code { gsub(/\\e/, "\\"); gsub(/\\-/, "-"); print } on && /^\.Bd/ { code = 1 }' "$ROOT/man/$page" >"$page.sh"
        [ -s "$page.sh" ] || { echo "no examples in $page"; return 1; }
        bash -euo pipefail "$page.sh" >"$page.out" 2>"$page.err" || { echo "$page:"; cat "$page.sh" "$page.err"; return 1; }
    done
}

@test "install puts everything under DESTDIR and PREFIX, and uninstall takes it away" {
    [ -z "${DLM_SKIP_INSTALL:-}" ] || skip "asked to"
    cd "$ROOT"
    case $(basename "$BIN") in build) ;; *) skip "only for the plain build" ;; esac
    run -0 make --no-print-directory install DESTDIR="$BATS_TEST_TMPDIR/root" PREFIX=/opt/dlm
    for c in tokenize shard train eval sample fitlaw; do
        "$BATS_TEST_TMPDIR/root/opt/dlm/bin/dlm-$c" --version >/dev/null
        [ -s "$BATS_TEST_TMPDIR/root/opt/dlm/share/man/man1/dlm-$c.1" ]
        [ -e "$BATS_TEST_TMPDIR/root/opt/dlm/share/bash-completion/completions/dlm-$c" ]
    done
    run -0 make --no-print-directory uninstall DESTDIR="$BATS_TEST_TMPDIR/root" PREFIX=/opt/dlm
    [ -z "$(find "$BATS_TEST_TMPDIR/root" -type f)" ]
}

@test "completion offers the options of --help" {
    run -0 bash -c "PATH=$PATH; source '$ROOT/cmd/completion.bash'; COMP_WORDS=(dlm-train --warm) COMP_CWORD=1; _dlm; echo \"\${COMPREPLY[*]}\""
    [ "$output" = --warmup ]
}
