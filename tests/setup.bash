# Loaded by every Bats file: where the binaries are, and the few checks that all share.
bats_require_minimum_version 1.5.0

BIN=$(cd "${DLM_BIN:-$BATS_TEST_DIRNAME/../build}" && pwd)
PATH=$BIN:$PATH
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-2} LC_ALL=C

# fails_with STATUS PATTERN: the last `run --separate-stderr` ended with this status, said one line on stderr that matches, and nothing on stdout.
fails_with() {
    if [ "$status" -ne "$1" ] || [ -n "$output" ] || [ "${#stderr_lines[@]}" -ne 1 ] || ! [[ $stderr =~ $2 ]]; then
        printf 'status %s (wanted %s), stdout: %s\nstderr: %s\n' "$status" "$1" "${output:0:400}" "${stderr:0:800}"
        return 1
    fi
}

# corpus BYTES: English-like text from a fixed generator: words with a Zipf-like distribution, sentences, blank lines between documents.
corpus() {
    awk -v want="$1" -v seed="${2:-1}" 'BEGIN {
        srand(seed)
        split("th qu st br pl gr cl sh tr m n t s d l r w p b f h v k", on, " ")
        split("a e i o u ea ou ai ee y", vo, " ")
        split("n r s t l d ng st ck m rd nt  ", co, " ")
        for (i = 1; i <= 2000; i++) {
            w = ""; for (j = 0; j <= int(rand() * 2.4); j++) w = w on[1 + int(rand() * 23)] vo[1 + int(rand() * 10)] co[1 + int(rand() * 13)]
            word[i] = w
        }
        while (bytes < want) {
            line = ""; n = 5 + int(rand() * 12)
            for (k = 0; k < n; k++) { w = word[1 + int(exp(rand() * log(2000)))]; if (w == "") w = "a"; line = line (k ? " " : "") (k ? w : toupper(substr(w, 1, 1)) substr(w, 2)) }
            line = line (rand() < .8 ? "." : rand() < .5 ? "?" : "!")
            print line; bytes += length(line) + 1
            if (rand() < .2) { print ""; bytes++ }
        }
    }'
}
