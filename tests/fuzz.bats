# Every fuzz target for a second, after everything that was ever found (make check-long: a minute, with sanitizers).
load setup

setup() {
    ROOT=$BATS_TEST_DIRNAME/..
}

@test "no target falls" {
    run -0 "$ROOT/tests/fuzz/run" "$BIN" 1
    [ "${#lines[@]}" -eq "$(ls "$ROOT"/tests/fuzz/*.c | wc -l)" ]
    for line in "${lines[@]}"; do [[ $line =~ ^[a-z]+\ +[1-9][0-9]*\ inputs\ from\ [1-9] ]] || { echo "$line"; return 1; }; done
}

@test "a target that falls leaves its input" {
    mkdir -p "$BATS_TEST_TMPDIR/tests/fuzz" "$BATS_TEST_TMPDIR/build/fuzz"
    cp "$ROOT/tests/fuzz/run" "$ROOT/tests/fuzz/fuzz.h" "$BATS_TEST_TMPDIR/tests/fuzz"
    cat >"$BATS_TEST_TMPDIR/tests/fuzz/weak.c" <<-'END'
	#include "fuzz.h"
	static void one(const uint8_t *b, size_t n) { if (n > 2 && b[1] == '[') abort(); }
	static uint8_t *seeds(int i, size_t *n) { return i ? NULL : text_seed("abcdefgh", n); }
	END
    ${CC:-gcc} -D_GNU_SOURCE -I"$ROOT/libcommon" -o "$BATS_TEST_TMPDIR/build/fuzz/weak" "$BATS_TEST_TMPDIR/tests/fuzz/weak.c"
    run -1 "$BATS_TEST_TMPDIR/tests/fuzz/run" "$BATS_TEST_TMPDIR/build" 20
    found=("$BATS_TEST_TMPDIR"/tests/fuzz/found/weak-*)
    [ "$(head -c 2 "${found[0]}" | tail -c 1)" = "[" ]
    # And it is found again without a second of search.
    run -1 "$BATS_TEST_TMPDIR/tests/fuzz/run" "$BATS_TEST_TMPDIR/build" 0
    # As a case that is kept, too.
    mkdir -p "$BATS_TEST_TMPDIR/tests/fuzz/cases/weak"
    mv "${found[0]}" "$BATS_TEST_TMPDIR/tests/fuzz/cases/weak/1"
    run -1 "$BATS_TEST_TMPDIR/tests/fuzz/run" "$BATS_TEST_TMPDIR/build" 0
    rm "$BATS_TEST_TMPDIR/tests/fuzz/cases/weak/1"
    run -0 "$BATS_TEST_TMPDIR/tests/fuzz/run" "$BATS_TEST_TMPDIR/build" 0
}

@test "libFuzzer finds what falls, too, and keeps its input" {
    command -v clang >/dev/null || skip "clang is not installed"
    mkdir -p "$BATS_TEST_TMPDIR/tests/fuzz" "$BATS_TEST_TMPDIR/build/fuzz"
    cp "$ROOT/tests/fuzz/run" "$ROOT/tests/fuzz/fuzz.h" "$BATS_TEST_TMPDIR/tests/fuzz"
    cat >"$BATS_TEST_TMPDIR/tests/fuzz/weak.c" <<-'END'
	#include "fuzz.h"
	static void one(const uint8_t *b, size_t n) { if (n > 7 && b[1] == '[' && b[3] == 'x' && !memcmp(b + 4, "once", 4)) abort(); }
	static uint8_t *seeds(int i, size_t *n) { return i ? NULL : text_seed("abcdefgh", n); }
	END
    clang -fsanitize=fuzzer -D_GNU_SOURCE -DDLM_LIBFUZZER -I"$ROOT/libcommon" -o "$BATS_TEST_TMPDIR/build/fuzz/weak" "$BATS_TEST_TMPDIR/tests/fuzz/weak.c" ||
        skip "clang has no libFuzzer here"
    run -1 "$BATS_TEST_TMPDIR/tests/fuzz/run" "$BATS_TEST_TMPDIR/build" 60
    found=("$BATS_TEST_TMPDIR"/tests/fuzz/found/weak-*)
    # Byte by byte, since what stands between may be a NUL.
    [ "$(tail -c +2 "${found[0]}" | head -c 1)$(tail -c +4 "${found[0]}" | head -c 5)" = "[xonce" ]
    run -1 "$BATS_TEST_TMPDIR/tests/fuzz/run" "$BATS_TEST_TMPDIR/build" 0
}
