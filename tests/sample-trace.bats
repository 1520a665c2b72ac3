# dlm-sample --trace: a text on its way out of the noise, as rows, where there is no terminal.
load setup

setup_file() {
    cd "$BATS_FILE_TMPDIR"
    "$BIN"/tests/sample_files balanced diffusion balanced
    "$BIN"/tests/sample_files masked diffusion masked
    "$BIN"/tests/sample_files ar ar masked
}

setup() {
    cd "$BATS_FILE_TMPDIR"
}

sample() {
    dlm-sample -j 1 "$@"
}

@test "rows at equal distances, fewer masks in each, the last one the finished text" {
    sample -c masked -n 3 --steps 8 >plain
    run -0 --separate-stderr sample -c masked -n 3 --steps 8 --trace 4
    [ "$output" = "$(cat plain)" ]
    [ "${#stderr_lines[@]}" -eq 5 ]
    [ "${stderr_lines[0]}" = $'step\tmasks\ttext' ]
    printf '%s\n' "${stderr_lines[@]:1}" >rows
    [ "$(cut -f 1 rows | tr '\n' ' ')" = "2 4 6 8 " ]
    [ "$(cut -f 2 rows | sort -rnu | tr '\n' ' ')" = "$(cut -f 2 rows | tr '\n' ' ')" ]
    awk -F'\t' '{ if (gsub(/░/, "", $3) != $2) exit 1 } END { if ($2) exit 1 }' rows
    # JSON escapes what is no character, and control characters, which are spaces here
    sample -c masked --steps 8 --format jsonl | sed 's/.*"text":"\([^"]*\)".*/\1/; s/\\ufffd/\xef\xbf\xbd/g; s/\\u00..\|\\[nrtbf]/ /g' >want
    [ "$(tail -n 1 rows | cut -f 3 | sed 's/<|end_of_text|>.*//')" = "$(cat want)" ]
}

@test "more rows than steps are all steps, blocks and prompts included" {
    run -0 --separate-stderr sample -c balanced --steps 3 --trace 100
    [ "$(printf '%s\n' "${stderr_lines[@]:1}" | cut -f 1 | tr '\n' ' ')" = "1 2 3 " ]
    run -0 --separate-stderr sample -c balanced --steps 8 --block 6 --prompt 'the th' --trace 100 -s 3
    [ "${#stderr_lines[@]}" -ge 3 ]
    for row in "${stderr_lines[@]:1}"; do
        [[ $row =~ ^[0-9]+$'\t'[0-9]+$'\t'the\ th ]]
    done
    [[ ${stderr_lines[-1]} == *$'\t0\t'* ]]
}

@test "what ends early is told at its end" {
    run -0 --separate-stderr sample -c masked --sampler adaptive --steps 500 --trace 1
    [ "${#stderr_lines[@]}" -eq 2 ]
    [ "$(cut -f 2 <<<"${stderr_lines[1]}")" = 0 ]
    [ "$(cut -f 1 <<<"${stderr_lines[1]}")" -lt 500 ]
    run -0 --separate-stderr sample -c balanced --infill --prompt 'the <|mask|> th' --steps 4 --trace 2
    [[ ${stderr_lines[-1]} == $'4\t0\tthe '*' th' ]]
}

@test "misuse of --trace is named" {
    run --separate-stderr sample -c ar --trace 3
    fails_with 2 '--trace does not apply'
    run --separate-stderr sample -c masked --trace 0
    fails_with 2 '--trace'
}
